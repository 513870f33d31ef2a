"""Every bad input gets a problem document with the right status and pointer."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from tests.problems import problem

JSON = {"Content-Type": "application/json"}

# these requests are refused before the database is used, so one database is enough
refused_early = pytest.mark.only("sqlite")


def pointers(document: dict[str, Any]) -> list[str]:
    assert all(error["detail"] for error in document["errors"])
    return [error["pointer"] for error in document["errors"]]


@pytest.fixture
async def user_url(client: httpx.AsyncClient) -> str:
    body = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}
    return str((await client.post("/users", json=body)).headers["Location"])


MALFORMED = {
    "empty": b"",
    "cut off": b'{"full_name": "Ada"',
    "trailing": b'{"full_name": "Ada"} x',
    "single quotes": b"{'full_name': 'Ada'}",
    "not a number": b'{"full_name": "Ada", "age": NaN}',
    "not UTF-8": b'{"full_name": "\xff"}',
    "half a surrogate pair": b'{"full_name": "\\ud800"}',
}


@refused_early
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("body", MALFORMED)
async def test_malformed_json_is_400(
    client: httpx.AsyncClient, user_url: str, method: str, body: str
) -> None:
    url = "/users" if method == "POST" else user_url
    response = await client.request(method, url, content=MALFORMED[body], headers=JSON)
    problem(response, HTTPStatus.BAD_REQUEST, "malformed-json")


INVALID: dict[str, tuple[Any, list[str]]] = {
    "not an object": ([1], [""]),
    "null": (None, [""]),
    "name not a string": ({"full_name": 1}, ["/full_name"]),
    "name null": ({"full_name": None}, ["/full_name"]),
    "name empty": ({"full_name": ""}, ["/full_name"]),
    "name of spaces": ({"full_name": " \t\u2003"}, ["/full_name"]),
    "name too long": ({"full_name": "x" * 201}, ["/full_name"]),
    "name with NUL": ({"full_name": "a\0b"}, ["/full_name"]),
    "name with a newline inside": ({"full_name": "a\nb"}, ["/full_name"]),
    "email not a string": ({"full_name": "A", "email": 5}, ["/email"]),
    "email without a domain": ({"full_name": "A", "email": "ada@"}, ["/email"]),
    "email empty": ({"full_name": "A", "email": ""}, ["/email"]),
    "email too long": (
        {"full_name": "A", "email": "a" * 60 + "@" + "b." * 110 + "org"},
        ["/email"],
    ),
    "email with NUL": ({"full_name": "A", "email": "a\0@example.org"}, ["/email"]),
    "age 151": ({"full_name": "A", "age": 151}, ["/age"]),
    "age -1": ({"full_name": "A", "age": -1}, ["/age"]),
    "age 1.5": ({"full_name": "A", "age": 1.5}, ["/age"]),
    "age 1.0": ({"full_name": "A", "age": 1.0}, ["/age"]),
    "age as text": ({"full_name": "A", "age": "42"}, ["/age"]),
    "age true": ({"full_name": "A", "age": True}, ["/age"]),
    "age beyond 64 bits": ({"full_name": "A", "age": 10**30}, ["/age"]),
    "unknown field": ({"full_name": "A", "nickname": "B"}, ["/nickname"]),
    "unknown field to escape": ({"full_name": "A", "a/b~c": "B"}, ["/a~1b~0c"]),
    "an id": ({"full_name": "A", "id": 7}, ["/id"]),
    "name that does not show": ({"full_name": "\u200b\u3164"}, ["/full_name"]),
    "65 characters before the @": ({"full_name": "A", "email": "a" * 65 + "@a.org"}, ["/email"]),
    "all at once": (
        {"full_name": "", "email": "x", "age": 200, "x": 1},
        ["/full_name", "/email", "/age", "/x"],
    ),
}


@refused_early
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("case", INVALID)
async def test_invalid_values_are_422_with_a_pointer_to_every_error(
    client: httpx.AsyncClient, user_url: str, method: str, case: str
) -> None:
    body, expected = INVALID[case]
    url = "/users" if method == "POST" else user_url
    response = await client.request(method, url, content=json.dumps(body), headers=JSON)
    document = problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert pointers(document) == expected


async def test_a_new_user_needs_a_name(client: httpx.AsyncClient) -> None:
    response = await client.post("/users", json={})
    document = problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert pointers(document) == ["/full_name"]


async def test_an_empty_patch_is_422(client: httpx.AsyncClient, user_url: str) -> None:
    response = await client.patch(user_url, json={})
    document = problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert pointers(document) == [""]


REPEATED = {
    '{"full_name": "A", "age": 1, "age": 2}': ["/age"],
    '{"full_name": "A", "full_name": "A"}': ["/full_name"],
    '{"full_name": "A", "full\\u005fname": "B"}': ["/full_name"],
    '{"full_name": "A: B", "age": 1, "age": 1}': ["/age"],
    '{"full_name": "A", "x": {"y": 1, "y": 2}}': ["/x", "/y"],
    '{"full_name": "A", "age": 1, "age": ' + "9" * 30 + "}": ["/age", "/age"],
}


@refused_early
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("body", REPEATED, ids=lambda body: body[:40])
async def test_a_member_that_is_repeated_is_422(
    client: httpx.AsyncClient, user_url: str, method: str, body: str
) -> None:
    """A proxy before the service may have read the other one."""
    url = "/users" if method == "POST" else user_url
    response = await client.request(method, url, content=body, headers=JSON)
    document = problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert pointers(document) == REPEATED[body]


async def test_colons_in_texts_repeat_no_member(client: httpx.AsyncClient) -> None:
    body = {"full_name": 'A: "B": C', "email": None, "age": 1}
    assert (await client.post("/users", json=body)).status_code == HTTPStatus.CREATED


QUERIES = {
    "limit=0": "/limit",
    "limit=1000000": "/limit",
    "limit=-1": "/limit",
    "limit=ten": "/limit",
    "limit=": "/limit",
    "sort=age": "/sort",
    "after=": "/after",
    "after=%FF": "/after",
    "after=💥": "/after",
    "name=a%00b": "/name",
    "email=a%0Ab": "/email",
    "name=" + "x" * 300: "/name",
    "name=a&sort=id": "/sort",
    "limmit=5": "/limmit",
    "limit=5&limit=6": "/limit",
}


@refused_early
@pytest.mark.parametrize("query", QUERIES)
async def test_an_invalid_list_parameter_is_422(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/users?{query}")
    document = problem(response, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input")
    assert pointers(document) == [QUERIES[query]]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "user_id", ["0", "-1", "9223372036854775808", "9" * 400, "abc", "1_0", "+1", "٣", "1.0", "01"]
)
async def test_an_impossible_id_is_404(
    client: httpx.AsyncClient, method: str, user_id: str
) -> None:
    body = {"age": 1} if method == "PATCH" else None
    response = await client.request(method, f"/users/{user_id}", json=body)
    problem(response, HTTPStatus.NOT_FOUND, "user-not-found")


async def test_the_highest_possible_id_is_404(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/users/{2**63 - 1}")
    problem(response, HTTPStatus.NOT_FOUND, "user-not-found")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("transfer", ["whole", "in pieces"])
async def test_a_body_of_2_mib_is_413(
    client: httpx.AsyncClient, user_url: str, method: str, transfer: str
) -> None:
    body = b'{"full_name": "' + b"x" * 2 * 1024 * 1024 + b'"}'

    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    url = "/users" if method == "POST" else user_url
    content: Any = pieces() if transfer == "in pieces" else body
    response = await client.request(method, url, content=content, headers=JSON)
    problem(response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large")


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", None])
async def test_a_wrong_media_type_is_415(
    client: httpx.AsyncClient, user_url: str, media_type: str | None
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    for method, url in (("POST", "/users"), ("PATCH", user_url)):
        response = await client.request(method, url, content=b'{"age": 1}', headers=headers)
        problem(response, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type")


async def test_json_with_a_charset_is_json(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/users",
        content=b'{"full_name": "Ada"}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert response.status_code == HTTPStatus.CREATED


@pytest.mark.parametrize("method", ["PUT", "BREW", "DELETE"])
async def test_an_unknown_method_is_405_with_the_allowed_methods(
    client: httpx.AsyncClient, method: str
) -> None:
    response = await client.request(method, "/users")
    problem(response, HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed")
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "path", ["/nothing", "/users/1/friends", "/docs/nothing", "/docs/assets/x"]
)
async def test_an_unknown_url_is_404(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(path), HTTPStatus.NOT_FOUND, "not-found")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_name_that_is_slow_to_normalise_is_refused_at_once(
    client: httpx.AsyncClient, user_url: str, method: str
) -> None:
    """Normalising this name would take a minute; refusing it takes far less than the limit here."""
    url = "/users" if method == "POST" else user_url
    body = {"full_name": "a" + "\u0300\u0316" * 80_000}
    async with asyncio.timeout(5):
        response = await client.request(method, url, json=body)
    assert pointers(problem(response, 422, "invalid-input")) == ["/full_name"]


BLANKS = " " * 20_000
LONG = [  # a header that must not be searched in time quadratic in its length, and the status
    ("Content-Type", f"application/json;{BLANKS}\x01", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    ("Content-Type", f"application/json{' ;' * 10_000}x", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    ("Content-Type", f'application/json; x="{"a=" * 20_000}', HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    ("If-None-Match", f'"a"{BLANKS}x', HTTPStatus.UNPROCESSABLE_ENTITY),
    ("If-None-Match", f'"a"{" ," * 10_000}x', HTTPStatus.UNPROCESSABLE_ENTITY),
    ("Accept", f"text/x;{BLANKS}q=0,{',' * 10_000}*/*;q=0", HTTPStatus.NOT_ACCEPTABLE),
]


@refused_early
@pytest.mark.parametrize(("name", "value", "status"), LONG)
async def test_a_long_header_is_read_at_once(
    client: httpx.AsyncClient, user_url: str, name: str, value: str, status: HTTPStatus
) -> None:
    async with asyncio.timeout(5):  # it takes milliseconds; minutes, if it were quadratic
        response = await client.patch(user_url, content=b"{}", headers=JSON | {name: value})
    assert response.status_code == status


async def test_json_nested_too_deeply_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/users", content=b"[" * 200_000, headers=JSON)
    problem(response, HTTPStatus.BAD_REQUEST, "malformed-json")


async def test_of_ten_thousand_errors_the_response_has_the_first_few(
    client: httpx.AsyncClient,
) -> None:
    body = {f"field {number}": 1 for number in range(10_000)}
    response = await client.post("/users", json=body)
    assert len(pointers(problem(response, 422, "invalid-input"))) < 50
