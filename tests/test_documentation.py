"""/openapi.json and /docs."""

import json
import re
from http import HTTPStatus
from typing import Any

import httpx
import pytest


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
        ("GET", "/health/live"): "live",
        ("GET", "/health/ready"): "ready",
    }


async def test_every_refusal_in_it_is_a_problem_document_with_an_example(
    document: dict[str, Any],
) -> None:
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                if int(status) < HTTPStatus.BAD_REQUEST:
                    continue
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for example in content["examples"].values():
                    assert example["value"]["status"] == int(status)


async def test_its_examples_of_bodies_are_accepted_as_they_stand(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    def example(name: str) -> str:
        (found,) = document["components"]["schemas"][name]["examples"]
        return json.dumps(found)

    headers = {"Content-Type": "application/json"}
    created = await client.post("/users", content=example("NewUser"), headers=headers)
    assert created.status_code == HTTPStatus.CREATED
    headers = {"Content-Type": "application/merge-patch+json"}
    url = created.headers["Location"]
    changed = await client.patch(url, content=example("UserChanges"), headers=headers)
    assert changed.status_code == HTTPStatus.OK


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs")
    assert response.status_code == HTTPStatus.OK
    assert response.headers["Content-Type"].startswith("text/html")
    needed = re.findall(r"""(?:src|href)=["']([^"']+)""", response.text)
    assert len(needed) >= 4
    for url in needed:
        assert url.startswith("/docs/assets/"), url
        asset = await client.get(url)
        assert asset.status_code == HTTPStatus.OK, url
        assert asset.content
