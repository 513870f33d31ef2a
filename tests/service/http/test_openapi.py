"""/openapi.json and /docs."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.openapi import SNAPSHOT, as_text, breaking, operations, renew, served


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/openapi.json")
    assert response.status_code == HTTPStatus.OK
    return dict(response.json())


async def test_the_document_is_openapi_3_1_and_has_every_route(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    operations = {
        (method.upper(), path): operation["operationId"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert operations == {
        ("POST", "/users"): "createUser",
        ("GET", "/users"): "listUsers",
        ("GET", "/users/{user_id}"): "getUser",
        ("PATCH", "/users/{user_id}"): "changeUser",
        ("DELETE", "/users/{user_id}"): "deleteUser",
        ("POST", "/users/import"): "importUsers",
        ("GET", "/users/export"): "exportUsers",
        ("GET", "/health/live"): "live",
        ("GET", "/health/ready"): "ready",
        ("GET", "/metrics"): "metrics",
        ("GET", "/evolution"): "evolutionPage",
        ("GET", "/evolution.json"): "evolution",
    }


async def test_every_error_response_is_a_problem_document_with_an_example(
    document: dict[str, Any],
) -> None:
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                if int(status) < HTTPStatus.BAD_REQUEST:
                    continue
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for name, example in content["examples"].items():
                    assert example["value"]["status"] == int(status)
                    assert example["value"]["type"] == f"urn:problem:{name}"


async def test_the_service_accepts_the_example_bodies(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    def example(name: str) -> str:
        (value,) = document["components"]["schemas"][name]["examples"]
        return json.dumps(value)

    headers = {"Content-Type": "application/json"}
    created = await client.post("/users", content=example("NewUser"), headers=headers)
    assert created.status_code == HTTPStatus.CREATED
    headers = {"Content-Type": "application/merge-patch+json"}
    url = created.headers["Location"]
    changed = await client.patch(url, content=example("UserChanges"), headers=headers)
    assert changed.status_code == HTTPStatus.OK


async def test_a_field_that_may_be_missing_has_no_default(document: dict[str, Any]) -> None:
    """Generators of clients take a field with a default for one that is always there."""
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert "default" not in described, f"{name}.{field}"


async def test_the_page_loads_all_its_files_from_the_service(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.status_code == HTTPStatus.OK
    assert response.headers["Content-Type"].startswith("text/html")
    urls = re.findall(r"""(?:src|href)=["']([^"']+)""", response.text)
    assert len(urls) >= 4
    for url in urls:
        assert url.startswith("/docs/assets/"), url
        asset = await client.get(url)
        assert asset.status_code == HTTPStatus.OK, url
        assert asset.content


async def test_every_operation_has_a_description_and_its_scope(document: dict[str, Any]) -> None:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["description"], name
        assert all(tags[tag] for tag in operation["tags"]), name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], name
            assert "null" not in json.dumps(parameter["schema"]), name
        if not name.startswith("GET /health/"):
            ((scope,),) = [requirement["bearer"] for requirement in operation["security"]]
            assert scope in {"read", "write", "operate"}
            assert {"401", "403", "429"} <= set(operation["responses"]), name


async def test_every_response_has_a_description_and_its_headers(document: dict[str, Any]) -> None:
    required = {"401": "WWW-Authenticate", "403": "WWW-Authenticate", "429": "Retry-After"}
    for name, operation in operations(document).items():
        assert {"500", "503"} <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            assert response["description"].endswith("."), name
            assert "X-Request-ID" in response["headers"], name
            assert required.get(status, "X-Request-ID") in response["headers"], name
            assert ("RateLimit" in response["headers"]) == bool(operation["security"])


