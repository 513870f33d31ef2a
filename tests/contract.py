"""What schemathesis can't read off the document; it loads this beside its own checks."""

import csv
import io
import json
import re
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import schemathesis
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from hypothesis import strategies as st
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.meta import TestPhase
from schemathesis.hooks import HookContext

AnyCase = Case[Any]

KEY = "Idempotency-Key"
GUESSED = re.compile(r"[A-Za-z0-9_-]{2,15}")  # cursors of ours are longer
LOCAL = st.text("Aa0!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=64)
DOMAINS = st.sampled_from(["example.org", "Mail.Example.com", "bücher.example.net", "xn--jxa.de"])
EMAILS = st.builds("{}@{}".format, LOCAL, DOMAINS)
USERS = st.fixed_dictionaries(
    {"full_name": st.text(st.characters(categories=["L", "P", "Zs"]), max_size=200)},
    optional={"email": EMAILS | st.none(), "age": st.integers(0, 150) | st.none()},
)


def ndjson(users: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(user) + "\n" for user in users).encode()


def as_csv(users: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["full_name", "email", "age"])
    writer.writeheader()
    writer.writerows(users)
    return file.getvalue().encode("utf-8", "surrogatepass")


for media_type, written in (("application/x-ndjson", ndjson), ("text/csv", as_csv)):
    files = st.lists(USERS).map(written)
    schemathesis.openapi.media_type(media_type, st.one_of(files, files, st.binary()))


def problem_of(response: Response) -> dict[str, Any] | None:
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return None
    problem: dict[str, Any] = response.json()
    return problem


@schemathesis.check
def problem_is_documented(_: CheckContext, response: Response, case: AnyCase) -> None:
    """Its own checks compare the status and the form; ours the kind of problem."""
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    problem = problem_of(response)
    if documented is None or problem is None:
        return
    examples = documented["content"]["application/problem+json"]["examples"]
    kinds = {example["value"]["type"] for example in examples.values()}
    assert problem["type"] in kinds, f"{problem['type']} is not documented for this status"


@schemathesis.check
def refusal_could_not_be_documented(_: CheckContext, response: Response, case: AnyCase) -> None:
    """What the document allows is refused with 422 only for what no schema can say."""
    problem = problem_of(response)
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if not positive or problem is None or problem["status"] != HTTPStatus.UNPROCESSABLE_ENTITY:
        return
    if problem["type"] == "urn:problem:invalid-input":
        for error in problem["errors"]:
            assert says_more_than_a_schema(error["pointer"], case), f"{error} is not documented"


def says_more_than_a_schema(pointer: str, case: AnyCase) -> bool:
    """Whether the refusal of what is there follows from words of the document."""
    if case.operation.label == "POST /users/import":
        return True  # the lines are not JSON of the document's
    if pointer in {"/after", "/sort"}:
        return True  # a cursor must be one that we gave; with `name`, names decide the order
    value = case.body.get(pointer[1:]) if isinstance(case.body, dict) else None
    if pointer == "/email" and isinstance(value, str):
        top = value.rpartition(".")[2]  # the domain must be one that mail can be sent to
        return top in SPECIAL_USE_DOMAIN_NAMES or len(top) == 1
    # JSON Schema takes 36.0 for an integer, too; here a whole number is written as one
    return pointer == "/age" and isinstance(value, float)


@schemathesis.hook
def map_query(_: HookContext, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Nobody guesses a cursor: a list whose cursor was made up would seldom get further."""
    if query and isinstance(query.get("after"), str) and GUESSED.fullmatch(query["after"]):
        del query["after"]
    return query


@schemathesis.hook
def before_call(_: HookContext, case: AnyCase, __: dict[str, Any]) -> None:
    """What is done one after the other must not depend on what was done before all that.

    An address that was taken then ends the story; for a key of then the answer tells of a user
    who may be deleted by now.
    """
    if case.meta is None or case.meta.phase.name is not TestPhase.STATEFUL:
        return
    if KEY in case.headers:
        case.headers[KEY] = str(uuid4())
    body = case.body
    if case.meta.generation.mode.is_positive and isinstance(body, dict) and body.get("email"):
        body["email"] = f"{uuid4()}@example.org"


@schemathesis.hook
def before_load_schema(_: HookContext, raw_schema: dict[str, Any]) -> None:
    """The examples of media types of our own have to be bytes."""
    request = raw_schema["paths"]["/users/import"]["post"]["requestBody"]
    for content in request["content"].values():
        content["example"] = content["example"].encode()
