"""Run operations of safely as a revision of any id does, without Alembic's command; kill them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import run_script


@asynccontextmanager
async def revision_on(
    engine: AsyncEngine,
    revision: str,
    metadata: sa.MetaData | None = None,
    file: Path | None = None,
) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Yield a function that runs an operation as a revision of this id would.

    `metadata` has the tables of the project; without it, they are in the current schema.
    `file` is that of the revision, for operations that look into it.
    """
    schema = next(iter(metadata.tables.values())).schema if metadata else None
    async with engine.connect() as connection:
        if schema:
            await connection.execute(text(f"SET search_path = {schema}, public"))
            await connection.commit()

        async def run(operation: Callable[[], object], *, up: bool = True) -> None:
            await connection.run_sync(
                operate, revision, operation, up=up, metadata=metadata, file=file
            )
            await connection.commit()

        yield run


def operate(  # noqa: PLR0913  # what a step gives to Alembic
    connection: sa.Connection,
    revision: str,
    operation: Callable[[], object],
    *,
    up: bool = True,
    metadata: sa.MetaData | None = None,
    file: Path | None = None,
) -> None:
    """Run an operation in the context and with the options that a step gives to Alembic."""
    options = {
        "lock_timeout": "100ms",
        "revision": revision,
        "is_upgrade": up,
        "transactional_ddl": True,
        "target_metadata": metadata,
        "work": SimpleNamespace(rows=0),
        "script": SimpleNamespace(get_revision=lambda _: SimpleNamespace(path=file)),
    }
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context), context.begin_transaction():
        operation()


class KilledError(BaseException):
    """The process was killed: nothing that handles errors handles it."""


@contextmanager
def killed_before(engine: AsyncEngine, statement: int) -> Iterator[None]:
    """Kill whatever runs inside before it has sent so many statements; end it where it runs."""
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent >= statement:
            raise KilledError

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", count)


async def run_body(
    engine: AsyncEngine, body: Callable[[], object], *, up: bool, kill_before: int = 10**6
) -> bool:
    """Run the body of a revision, killed before that statement; return whether it came to its end.

    Each run has a connection of its own.
    """
    await engine.dispose()
    async with engine.connect() as connection:
        try:
            with killed_before(engine, kill_before):
                await connection.run_sync(operate, "0042", body, up=up)
                await connection.commit()
        except (KilledError, PendingRollbackError):  # the other one: of what cleans up after it
            await connection.invalidate()
            return False
    return True


async def upgrade_beside_tables(url: str, engine: AsyncEngine, clone: Path, by: str) -> None:
    """Run the next revision by `alembic`, or by its script; the test has made tables of its own."""
    if by == "alembic":
        arguments = ("-x", "drift=accept", "upgrade", "head")
        await asyncio.to_thread(run_alembic, url, *arguments, cwd=clone)
        return
    steps = f"{HEAD}:{NEXT}"
    script = await asyncio.to_thread(run_alembic, url, "upgrade", steps, "--sql", cwd=clone)
    await run_script(engine, script.stdout)
