"""Users that a test creates by HTTP."""

from http import HTTPStatus
from typing import Any

import httpx


async def created(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    response = await client.post("/users", json={"full_name": "Somebody", **fields})
    assert response.status_code == HTTPStatus.CREATED, response.text
    return response
