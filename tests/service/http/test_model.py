"""The service answers as a simple model does: conditions, keys, lists, imports.

Hypothesis chooses requests and their order; with `--full`, for 20,000 steps on each database.
"""

import asyncio
import csv
import io
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any, ClassVar, NamedTuple

import httpx
import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import make_url

from tests import forkserver
from tests.servers import free_port, listening_event
from tests.user_model import (
    AGES,
    EMAILS,
    MALFORMED,
    NAMES,
    NOBODY,
    PREFIXES,
    Fields,
    Listing,
    Model,
    Place,
    User,
    as_ndjson,
)

STEPS = 20_000  # with --full
FEW = 400  # in the suite
STEPS_AT_ONCE = 50
EMPTYING = ("DELETE FROM users", "DELETE FROM idempotency_key")

FIELDS = {
    "full_name": st.sampled_from([*NAMES]),
    "email": st.sampled_from([*EMAILS]),
    "age": st.sampled_from(AGES),
}
NEW = st.fixed_dictionaries(
    {"full_name": FIELDS["full_name"]}, optional={"email": FIELDS["email"], "age": FIELDS["age"]}
)
CHANGES = st.sampled_from([*FIELDS]).flatmap(
    lambda name: st.fixed_dictionaries(
        {name: FIELDS[name]}, optional={other: FIELDS[other] for other in FIELDS if other != name}
    )
)
LINE = st.fixed_dictionaries(
    # of few addresses: a file shall often repeat one
    {"full_name": FIELDS["full_name"], "email": st.sampled_from([*EMAILS][:4])},
    optional={"age": FIELDS["age"]},
)
LINES = st.lists(LINE | LINE | st.just({"age": 1}), min_size=1, max_size=4)
LISTINGS = st.builds(
    Listing,
    sort=st.none() | st.sampled_from(["id", "-id", "full_name", "-full_name"]),
    name=st.none() | st.sampled_from([*PREFIXES]),
    email=st.none() | st.sampled_from([email for email in EMAILS if email]),
)
KEYS = st.none() | st.integers(0, 3)
CONDITIONS = st.sampled_from(
    ["none"] * 8
    + ["current", "current", "any", "list", "lines", "weak", "former", "other"]
    + ["bare", "empty", "mixed"]
)
JSON = ("Content-Type", "application/json")
PROBLEM = "application/problem+json"
KEPT_REFUSALS = ("email-taken", "import-refused")  # with their keys; others may be tried again
CHOICE = st.integers(0, 5)  # of a user; the next one if there are fewer


class Header(NamedTuple):
    """The lines of a condition's header, and whether the current version matches them."""

    lines: list[str]
    strongly: bool | str  # or MALFORMED
    weakly: bool | str


def header(kind: str, current: str, former: str) -> Header:
    """Return a header of this kind; `former` is an ETag of another version."""
    lines: dict[str, list[str]] = {
        "none": [],
        "current": [current],
        "any": ["*"],
        "list": [f'"a,b", ,{current}\t,W/"c"'],
        "lines": ['"other"', current],
        "weak": [f"W/{current}"],
        "former": [former],
        "other": ['"other"'],
        "bare": [current.strip('"')],
        "empty": [""],
        "mixed": ["*", current],
    }
    if kind in {"bare", "empty", "mixed"}:
        return Header(lines[kind], MALFORMED, MALFORMED)
    strongly = kind in {"current", "any", "list", "lines"}
    return Header(lines[kind], strongly, strongly or kind == "weak")


