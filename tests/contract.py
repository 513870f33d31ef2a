"""Hooks and checks for schemathesis: what the OpenAPI document can't express."""

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
GUESSED = re.compile(r"[A-Za-z0-9_-]{2,15}")  # our cursors are longer
SAID_IN_PROSE = {  # flaws whose rule no schema expresses
    "must contain a character that shows",
    "must have at most 64 characters before the @-sign",
    "must be * or a list of ETags, each in double quotes",
    "is for format=csv",
}
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
    """Check that the problem's type is documented; schemathesis checks status and schema."""
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    problem = problem_of(response)
    if documented is None or problem is None:
        return
    examples = documented["content"]["application/problem+json"]["examples"]
    kinds = {example["value"]["type"] for example in examples.values()}
    assert problem["type"] in kinds, f"{problem['type']} is not documented for this status"


@schemathesis.check
def refusal_could_not_be_documented(_: CheckContext, response: Response, case: AnyCase) -> None:
    """Check that a valid request is refused with 422 only for a rule that no schema expresses."""
    problem = problem_of(response)
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if not positive or problem is None or problem["status"] != HTTPStatus.UNPROCESSABLE_ENTITY:
        return
    if problem["type"] == "urn:problem:invalid-input":
        for error in problem["errors"]:
            said = (
                error["detail"] in SAID_IN_PROSE
                or says_more_than_a_schema(error["pointer"], case)
                or breaks_a_pattern(error["pointer"].removeprefix("/"), case)
            )
            assert said, f"{error} is not documented"


def breaks_a_pattern(header: str, case: AnyCase) -> bool:
    """Return whether a header breaks its documented pattern, as some that pass for valid do.

    Where schemathesis covers optional parameters, it gives a header `0`, whatever its schema is.
    """
    return any(
        parameter["in"] == "header"
        and parameter["name"] == header
        and header in case.headers
        and "pattern" in parameter["schema"]
        and re.search(parameter["schema"]["pattern"], case.headers[header]) is None
        for parameter in case.operation.definition.raw.get("parameters", [])
    )


def says_more_than_a_schema(pointer: str, case: AnyCase) -> bool:
    """Return whether the document's prose explains the refusal."""
    if case.operation.label == "POST /users/import":
        return True  # the document has no schema for the lines
    if pointer in {"/after", "/sort"}:
        return True  # the service must have made the cursor; with `name`, the order is by name
    value = case.body.get(pointer[1:]) if isinstance(case.body, dict) else None
    if pointer == "/email" and isinstance(value, str):
        top = value.rpartition(".")[2]  # the domain must be able to receive mail
        return top in SPECIAL_USE_DOMAIN_NAMES or len(top) == 1
    # JSON Schema takes 36.0 for an integer, too; here a whole number is written as one
    return pointer == "/age" and isinstance(value, float)


@schemathesis.hook
def map_query(_: HookContext, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out cursors that were made up: nearly all such requests would be refused."""
    if query and isinstance(query.get("after"), str) and GUESSED.fullmatch(query["after"]):
        del query["after"]
    return query


@schemathesis.hook
def before_call(_: HookContext, case: AnyCase, __: dict[str, Any]) -> None:
    """Make a sequence of requests independent of earlier sequences.

    An e-mail address that was taken earlier would end the sequence; an idempotency key that was
    used earlier would return the response for a user that may be deleted by now.
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
    """Turn the examples of our media types into bytes."""
    request = raw_schema["paths"]["/users/import"]["post"]["requestBody"]
    for content in request["content"].values():
        content["example"] = content["example"].encode()