async def test_the_service_imports_the_example_files(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    body = document["paths"]["/users/import"]["post"]["requestBody"]["content"]
    for media_type, content in body.items():
        headers = {"Content-Type": media_type}
        url = "/users/import?on_conflict=skip"
        response = await client.post(url, content=content["example"], headers=headers)
        assert response.json()["rejected"] == 0


async def test_the_snapshot_is_the_current_document(document: dict[str, Any]) -> None:
    if SNAPSHOT.read_text(encoding="utf-8") != as_text(document):
        pytest.fail("docs/openapi.json is not what the service serves: run make openapi")


def test_renewing_the_snapshot_refuses_changes_that_break_clients(tmp_path: Path) -> None:
    snapshot = tmp_path / "openapi.json"
    document = served()
    document["paths"]["/groups"] = {"get": {"operationId": "listGroups", "responses": {}}}
    snapshot.write_text(as_text(document), encoding="utf-8")
    assert renew(snapshot, at_any_price=False) == ["GET /groups is gone"]
    assert snapshot.read_text(encoding="utf-8") == as_text(document)
    assert renew(snapshot, at_any_price=True) == []
    assert snapshot.read_text(encoding="utf-8") == as_text(served())


async def test_the_document_breaks_no_client_of_the_snapshot(document: dict[str, Any]) -> None:
    assert breaking(json.loads(SNAPSHOT.read_text(encoding="utf-8")), document) == []


def remove(*path: str) -> Callable[[Any], None]:
    """Return an edit of the document that removes the value at the path."""

    def edit(document: Any) -> None:
        del at(document, path[:-1])[path[-1]]

    return edit


def replace(*path: str, value: Any) -> Callable[[Any], None]:
    """Return an edit of the document that sets the value at the path."""

    def edit(document: Any) -> None:
        at(document, path[:-1])[path[-1]] = value

    return edit


def at(document: Any, path: tuple[str, ...]) -> Any:
    """Return the value at the path; the path gives an operation's parameter by its name."""
    for name in path:
        if isinstance(document, list) and isinstance(document[0], dict) and "in" in document[0]:
            document = next(parameter for parameter in document if parameter["name"] == name)
        else:
            document = document[int(name) if isinstance(document, list) else name]
    return document


CREATE = ("paths", "/users", "post")
LIST = ("paths", "/users", "get")
EXPORT = ("paths", "/users/export", "get")
NEW_USER = ("components", "schemas", "NewUser")
PAGE = ("components", "schemas", "Page")
LIVE = ("components", "schemas", "Live", "properties", "status")
PROBLEMS = ("content", "application/problem+json", "examples")

EDITS: list[tuple[Callable[[Any], None], str]] = [
    (remove("paths", "/metrics"), "GET /metrics is gone"),
    (remove(*CREATE), "POST /users is gone"),
    (
        replace(*CREATE, "operationId", value="addUser"),
        "POST /users: its operationId was createUser, and is addUser",
    ),
    (
        replace(*LIST, "security", value=[{"bearer": ["operate"]}]),
        "GET /users: its security was [{'bearer': ['read']}], and is [{'bearer': ['operate']}]",
    ),
    (remove(*CREATE, "responses", "409"), "POST /users: the answer 409 is gone"),
    (
        remove(*CREATE, "responses", "409", *PROBLEMS, "email-taken"),
        "POST /users: the problem email-taken of the answer 409 is gone",
    ),
    (
        remove(*CREATE, "responses", "201", "headers", "ETag"),
        "POST /users: the header ETag of the answer 201 is gone",
    ),
    (
        replace(*CREATE, "responses", "201", "headers", "ETag", "required", value=False),
        "POST /users: the header ETag of the answer 201 may be missing",
    ),
    (
        remove(*EXPORT, "responses", "200", "content", "text/csv"),
        "GET /users/export: the answer 200 as text/csv is gone",
    ),
    (
        remove(*PAGE, "properties", "items"),
        "GET /users: items of the answer 200 is gone",
    ),
    (
        replace(*PAGE, "required", value=["items"]),
        "GET /users: next of the answer 200 may be missing",
    ),
    (
        replace(*PAGE, "properties", "next", value={"type": "integer"}),
        "GET /users: next of the answer 200 was null or string, and is integer",
    ),
    (
        replace(*LIVE, "enum", value=["live", "dying"]),
        "GET /health/live: status of the answer 200 may now be dying",
    ),
    (
        replace(*PAGE, "properties", "items", value={"type": "array", "items": {"type": "string"}}),
        "GET /users: each item of items of the answer 200 was object, and is string",
    ),
    (
        replace(*LIST, "parameters", value=[]),
        "GET /users: the query parameter limit is gone",
    ),
    (
        replace(*LIST, "parameters", "name", "required", value=True),
        "GET /users: the query parameter name is now required",
    ),
    (
        replace(*LIST, "parameters", "limit", "schema", "maximum", value=100),
        "GET /users: the maximum of the query parameter limit was 1000, and is 100",
    ),
    (
        replace(*LIST, "parameters", "limit", "schema", "minimum", value=2),
        "GET /users: the minimum of the query parameter limit was 1, and is 2",
    ),
    (
        replace(*LIST, "parameters", "after", "schema", "pattern", value="^x"),
        "GET /users: the pattern of the query parameter after was ^[A-Za-z0-9_-]+$, and is ^x",
    ),
    (
        replace(*LIST, "parameters", "sort", "schema", "enum", value=["id", "-id", "full_name"]),
        "GET /users: the query parameter sort may no longer be -full_name",
    ),
    (
        replace(*LIST, "parameters", "name", "schema", "enum", value=["a"]),
        "GET /users: the query parameter name may no longer be anything",
    ),
    (
        remove("paths", "/users/import", "post", "requestBody", "content", "text/csv"),
        "POST /users/import: the body text/csv is gone",
    ),
    (remove(*NEW_USER, "properties", "age"), "POST /users: age of the body is gone"),
    (
        replace(*NEW_USER, "required", value=["full_name", "email"]),
        "POST /users: email of the body is now required",
    ),
    (
        replace(*NEW_USER, "properties", "age", value={"type": "integer"}),
        "POST /users: age of the body may no longer be null",
    ),
    (
        replace(*NEW_USER, "properties", "age", "anyOf", "0", "maximum", value=120),
        "POST /users: the maximum of age of the body was 150, and is 120",
    ),
]


@pytest.mark.parametrize(("edit", "sentence"), EDITS, ids=[sentence for _, sentence in EDITS])
def test_a_change_that_breaks_clients_is_reported(
    edit: Callable[[Any], None], sentence: str
) -> None:
    old = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    new = deepcopy(old)
    edit(new)
    assert sentence in breaking(old, new)


@pytest.mark.parametrize(
    "edit",
    [
        replace("paths", "/groups", value={}),
        replace("info", "title", value="Another title"),
        replace(*CREATE, "description", value="In other words."),
        replace(*CREATE, "responses", "402", value={"description": "New."}),
        replace(
            *EXPORT, "responses", "200", "content", "text/xml", value={"schema": {"type": "string"}}
        ),
        replace(*PAGE, "properties", "total", value={"type": "string"}),
        replace(*NEW_USER, "properties", "nickname", value={"type": "string"}),
        replace(*PAGE, "required", value=["items", "next", "total"]),
        replace(*LIST, "parameters", "limit", "schema", "maximum", value=2000),
        remove(*LIST, "parameters", "after", "schema", "pattern"),
        replace(
            *LIST,
            "parameters",
            "sort",
            "schema",
            "enum",
            value=["id", "-id", "full_name", "-full_name", "age"],
        ),
        replace(*NEW_USER, "properties", "age", "anyOf", "0", "maximum", value=200),
    ],
)
def test_a_change_that_breaks_no_client_is_not_reported(edit: Callable[[Any], None]) -> None:
    old = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    new = deepcopy(old)
    edit(new)
    assert new != old
    assert breaking(old, new) == []