class Service(RuleBasedStateMachine):
    """The running service and its model, asked the same."""

    url: ClassVar[str]  # of the service
    empty: ClassVar[Callable[[], None]]  # removes all rows
    clients: ClassVar[list[httpx.Client]]  # one for each version of HTTP
    steps: ClassVar[Counter[str]]
    numbers: ClassVar[Iterator[int]] = count()

    def __init__(self) -> None:
        super().__init__()
        type(self).empty()
        self.model = Model()
        self.number = next(self.numbers)  # no two examples share a key
        self.tags: dict[tuple[int, User], str] = {}  # by id and version
        self.stored: dict[str, tuple[Any, Any]] = {}  # by key: the request, and its response
        self.page: tuple[Listing, int, Place, str] | None = None  # where a walk goes on
        self.turns = 0

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request, by each version of HTTP in turn."""
        self.steps[method] += 1
        self.turns += 1
        client = self.clients[self.turns % len(self.clients)]
        return client.request(method, f"{self.url}{path}", **arguments)

    def check(self, response: httpx.Response, status: int, kind: str | None = None) -> None:
        """Check the status of a response, and the kind of its problem."""
        assert response.status_code == status, response.text
        if kind is not None:
            assert response.json()["type"] == f"urn:problem:{kind}"

    def check_user(self, response: httpx.Response, status: int, user_id: int) -> None:
        """Check that a response has the user, and the ETag of this version and no other."""
        self.check(response, status)
        assert response.json() == self.model.shown(user_id)
        version = user_id, self.model.users[user_id]
        tag = self.tags.setdefault(version, response.headers["ETag"])
        assert tag == response.headers["ETag"]
        assert len({*self.tags.values()}) == len(self.tags)

    def chosen(self, choice: int) -> int:
        """Return the id of a user; where there is none, an id that nobody has."""
        ids = sorted(self.model.users)
        return ids[choice % len(ids)] if ids and choice else 10**9

    def tag_of(self, user_id: int) -> str:
        """Return the current ETag of a user, which an import may have changed unseen."""
        if user_id not in self.model.users:
            return '"none"'
        version = user_id, self.model.users[user_id]
        if version not in self.tags:
            self.check_user(self.ask("GET", f"/users/{user_id}"), 200, user_id)
        return self.tags[version]

    def conditions(self, user_id: int, kinds: tuple[str, str]) -> tuple[list[Any], str | None]:
        """Return the lines of the conditions' headers, and which of the two is not met, if any."""
        current = self.tag_of(user_id)
        others = [tag for (each, _), tag in self.tags.items() if each == user_id and tag != current]
        former = others[-1] if others else '"former"'
        names = ("If-Match", "If-None-Match")
        headers = [header(kind, current, former) for kind in kinds]
        lines = [
            (name, line) for name, each in zip(names, headers, strict=True) for line in each.lines
        ]
        if MALFORMED in {each.strongly for each in headers}:
            return lines, MALFORMED
        if kinds[0] != "none" and not headers[0].strongly:
            return lines, "If-Match"
        return lines, "If-None-Match" if kinds[1] != "none" and headers[1].weakly else None

    def refused(self, response: httpx.Response, unmet: str | None, user_id: int) -> bool:
        """Check a response whose conditions, or whose user, do not allow it; return if so."""
        if unmet == MALFORMED:
            self.check(response, 422, "invalid-input")
        elif user_id not in self.model.users:
            self.check(response, 404, "user-not-found")
        elif unmet is not None:
            self.check(response, 412, "precondition-failed")
        else:
            return False
        return True

    def ask_once(
        self, method: str, path: str, content: bytes, lines: list[Any], key: int | None
    ) -> httpx.Response | None:
        """Send a request with a key, if it is not None; return its response.

        Return None where the key has been used: the response then is that of the first request, or
        the refusal of another one.
        """
        name = f"{self.number}-{key}"
        headers = [*lines, ("Idempotency-Key", name)] if key is not None else lines
        response = self.ask(method, path, content=content, headers=headers)
        request = (method, path, content, lines)
        if key is None or response.headers.get("Content-Type") == PROBLEM:
            kind = response.json()["type"] if response.status_code >= 400 else ""
            if kind.endswith("idempotency-key-reused"):
                assert self.stored[name][0] != request
                return None
            if key is None or not kind.endswith(KEPT_REFUSALS):
                return response
        answer = answer_of(response)
        if name in self.stored:
            assert (request, answer) == self.stored[name]
            return None
        self.stored[name] = request, answer
        return response

    @precondition(lambda self: self.stored)
    @rule(choice=CHOICE, other=st.sampled_from(["nothing", "condition", "content", "path"]))
    def repeat(self, choice: int, other: str) -> None:
        """Repeat a request under its key, as it was or with something else."""
        names = sorted(self.stored)
        name = names[choice % len(names)]
        (method, path, content, lines), answer = self.stored[name]
        if other == "condition":
            lines = [*lines, ("If-None-Match", '"another"')]
        elif other == "content" and method != "DELETE":
            content += b"\n"
        elif other == "path":
            path = "/users" if path != "/users" else "/users/import"
            method = "POST"
            lines = [("Content-Type", "application/x-ndjson" if path != "/users" else JSON[1])]
            content = b'{"full_name": "Other"}'
        headers = [*lines, ("Idempotency-Key", name)]
        response = self.ask(method, path, content=content, headers=headers)
        if (method, path, content, lines) == self.stored[name][0]:
            assert answer_of(response) == answer
        else:
            self.check(response, 422, "idempotency-key-reused")

    @rule(new=NEW, key=KEYS)
    def create(self, new: Fields, key: int | None) -> None:
        content = json.dumps(new).encode()
        response = self.ask_once("POST", "/users", content, [JSON], key)
        if response is None:
            return
        user = NOBODY.with_fields(new)
        if self.model.is_taken(user):
            self.check(response, 409, "email-taken")
            return
        user_id = response.json()["id"]
        assert user_id > max(self.model.users, default=0)
        assert response.headers["Location"] == f"/users/{user_id}"
        self.model.users[user_id] = user
        self.check_user(response, 201, user_id)

    @rule(choice=CHOICE, kinds=st.tuples(CONDITIONS, CONDITIONS), head=st.booleans())
    def read(self, choice: int, kinds: tuple[str, str], *, head: bool) -> None:
        user_id = self.chosen(choice)
        lines, unmet = self.conditions(user_id, kinds)
        response = self.ask("HEAD" if head else "GET", f"/users/{user_id}", headers=lines)
        if unmet == "If-None-Match" and user_id in self.model.users:
            self.check(response, 304)
            assert response.content == b""
            assert response.headers["ETag"] == self.tag_of(user_id)
        elif head:
            without_body = {MALFORMED: 422, "If-Match": 412}.get(unmet or "", 200)
            known = user_id in self.model.users
            self.check(response, without_body if known or unmet == MALFORMED else 404)
        elif not self.refused(response, unmet, user_id):
            self.check_user(response, 200, user_id)

    @rule(choice=CHOICE, changes=CHANGES, kinds=st.tuples(CONDITIONS, CONDITIONS), key=KEYS)
    def change(self, choice: int, changes: Fields, kinds: tuple[str, str], key: int | None) -> None:
        user_id = self.chosen(choice)
        lines, unmet = self.conditions(user_id, kinds)
        content = json.dumps(changes).encode()
        response = self.ask_once("PATCH", f"/users/{user_id}", content, [JSON, *lines], key)
        if response is None or self.refused(response, unmet, user_id):
            return
        user = self.model.users[user_id].with_fields(changes)
        if self.model.is_taken(user, user_id):
            self.check(response, 409, "email-taken")
            return
        self.model.users[user_id] = user
        self.check_user(response, 200, user_id)

    @rule(choice=CHOICE, kinds=st.tuples(CONDITIONS, CONDITIONS), key=KEYS)
    def delete(self, choice: int, kinds: tuple[str, str], key: int | None) -> None:
        user_id = self.chosen(choice)
        lines, unmet = self.conditions(user_id, kinds)
        response = self.ask_once("DELETE", f"/users/{user_id}", b"", lines, key)
        if response is not None and not self.refused(response, unmet, user_id):
            self.check(response, 204)
            del self.model.users[user_id]

    @rule(lines=LINES, on_conflict=st.sampled_from(["fail", "skip", "update"]), key=KEYS)
    def import_(self, lines: list[Fields], on_conflict: str, key: int | None) -> None:
        path = f"/users/import?on_conflict={on_conflict}"
        ndjson = ("Content-Type", "application/x-ndjson")
        response = self.ask_once("POST", path, as_ndjson(lines), [ndjson], key)
        if response is None:
            return
        outcome = self.model.imported(lines, on_conflict)
        if outcome.counts is None:
            self.check(response, 422, "import-refused")
            return
        self.check(response, 200)
        report = response.json()
        assert len(report.pop("rejections")) == outcome.counts["rejected"]
        assert report == outcome.counts
        self.model.users |= outcome.changed
        highest = max(self.model.users, default=0)
        new = self.ask("GET", "/users?limit=1000&sort=-id").json()["items"]
        new = [user for user in new if user["id"] not in self.model.users]
        assert all(user["id"] > highest for user in new)
        users = {user.pop("id"): User(**user) for user in new}
        assert Counter(users.values()) == Counter(outcome.users)
        self.model.users |= users

    @rule(listing=LISTINGS, limit=st.integers(1, 4))
    def list_(self, listing: Listing, limit: int) -> None:
        parameters = listing.parameters | {"limit": limit}
        response = self.ask("GET", "/users", params=parameters)
        if listing.is_refused:
            self.check(response, 422, "invalid-input")
        else:
            self.check_page(response, listing, limit, None)

    @precondition(lambda self: self.page is not None)
    @rule()
    def next_page(self) -> None:
        """Go on with a list, whatever has been written since its last page."""
        assert self.page is not None
        listing, limit, after, url = self.page
        self.check_page(self.ask("GET", url), listing, limit, after)

    @precondition(lambda self: self.page is not None)
    @rule(other=LISTINGS)
    def page_of_another_list(self, other: Listing) -> None:
        assert self.page is not None
        listing, _, _, url = self.page
        cursor = httpx.URL(url).params["after"]
        response = self.ask("GET", "/users", params=other.parameters | {"after": cursor})
        if other.is_refused or other.identity != listing.identity:
            self.check(response, 422, "invalid-input")
        else:
            self.check(response, 200)

    def check_page(
        self, response: httpx.Response, listing: Listing, limit: int, after: Place | None
    ) -> None:
        """Check a page of a list, and remember where the next one begins."""
        self.check(response, 200)
        ids = self.model.listed(listing, after)
        expected = [self.model.shown(user_id) for user_id in ids[:limit]]
        assert response.json()["items"] == expected
        links = dict(re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers["Link"]))
        urls = {rel: url for url, rel in links.items()}
        assert "first" in urls
        assert ("next" in urls) == (response.json()["next"] is not None) == (len(ids) > limit)
        self.page = None
        if "next" in urls:
            last = ids[limit - 1]
            place = listing.place(last, self.model.users[last])
            self.page = listing, limit, place, urls["next"]

    @rule(listing=LISTINGS, form=st.sampled_from(["ndjson", "csv"]))
    def export(self, listing: Listing, form: str) -> None:
        parameters = listing.parameters | {"format": form}
        response = self.ask("GET", "/users/export", params=parameters)
        if listing.is_refused:
            self.check(response, 422, "invalid-input")
            return
        self.check(response, 200)
        expected = [self.model.shown(user_id) for user_id in self.model.listed(listing)]
        if form == "ndjson":
            assert [json.loads(line) for line in response.text.splitlines()] == expected
            return
        rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
        assert rows == [
            {name: "" if value is None else str(value) for name, value in user.items()}
            for user in expected
        ]


