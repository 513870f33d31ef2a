"""A reader and a writer of every version of the schema, each at a steady pace.

A query that should have begun while its client still waited for the one before counts from when
it should have begun. So a second in which nothing is served shows in all queries that it delayed.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import asyncpg

from safely.errors import first_line
from safely.rehearsal.application_tables import Column, Table
from safely.rehearsal.connection import CopyAddress, quoted
from safely.rehearsal.generated_rows import (
    ONE_IN,
    NoValueError,
    insertion,
    value,
)
from safely.rehearsal.older_rules import DEFAULT, NULL, Choices
from safely.rehearsal.row_shares import CHANGED_ONE_IN, RowShares, condition, key_of

RATE = 50.0  # queries a second of each client
MOST_VERSIONS = 16  # that have clients at the same time; the clients of the oldest leave
PAGE = 20  # rows
PARENTS = 50  # rows that a client's row may reference
# Rows of clients have numbers from here on. The first references of PARENTS * PARENTS pairs of rows
# count from the middle, since generated rows have the pairs at the beginning.
FIRST_NUMBER = 10**9 + PARENTS * PARENTS // 2
UPDATES, INSERTS = 0.5, 0.4  # of all writes; the others are deletions
EXISTS = "SELECT to_regnamespace($1) IS NOT NULL"
GONE = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)

Query = Callable[[asyncpg.Connection, Table], Awaitable[bool]]
"""Sends one query, and returns whether there was anything to send."""

chance = random.Random(6)  # noqa: S311  # not a secret


class NotKeptError(Exception):
    """An INSERT that succeeds and leaves no row, as below a trigger that returns NULL."""


class ServedQuery(NamedTuple):
    """A query that was answered."""

    due: float  # when it should have begun, in seconds since 1970
    seconds: float


class FailedQuery(NamedTuple):
    """A query that was answered by an error."""

    at: float
    version: str  # in words
    error: str
    constraint: str | None = None  # that its row violated


class Version:
    """A published version, or the tables themselves, with the clients that use it."""

    def __init__(
        self, revision: str, schema: str, tables: list[Table], *, is_published: bool
    ) -> None:
        self.revision = revision  # "": base
        self.schema = schema
        self.tables = {table.name: table for table in tables}
        self.is_published = is_published
        self.written: dict[str, list[Column]] = {}  # by table: the columns that clients write
        self.choices: Choices = {}  # what its own rules allow, and those of newer ones may not
        self.clients: list[asyncio.Task[None]] = []
        self.is_over = False

    def __str__(self) -> str:
        return self.schema if self.is_published else f"the tables themselves at {self.revision}"

    def without_clients(self) -> "Version":
        """Return the same version for new clients: those of before have stopped."""
        tables = list(self.tables.values())
        version = Version(self.revision, self.schema, tables, is_published=self.is_published)
        version.choices = dict(self.choices)
        return version

    def place(self, table: str) -> str:
        """Return where clients find a table, as an SQL identifier."""
        return quoted(self.schema, table)


class Traffic:
    """Clients of every version, and the results of their queries."""

    def __init__(self, address: CopyAddress, name: str, role: str) -> None:
        self.address = address
        self.name = name  # of the project
        self.role = {"role": role} if role else {}  # of clients; else they work as the owner
        self.shares = RowShares()
        self.served: list[ServedQuery] = []
        self.failed: list[FailedQuery] = []
        self.versions: dict[str, Version] = {}  # that have clients, by revision
        self.inserted: dict[str, list[tuple[object, ...]]] = {}  # by table: keys of clients' rows
        self.writes: set[str] = set()  # tables to which clients of some version write
        self.unwritten: dict[str, str] = {}  # by table: why no client writes to it
        self.numbers = FIRST_NUMBER
        self.is_over = False
        self.tasks = asyncio.TaskGroup()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Let clients work until the end of the block."""
        async with self.tasks:
            try:
                yield
            finally:
                self.is_over = True

    async def start(self, version: Version) -> None:
        """Start a reader and a writer of a version, unless it has them."""
        if version.revision in self.versions or not version.tables:
            return
        await self.choose_columns(version)
        self.versions[version.revision] = version
        for query in (self.read, self.write):
            client = self.client(version, partial(query, version))
            version.clients.append(self.tasks.create_task(client))
        if len(self.versions) > MOST_VERSIONS:
            await self.stop(next(iter(self.versions)))

    async def stop(self, revision: str) -> None:
        """Stop the clients of a version, each after its current query."""
        if version := self.versions.pop(revision, None):
            version.is_over = True
            await asyncio.gather(*version.clients)

    async def choose_columns(self, version: Version) -> None:
        """Find out by an insertion that is rolled back which columns of each table can be written.

        Generated values may violate a constraint. Then NULL and defaults are tried; then no client
        of the version writes to the table.
        """
        connection = await self.address.connect(**self.role_in(version))
        try:
            for table in version.tables.values():
                for columns in (table.writable, table.required):
                    version.written[table.name] = columns
                    error = await self.refusal(connection, version, table)
                    if error is None:
                        self.writes.add(table.name)
                        self.unwritten.pop(table.name, None)
                        break
                    if table.name not in self.writes:
                        constraint = getattr(error, "constraint_name", None)
                        self.unwritten[table.name] = constraint or first_line(error)
                else:
                    del version.written[table.name]
            add_choices(version)
            await self.leave_out_choices(connection, version)
        finally:
            await connection.close()

    async def leave_out_choices(self, connection: asyncpg.Connection, version: Version) -> None:
        """Leave out the choices that are refused already: no step to come is to blame for that."""
        for (table, column), literals in version.choices.items():
            if table in version.written:
                version.choices[table, column] = [
                    literal
                    for literal in literals
                    if await self.refusal(
                        connection, version, version.tables[table], (column, literal)
                    )
                    is None
                ]

    async def try_choices(self) -> None:
        """Insert a row with each choice once, and take it back, in every version with clients.

        What a step refuses is noted as the failures of clients are, and isn't left to chance.
        """
        for version in list(self.versions.values()):
            connection = await self.address.connect(**self.role_in(version))
            try:
                if not await connection.fetchval(EXISTS, quoted(version.schema)):
                    continue  # it was withdrawn
                for (table, column), literals in version.choices.items():
                    for literal in literals if table in version.written else ():
                        error = await self.refusal(
                            connection, version, version.tables[table], (column, literal)
                        )
                        if error is not None:
                            self.note(version, error)
            finally:
                await connection.close()

    async def refusal(
        self,
        connection: asyncpg.Connection,
        version: Version,
        table: Table,
        chosen: tuple[str, str] | None = None,
    ) -> Exception | None:
        """Return the error with which a row can't be inserted; None if it can.

        `chosen`: a column, and the literal that it gets.
        """
        trial = connection.transaction()
        await trial.start()
        try:
            await self.insert(connection, version, table, chosen)
        except (asyncpg.PostgresError, NoValueError, NotKeptError) as error:
            return error
        finally:
            await trial.rollback()
        return None

    def role_in(self, version: Version) -> dict[str, str]:
        """Return the setting of the clients' role, which may use published versions only."""
        return self.role if version.is_published else {}

    async def client(self, version: Version, query: Query) -> None:
        """Send queries at a steady pace until the version, or the traffic, is over."""
        name = f"{self.name}@{version.revision or 'base'}"
        connection = await self.address.connect(application_name=name, **self.role_in(version))
        due = time.time() + chance.random() / RATE
        try:
            while not (self.is_over or version.is_over):
                for table in version.tables.values():
                    await asyncio.sleep(max(0.0, due - time.time()))
                    was_served = await self.try_query(connection, version, query, table)
                    if was_served is None:
                        return
                    if was_served:
                        self.served.append(ServedQuery(due, time.time() - due))
                    due += 1 / RATE
        finally:
            await connection.close()

    async def try_query(
        self, connection: asyncpg.Connection, version: Version, query: Query, table: Table
    ) -> bool | None:
        """Send one query; return whether it was served, or None if the client must stop."""
        try:
            return await query(connection, table)
        except GONE as error:
            if not await connection.fetchval(EXISTS, quoted(version.schema)):
                return None  # it was withdrawn
            self.note(version, error)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, NotKeptError) as error:
            self.note(version, error)
        return None if connection.is_closed() else False

    def note(self, version: Version, error: Exception) -> None:
        """Remember a query that failed."""
        words = f"{type(error).__name__}: {first_line(error)}"
        constraint = getattr(error, "constraint_name", None)
        self.failed.append(FailedQuery(time.time(), str(version), words, constraint))

    async def read(self, version: Version, connection: asyncpg.Connection, table: Table) -> bool:
        """Read a row by its key, or a page of rows."""
        place, key, row = version.place(table.name), key_of(table), self.any_key(table)
        if row is None:
            await connection.fetch(f"SELECT * FROM {place} LIMIT {PAGE}")
        elif chance.random() < 0.5:  # noqa: PLR2004  # every second one
            await connection.fetch(f"SELECT * FROM {place} WHERE {condition(table)}", *row)
        else:
            after = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await connection.fetch(
                f"SELECT * FROM {place} WHERE ({key}) > ({after}) ORDER BY {key} LIMIT {PAGE}", *row
            )
        return True

    async def write(self, version: Version, connection: asyncpg.Connection, table: Table) -> bool:
        """Insert a row, change one, or delete one that a client has inserted."""
        columns = version.written.get(table.name)
        if columns is None:
            return False
        kind = chance.random()
        if not table.key or kind < INSERTS:
            await self.insert(connection, version, table)
            return True
        changed = [column for column in columns if column.key_position is None]
        if changed and kind < INSERTS + UPDATES:
            return await self.update(connection, version, table, chance.choice(changed))
        if not (inserted := self.inserted.get(table.name)):
            return False
        await connection.execute(
            f"DELETE FROM {version.place(table.name)} WHERE {condition(table)}", *inserted.pop(0)
        )
        return True

    async def update(
        self, connection: asyncpg.Connection, version: Version, table: Table, column: Column
    ) -> bool:
        """Change a column of a row that clients may change; return whether there is such a row."""
        row = self.changeable_key(table)
        if row is None:
            return False
        await connection.execute(
            f"UPDATE {version.place(table.name)} AS target SET {quoted(column.name)} = "
            f"{self.value(version, column)} FROM (SELECT ${len(row) + 1}::bigint AS n) "
            f"AS generated WHERE {condition(table, of='target.')}",
            *row,
            self.next_number(),
        )
        return True

    def value(self, version: Version, column: Column) -> str:
        """Return a column's value as SQL over `generated.n`: a choice of its version, if any."""
        literals = version.choices.get((column.table, column.name), [])
        if NULL in literals and chance.randrange(ONE_IN) == 0:
            return NULL
        labels = [literal for literal in literals if literal not in (NULL, DEFAULT)]
        return chance.choice(labels) if labels else value(column, version.place, PARENTS)

    async def insert(
        self,
        connection: asyncpg.Connection,
        version: Version,
        table: Table,
        chosen: tuple[str, str] | None = None,
    ) -> None:
        """Insert a row of the client's own; raise NotKeptError where it does not come back.

        `chosen`: a column, and the literal that it gets.
        """
        literals = dict([chosen]) if chosen else {}
        columns = [
            column for column in version.written[table.name] if literals.get(column.name) != DEFAULT
        ]
        query = insertion(
            version.place(table.name),
            columns,
            [literals.get(column.name) or self.value(version, column) for column in columns],
            "(SELECT $1::bigint AS n) AS generated",
        )
        row = await connection.fetchrow(
            f"{query} RETURNING {key_of(table) or 1}", self.next_number()
        )
        if row is None:
            raise NotKeptError(f"a row was inserted into {table.name}, and was not kept")
        if table.key and not connection.is_in_transaction():
            self.inserted.setdefault(table.name, []).append(tuple(row))

    def next_number(self) -> int:
        """Return a number that no row has."""
        self.numbers += 1
        return self.numbers

    def any_key(self, table: Table) -> tuple[object, ...] | None:
        """Return the key of a row that exists or existed; None where none is known."""
        largest = self.shares.largest.get(table.name)
        if largest is not None and table.is_numbered:
            return (chance.randint(1, max(1, largest)),)
        return self.one_of(self.shares.changeable.get(table.name), self.inserted.get(table.name))

    def changeable_key(self, table: Table) -> tuple[object, ...] | None:
        """Return the key of a row that clients may change; None where none is known."""
        largest, inserted = self.shares.largest.get(table.name), self.inserted.get(table.name)
        if largest is None or not table.is_numbered:
            return self.one_of(self.shares.changeable.get(table.name), inserted)
        if inserted and chance.random() < 0.5:  # noqa: PLR2004  # every second one
            return chance.choice(inserted)
        return (chance.randint(1, largest // CHANGED_ONE_IN + 1) * CHANGED_ONE_IN,)

    def one_of(self, *keys: list[tuple[object, ...]] | None) -> tuple[object, ...] | None:
        """Return a key out of one of the lists; None if all are empty."""
        lists = [some for some in keys if some]
        return chance.choice(chance.choice(lists)) if lists else None


def add_choices(version: Version) -> None:
    """Add what the columns that clients write allow by themselves: NULL, or to be left out."""
    for table, columns in version.written.items():
        for column in columns:
            literals = version.choices.setdefault((table, column.name), [])
            if column.is_nullable and not column.is_unique and NULL not in literals:
                literals.append(NULL)
            if column.has_default:
                literals.append(DEFAULT)
