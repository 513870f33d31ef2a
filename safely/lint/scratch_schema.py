"""A scratch database with the schema as it stands before a revision, to answer its body.

It is made when a body first reads the database, by replaying the upgrades before that. It has no
rows, apart from those that the revisions themselves write.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import asyncpg
import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.util import await_only

from safely import database
from safely.addresses import for_asyncpg
from safely.lint import stand_in
from safely.lint.rendering import Rendering, render
from safely.scratch import databases

DATABASE = "lint"
TIMEOUTS = {"statement_timeout": "10s", "lock_timeout": "2s"}  # a body may wait for itself
SAVEPOINT = "safely_lint"
# Alembic makes it before the first revision, so a loop over all tables comes to it
VERSION_TABLE = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
UNUSABLE = (
    CommandError,
    OSError,
    sa.exc.SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)
# the transaction is that of the step, and in one without other clients the lock doesn't matter
TRANSACTION = re.compile(
    r"\s*(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE TRANSACTION|VACUUM)\b",
    re.IGNORECASE,
)
CONCURRENTLY = re.compile(r"\b(INDEX|VIEW|TABLE|PARTITION [\w.\"]+) CONCURRENTLY\b", re.IGNORECASE)


class ScratchSchema:
    """A PostgreSQL server with one database, which starts when it is first needed.

    Use it in a thread without a running event loop, as a context.
    """

    connection: sa.Connection
    record: Callable[[str], None]

    def __init__(
        self,
        script: ScriptDirectory,
        metadata: sa.MetaData,
        options: Mapping[str, Any],
        *,
        address: str = "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.script, self.metadata, self.options = script, metadata, options
        self.address = address
        """An empty database to use; empty: one on a server of its own."""
        self.tell = tell
        """A function that is told why there is no database."""
        self.pending = list(script.walk_revisions())[::-1]
        """The revisions that aren't replayed yet."""
        self.is_usable = True
        self.record = nothing
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.opened: AsyncConnection | None = None

    def __enter__(self) -> Self:
        """Return itself; the server starts later."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Stop the server, if it runs."""
        try:
            self.runner.run(self.stack.aclose())
        finally:
            self.runner.close()

    def render(self, revision: Script, *, up: bool) -> Rendering | None:
        """Return the SQL of one direction of a revision; None where there is no server."""
        if not self.is_usable:
            return None
        try:
            return self.runner.run(self.rendered(revision, up=up))
        except UNUSABLE as error:
            self.is_usable = False
            self.tell(f"no scratch database answers the revisions: {error}")
            return None

    async def rendered(self, revision: Script, *, up: bool) -> Rendering:
        """Replay the upgrades before the direction, and render it."""
        if self.opened is None:
            self.opened = await self.open()
        while revision in self.pending and not (up and self.pending[0] is revision):
            await self.run(self.pending.pop(0), up=True, keep=True)
        if revision in self.pending:
            self.pending.remove(revision)
        return await self.run(revision, up=up, keep=up)

    async def open(self) -> AsyncConnection:
        """Return a connection to the database; start its server if it has one of its own."""
        if not self.address:
            server = await self.stack.enter_async_context(databases.server())
            await databases.execute(server, f"CREATE DATABASE {DATABASE}")
            self.address = server.url(DATABASE)
        schemas = {table.schema for table in self.metadata.tables.values()} - {None}
        path = ", ".join(f'"{schema}"' for schema in [*sorted(map(str, schemas)), "public"])
        engine = create_async_engine(
            database.usable(self.address),
            poolclass=sa.NullPool,
            connect_args={"server_settings": {**TIMEOUTS, "search_path": path}},
        )
        sa.event.listen(engine.sync_engine, "do_connect", for_asyncpg)
        self.listen(engine.sync_engine)
        self.stack.push_async_callback(engine.dispose)
        connection = await self.stack.enter_async_context(engine.connect())
        for schema in schemas:
            await connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await connection.exec_driver_sql(VERSION_TABLE)
        await connection.commit()
        return connection

    async def run(self, revision: Script, *, up: bool, keep: bool) -> Rendering:
        """Render one direction on the database, in a transaction that is kept or rolled back."""
        assert self.opened is not None  # noqa: S101  # `rendered` has opened it
        rendering = await self.opened.run_sync(self.render_on, revision, up=up)
        await (self.opened.commit() if keep else self.opened.rollback())
        return rendering

    def render_on(self, connection: sa.Connection, revision: Script, *, up: bool) -> Rendering:
        """Render one direction of a revision, and execute what it emits."""
        self.connection = connection
        try:
            return render(self.script, revision, self.metadata, self.options, up=up, scratch=self)
        finally:
            self.record = nothing

    def execute(self, statement: str) -> None:
        """Execute a statement; what PostgreSQL refuses changes nothing."""
        if TRANSACTION.match(statement):
            return
        self.send(f"SAVEPOINT {SAVEPOINT}")
        try:
            self.send(CONCURRENTLY.sub(r"\1", statement))
        except asyncpg.PostgresError:
            self.send(f"ROLLBACK TO {SAVEPOINT}")
        self.send(f"RELEASE {SAVEPOINT}")

    def send(self, statement: str) -> None:
        """Send SQL as it is, which may be several statements, in the open transaction."""
        driver: Any = self.connection.connection.driver_connection
        if not driver.is_in_transaction():
            record, self.record = self.record, nothing
            self.connection.exec_driver_sql("SELECT 1")  # SQLAlchemy begins
            self.record = record
        await_only(driver.execute(statement))

    def listen(self, engine: sa.Engine) -> None:
        """Record what a body executes by itself; what PostgreSQL refuses changes nothing."""

        @sa.event.listens_for(engine, "before_cursor_execute")
        def before(_: Any, __: Any, statement: str, parameters: Any, *others: Any) -> None:
            is_executemany = others[-1]
            first = parameters[0] if is_executemany and parameters else parameters
            self.record(stand_in.with_literals(statement, first))


def nothing(_: str) -> None:
    """Record nothing."""