def answer_of(response: httpx.Response) -> tuple[Any, ...]:
    """Return what of a response is repeated under its key."""
    names = ("Content-Type", "ETag", "Location", "Cache-Control")
    return response.status_code, response.content, *map(response.headers.get, names)


def emptying(url: str) -> Callable[[], None]:
    """Return a function that removes all rows of the database."""
    if url.startswith("sqlite"):

        def empty_file() -> None:
            with closing(sqlite3.connect(str(make_url(url).database))) as database, database:
                for statement in EMPTYING:
                    database.execute(statement)

        return empty_file
    database = psycopg.connect(url, autocommit=True)

    def empty_database() -> None:
        for statement in EMPTYING:
            database.execute(statement)

    return empty_database


async def test_the_service_answers_as_a_simple_model_does(url: str, *, full: bool) -> None:
    port = free_port()
    quiet = {"ACCESS_LOG": "off", "LOG_FORMAT": "json"}
    wanted = STEPS if full else FEW
    chosen = settings(
        stateful_step_count=STEPS_AT_ONCE,
        deadline=None,
        database=None,
        derandomize=not full,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    class Asked(Service):
        steps: ClassVar[Counter[str]] = Counter()

    def run() -> None:
        with httpx.Client() as one, httpx.Client(http1=False, http2=True) as two:
            Asked.url, Asked.clients = f"http://127.0.0.1:{port}", [one, two]
            Asked.empty = staticmethod(emptying(url))
            while (left := wanted - Asked.steps.total()) > 0:  # an example may end early
                examples = settings(chosen, max_examples=left // STEPS_AT_ONCE + 1)
                run_state_machine_as_test(Asked, settings=examples)

    async with forkserver.service(DATABASE_URL=url, PORT=str(port), **quiet) as running:
        await listening_event(running)
        await asyncio.to_thread(run)
    print(f"{Asked.steps.total()} requests: {dict(Asked.steps)}")
