"""Create, read, change and delete a user by HTTP."""

from http import HTTPStatus

import httpx
import pytest

from tests.users import create_user

ADA = {"full_name": "Ada Lovelace", "email": "ada@example.org", "age": 36}


async def test_a_created_user_can_be_read_where_location_says(client: httpx.AsyncClient) -> None:
    response = await create_user(client, **ADA)
    assert response.json() == {"id": response.json()["id"], **ADA}
    again = await client.get(response.headers["Location"])
    assert again.json() == response.json()
    assert again.headers["ETag"] == response.headers["ETag"]


async def test_only_the_name_is_required(client: httpx.AsyncClient) -> None:
    response = await create_user(client, full_name="Plato")
    assert response.json() | {"id": 1} == {
        "id": 1,
        "full_name": "Plato",
        "email": None,
        "age": None,
    }


async def test_names_are_trimmed_and_composed(client: httpx.AsyncClient) -> None:
    response = await create_user(client, full_name="  Zoe\u0308 \n")
    assert response.json()["full_name"] == "Zoë"


async def test_an_unknown_user_is_404(client: httpx.AsyncClient) -> None:
    response = await client.get("/users/12345")
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert response.json()["type"] == "urn:problem:user-not-found"


async def test_a_taken_email_is_409_in_any_case(client: httpx.AsyncClient) -> None:
    await create_user(client, **ADA)
    response = await client.post("/users", json={**ADA, "email": "ADA@example.ORG"})
    assert response.status_code == HTTPStatus.CONFLICT
    assert response.json()["type"] == "urn:problem:email-taken"


async def test_changing_to_a_taken_email_is_409_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    await create_user(client, **ADA)
    other = await create_user(client, email="other@example.org")
    url = other.headers["Location"]
    response = await client.patch(url, json={"age": 5, "email": "Ada@example.org"})
    assert response.status_code == HTTPStatus.CONFLICT
    assert (await client.get(url)).json() == other.json()


async def test_a_patch_changes_what_it_names_and_null_removes(client: httpx.AsyncClient) -> None:
    url = (await create_user(client, **ADA)).headers["Location"]
    response = await client.patch(
        url,
        content=b'{"age": 37, "email": null}',
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert response.status_code == HTTPStatus.OK
    assert response.json() | {"id": 1} == {
        "id": 1,
        "full_name": "Ada Lovelace",
        "email": None,
        "age": 37,
    }
    assert (await client.get(url)).headers["ETag"] == response.headers["ETag"]


async def test_a_client_with_the_current_version_gets_304(client: httpx.AsyncClient) -> None:
    user = await create_user(client, **ADA)
    tag = user.headers["ETag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = await client.get(user.headers["Location"], headers={"If-None-Match": header})
        assert response.status_code == HTTPStatus.NOT_MODIFIED, header
        assert response.content == b""
        assert response.headers["ETag"] == tag
    response = await client.get(user.headers["Location"], headers={"If-None-Match": '"other"'})
    assert response.status_code == HTTPStatus.OK


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_change_of_a_stale_version_is_412(client: httpx.AsyncClient, method: str) -> None:
    user = await create_user(client, **ADA)
    url, stale = user.headers["Location"], user.headers["ETag"]
    body = {"age": 40} if method == "PATCH" else None
    current = (await client.patch(url, json={"age": 39})).headers["ETag"]

    for header in (stale, f"W/{current}"):
        response = await client.request(method, url, headers={"If-Match": header}, json=body)
        assert response.status_code == HTTPStatus.PRECONDITION_FAILED, header
        assert response.json()["type"] == "urn:problem:precondition-failed"
    assert (await client.get(url)).json()["age"] == 39

    response = await client.request(method, url, headers={"If-Match": current}, json=body)
    assert response.is_success


async def test_a_deleted_user_is_gone_and_its_id_is_not_reused(
    client: httpx.AsyncClient,
) -> None:
    first = await create_user(client, **ADA)
    url = first.headers["Location"]
    assert (await client.delete(url)).status_code == HTTPStatus.NO_CONTENT
    assert (await client.delete(url)).status_code == HTTPStatus.NOT_FOUND
    assert (await client.get(url)).status_code == HTTPStatus.NOT_FOUND
    second = await create_user(client, **ADA)
    assert second.json()["id"] > first.json()["id"]


SAME = {  # an address that is taken, and one that people take for the same
    "case": ("Ada@example.org", "aDA@EXAMPLE.org"),
    "case of another alphabet": ("ÉMILIE@example.org", "émilie@example.org"),
    "composed": ("zoë@example.org", "Zoe\u0308@example.org"),
    "sigma": ("ΟΔΥΣΣΕΥΣ@example.org", "οδυσσευς@example.org"),
    "capital sharp s": ("stra\u1e9ee@example.org", "straße@example.org"),
    "domain": ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
}
OTHERS = {
    "sharp s": ("straße@example.org", "strasse@example.org"),
    "accent": ("zoë@example.org", "zoe@example.org"),
    "ligature": ("\ufb01@example.org", "fi@example.org"),
    "dotless i": ("\u0131@example.org", "i@example.org"),
}


@pytest.mark.parametrize("case", [*SAME, *OTHERS])
async def test_addresses_are_compared_as_the_readme_says(
    client: httpx.AsyncClient, case: str
) -> None:
    taken, other = (SAME | OTHERS)[case]
    first = await client.post("/users", json={"full_name": "A", "email": taken})
    assert first.status_code == 201
    second = await client.post("/users", json={"full_name": "B", "email": other})
    assert second.status_code == (409 if case in SAME else 201)
    found = await client.get("/users", params={"email": other})
    assert [user["full_name"] for user in found.json()["items"]] == ["A" if case in SAME else "B"]
    imported = await client.post(
        "/users/import?on_conflict=skip",
        content=f"full_name,email\nC,{other}\n".encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert imported.json()["skipped"] == 1
