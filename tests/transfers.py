"""Import users by HTTP, and list them."""

from typing import Any

import httpx

CSV = "text/csv"


async def import_users(
    client: httpx.AsyncClient, content: Any, on_conflict: str = "fail", **headers: str
) -> httpx.Response:
    headers = {"Content-Type": CSV, **headers}
    url = f"/users/import?on_conflict={on_conflict}"
    return await client.post(url, content=content, headers=headers)


async def users_without_ids(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return all users without their ids."""
    items = (await client.get("/users?limit=1000")).json()["items"]
    return [{name: value for name, value in item.items() if name != "id"} for item in items]
