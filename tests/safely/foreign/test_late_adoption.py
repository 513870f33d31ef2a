"""A project with 32 revisions and rows adopts safely, and is migrated while clients go on."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg

from tests.databases import Databases, path_of
from tests.foreign import Originals
from tests.foreign_projects import Library

ENOUGH = 5  # rows that each client writes before the next step begins
PAUSE = 0.005  # seconds between the queries of a client


class Client(ABC):
    """A reader and a writer of one revision, each with a connection of its own."""

    def __init__(self, url: str, revision: str, title: str) -> None:
        self.url = url
        self.revision = revision
        self.title = title  # the column that holds the title of a book at this revision
        self.written: dict[int, str] = {}
        self.errors: list[str] = []
        self.finished = asyncio.Event()

    @abstractmethod
    async def run(self, does: Callable[..., Awaitable[None]]) -> None:
        """Do something again and again on a connection, until the client is finished."""

    @abstractmethod
    async def write(self, connection: object) -> None:
        """Write a row, and remember its id and its value."""

    @abstractmethod
    async def read(self, connection: object) -> None:
        """Read the row that was written last; raise unless it has the value that was written."""

    async def until_finished(self, action: Callable[[], Awaitable[None]]) -> None:
        """Repeat the action; record what it raises."""
        while not self.finished.is_set():
            try:
                await action()
            except Exception as error:  # noqa: BLE001  # whatever it is, a client has seen it
                self.errors.append(f"{self.revision}: {error!r}")
            await asyncio.sleep(PAUSE)

    async def has_written(self) -> None:
        """Return once the client has written some more rows."""
        goal = len(self.written) + ENOUGH
        async with asyncio.timeout(60):
            while len(self.written) < goal:
                await asyncio.sleep(PAUSE)


class PostgresqlClient(Client):
    """Works in the published version of its revision, as an application does."""

    async def run(self, does: Callable[..., Awaitable[None]]) -> None:
        settings = {
            "application_name": f"library@{self.revision}",
            "search_path": f"at_{self.revision}",
        }
        connection = await asyncpg.connect(self.url, server_settings=settings)
        try:
            await self.until_finished(lambda: does(connection))
        finally:
            await connection.close()

    async def write(self, connection: object) -> None:
        assert isinstance(connection, asyncpg.Connection)
        value = f"{self.revision} {len(self.written)}"
        query = f"INSERT INTO books ({self.title}) VALUES ($1) RETURNING id"
        number = await connection.fetchval(query, value)
        await connection.execute(
            f"UPDATE books SET {self.title} = $1, isbn = 'read' WHERE id = $2", value + "!", number
        )
        self.written[number] = value + "!"

    async def read(self, connection: object) -> None:
        assert isinstance(connection, asyncpg.Connection)
        for number, value in list(self.written.items())[-1:]:
            query = f"SELECT {self.title} FROM books WHERE id = $1"
            assert await connection.fetchval(query, number) == value


class SqliteClient(Client):
    """Works on the tables; SQLite has no published versions."""

    async def run(self, does: Callable[..., Awaitable[None]]) -> None:
        with closing(
            sqlite3.connect(
                path_of(self.url), timeout=30, isolation_level=None, check_same_thread=False
            )
        ) as connection:
            await self.until_finished(lambda: does(connection))

    async def write(self, connection: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        value = f"{self.revision} {len(self.written)}"
        query = "INSERT INTO loans (reader) VALUES (?) RETURNING id"
        [(number,)] = await asyncio.to_thread(self.ask, connection, query, value)
        self.written[number] = value

    async def read(self, connection: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        for number, value in list(self.written.items())[-1:]:
            query = "SELECT reader FROM loans WHERE id = ?"
            assert await asyncio.to_thread(self.ask, connection, query, number) == [(value,)]

    @staticmethod
    def ask(connection: sqlite3.Connection, query: str, value: object) -> list[tuple[Any, ...]]:
        return connection.execute(query, (value,)).fetchall()


class Traffic:
    """The clients of all revisions."""

    def __init__(self, url: str, tasks: asyncio.TaskGroup) -> None:
        self.url = url
        self.tasks = tasks
        self.clients: dict[str, Client] = {}
        self.gone: list[Client] = []

    async def join(self, revision: str, title: str) -> None:
        """Start the clients of a revision, and wait until they are served."""
        kind = PostgresqlClient if self.url.startswith("postgresql") else SqliteClient
        client = self.clients[revision] = kind(self.url, revision, title)
        for does in (client.read, client.write):
            self.tasks.create_task(client.run(does))
        await client.has_written()

    def leave(self, revision: str) -> None:
        """Stop the clients of a revision, as a deployment does before it undoes the revision."""
        client = self.clients.pop(revision)
        client.finished.set()
        self.gone.append(client)

    async def have_written(self) -> None:
        """Return once each client has written some more rows."""
        await asyncio.gather(*(client.has_written() for client in self.clients.values()))

    @property
    def all(self) -> list[Client]:
        return [*self.gone, *self.clients.values()]


@asynccontextmanager
async def traffic_on(url: str) -> AsyncIterator[Traffic]:
    """Yield traffic without clients; stop those that joined at the end."""
    async with asyncio.TaskGroup() as tasks:
        traffic = Traffic(url, tasks)
        try:
            yield traffic
        finally:
            for revision in list(traffic.clients):
                traffic.leave(revision)


async def test_a_library_with_a_history_is_stamped_and_migrates_while_clients_are_served(
    databases: Databases, originals: Originals, tmp_path: Path
) -> None:
    """Before the stamp it is refused."""
    library = Library(tmp_path, originals.programs, await databases.empty())
    library.write_history()
    books = library.rows("SELECT id, title, isbn FROM books ORDER BY id")
    library.change_env(library.ADOPT_SAFELY)
    assert "alembic stamp" in library.alembic("upgrade", "head", code=255)
    library.alembic("stamp", "head")
    assert "no drift" in library.safely("drift")
    library.write_later_revisions()
    adopted, *later = library.revisions[-4:]
    titles = dict(zip(later, ("title", "name", "name"), strict=True))

    async def run(*command: str) -> None:
        await asyncio.to_thread(library.alembic, *command)
        await traffic.have_written()

    async with traffic_on(library.url) as traffic:
        await traffic.join(adopted, "title")
        for revision in later:
            await run("upgrade", revision)
            await traffic.join(revision, titles[revision])
        for revision in reversed(later):
            traffic.leave(revision)
            await run("downgrade", "-1")
        assert library.rows("SELECT id, title, isbn FROM books ORDER BY id")[:100] == books
        await run("upgrade", "head")

    assert [error for client in traffic.all for error in client.errors] == []
    table = "books" if library.on_postgresql else "loans"
    value = "name" if library.on_postgresql else "reader"
    rows = dict(library.rows(f"SELECT id, {value} FROM {table}"))
    written = {number: text for client in traffic.all for number, text in client.written.items()}
    assert {number: rows.get(number) for number in written} == written
    assert library.rows("SELECT id, name, isbn FROM books ORDER BY id")[:100] == books
    await databases.drop(library.url)
