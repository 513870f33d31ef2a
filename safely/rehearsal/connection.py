"""Connections to the copy, and the quoting of names in the SQL that they send."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True)
class CopyAddress:
    """Where the copy is, and in which schema it has the application's tables."""

    url: str
    schema: str | None
    """None: the schema that a connection uses by itself, `public`."""

    async def connect(self, **settings: str) -> asyncpg.Connection:
        """Return a connection with these server settings; the caller closes it.

        It finds unqualified names where the migrator's connections find them.
        """
        if self.schema:
            settings["search_path"] = f'{quoted(self.schema)}, "$user", public'
        return await asyncpg.connect(self.url, server_settings=settings)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection, and close it."""
        connection = await self.connect()
        try:
            yield connection
        finally:
            await connection.close()


def quoted(*names: str) -> str:
    """Return a name as an SQL identifier; of several, the qualified name."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
