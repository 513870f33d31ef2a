"""Create users by HTTP."""

from http import HTTPStatus
from typing import Any

import httpx


async def create_user(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    """Create a user with these fields; return the response, which is 201."""
    response = await client.post("/users", json={"full_name": "Somebody", **fields})
    assert response.status_code == HTTPStatus.CREATED, response.text
    return response
