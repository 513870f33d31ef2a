"""A reader and a writer of every published version, at a steady pace.

A query that should have begun while its client still waited for the one before counts from when
it should have: so a second that nothing was served in is seen in as many queries as it held up.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from safely.rehearsal.people import MADE_UP_BADLY, NOBODY, Table, value
from safely.run.published import schema_of

RATE = 50.0  # queries a second of each client
PAGE = 20
LIVELY = 7  # one row in so many is changed by clients; the others' values can be compared
STRANGERS = 10**9  # numbers from here on belong to rows that clients make
GONE = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)

Act = Callable[[asyncpg.Connection, Table], Awaitable[bool]]  # whether anything was asked

chance = random.Random(6)  # noqa: S311  # not a secret


class Served(NamedTuple):
    """A query that was answered."""

    due: float  # seconds since 1970
    seconds: float


class Failed(NamedTuple):
    """A query that was not."""

    at: float
    version: str
    error: str
    rule: str | None = None  # of the database, that it broke


class Version:
    """A published version with its clients."""

    def __init__(self, revision: str, tables: list[Table]) -> None:
        self.revision = revision
        self.tables = {table.name: table for table in tables}
        self.clients: list[asyncio.Task[None]] = []
        self.over = False  # it was taken back

    def place(self, table: Table) -> str:
        """Where its clients find a table."""
        return f'{schema_of(self.revision)}."{table.name}"'


class Traffic:
    """Clients of every version, and what became of their queries."""

    def __init__(self, url: str, role: str) -> None:
        self.url = url
        self.role = {"role": role} if role else {}  # that they work as; else as the owner
        self.served: list[Served] = []
        self.failed: list[Failed] = []
        self.versions: dict[str, Version] = {}
        self.rows: dict[str, int] = {}  # by table: the largest number that was there
        self.made: dict[str, list[object]] = {}  # by table: the keys of rows that clients made
        self.unwritten: dict[str, str] = {}  # by table: the rule that made up rows break
        self.numbers = STRANGERS
        self.over = False
        self.tasks = asyncio.TaskGroup()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Let them work meanwhile."""
        async with self.tasks:
            try:
                yield
            finally:
                self.over = True

    async def comes(self, version: Version) -> None:
        """A version was published: a reader and a writer come."""
        if version.revision in self.versions or not version.tables:
            return
        await self.check(version)
        self.versions[version.revision] = version
        version.clients = [
            self.tasks.create_task(self.client(version, act))
            for act in (self.reads(version), self.writes(version))
        ]

    async def check(self, version: Version) -> None:
        """Find the tables that made up rows can't be written to, whatever a migration does."""
        connection = await asyncpg.connect(self.url, server_settings=self.role)
        try:
            for table in (table for table in version.tables.values() if table.written):
                trial = connection.transaction()
                await trial.start()
                try:
                    await self.insert(connection, version.place(table), table)
                except MADE_UP_BADLY as error:
                    self.unwritten[table.name] = error.constraint_name or str(error)
                finally:
                    await trial.rollback()
        finally:
            await connection.close()

    async def goes(self, revision: str) -> None:
        """A version was taken back: its clients go, once they have met that or are between two."""
        if version := self.versions.pop(revision, None):
            version.over = True
            await asyncio.gather(*version.clients)

    def quiet(self, table: Table) -> str | None:
        """The condition of rows that were there and that nobody touches; None: there are none."""
        if table.key is None or not self.rows.get(table.name):
            return None
        key = f'"{table.key.name}"'
        return f"{key} <= {self.rows[table.name]} AND {key} % {LIVELY} <> 0"

    async def client(self, version: Version, act: Act) -> None:
        """Work at a steady pace until the version, or all of it, is over."""
        name = f"users@{version.revision}"
        settings = {"application_name": name, **self.role}
        connection = await asyncpg.connect(self.url, server_settings=settings)
        due = time.time() + chance.random() / RATE
        try:
            while not (self.over or version.over):
                for table in version.tables.values():
                    await asyncio.sleep(max(0.0, due - time.time()))
                    answered = await self.answered(connection, version, act, table)
                    if answered is None:
                        return
                    if answered:
                        self.served.append(Served(due, time.time() - due))
                    due += 1 / RATE
        finally:
            await connection.close()

    async def answered(
        self, connection: asyncpg.Connection, version: Version, act: Act, table: Table
    ) -> bool | None:
        """Do something once; tell whether it was answered, or None where there is no going on."""
        try:
            return await act(connection, table)
        except GONE as error:
            there = "SELECT to_regnamespace($1) IS NOT NULL"
            if not await connection.fetchval(there, schema_of(version.revision)):
                return None
            self.note(version, error)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self.note(version, error)
        return None if connection.is_closed() else False

    def note(self, version: Version, error: Exception) -> None:
        """Keep what failed."""
        words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        rule = getattr(error, "constraint_name", None)
        self.failed.append(Failed(time.time(), version.revision, words, rule))

    def reads(self, version: Version) -> Act:
        """A row by its key, or a page."""

        async def read(connection: asyncpg.Connection, table: Table) -> bool:
            place, key = version.place(table), table.key
            if key is None:
                await connection.fetch(f"SELECT * FROM {place} LIMIT {PAGE}")
            elif chance.random() < 0.5:  # noqa: PLR2004  # every second
                query = f'SELECT * FROM {place} WHERE "{key.name}" = $1'
                await connection.fetch(query, self.some_key(table))
            else:
                query = (
                    f'SELECT * FROM {place} WHERE "{key.name}" > $1 '
                    f'ORDER BY "{key.name}" LIMIT {PAGE}'
                )
                await connection.fetch(query, self.some_key(table))
            return True

        return read

    def writes(self, version: Version) -> Act:
        """A new row, a change, and now and then a deletion of what clients made."""

        async def write(connection: asyncpg.Connection, table: Table) -> bool:
            place, key, kind = version.place(table), table.key, chance.random()
            if table.name in self.unwritten or not table.written:
                return False
            if key is None or kind < 0.4:  # noqa: PLR2004  # of ten writes four
                await self.insert(connection, place, table)
                return True
            changed = [column for column in table.written if not column.key]
            if kind < 0.9 and changed:  # noqa: PLR2004  # and five
                column = chance.choice(changed)
                query = (
                    f'UPDATE {place} SET "{column.name}" = {value(column, self.rows)} '
                    f'FROM (SELECT $1::bigint AS n) AS made WHERE "{key.name}" = $2'
                )
                await connection.execute(query, self.number(), self.any_key(table))
                return True
            if not (made := self.made.get(table.name)):
                return False
            await connection.execute(f'DELETE FROM {place} WHERE "{key.name}" = $1', made.pop(0))
            return True

        return write

    async def insert(self, connection: asyncpg.Connection, place: str, table: Table) -> None:
        """A row of the client's own."""
        names = ", ".join(f'"{column.name}"' for column in table.written)
        values = ", ".join(value(column, self.rows) for column in table.written)
        returned = f'"{table.key.name}"' if table.key else "1"
        query = (
            f"INSERT INTO {place} ({names}) SELECT {values} "
            f"FROM (SELECT $1::bigint AS n) AS made RETURNING {returned}"
        )
        key = await connection.fetchval(query, self.number())
        if not connection.is_in_transaction():
            self.made.setdefault(table.name, []).append(key)

    def number(self) -> int:
        """One that no row has."""
        self.numbers += 1
        return self.numbers

    def some_key(self, table: Table) -> object:
        """Of a row that is there, or was."""
        if table.numbered:
            return chance.randint(1, max(1, self.rows.get(table.name, 1)))
        return self.made_key(table)

    def any_key(self, table: Table) -> object:
        """Of a row that may be changed: one that clients made, or one that is not quiet."""
        made, rows = self.made.get(table.name), self.rows.get(table.name, 0)
        if table.numbered and (not made or chance.random() < 0.5):  # noqa: PLR2004  # every second
            return chance.randint(1, rows // LIVELY + 1) * LIVELY
        return self.made_key(table)

    def made_key(self, table: Table) -> object:
        """Of a row that clients made; where there is none, of none."""
        if made := self.made.get(table.name):
            return chance.choice(made)
        return NOBODY[table.key.type] if table.key else None
