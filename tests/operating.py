"""Run operations of safely as a revision of any id does, without Alembic's command; kill them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.operations.halves import Half
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
    half: Half | None = None,
) -> None:
    """Run an operation in the context and with the options that a step gives to Alembic."""
    options = {
        "lock_timeout": "100ms",
        "revision": revision,
        "is_upgrade": up,
        "half": half,
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


KILLED = (KilledError, PendingRollbackError)  # the latter: of what cleans up after it


class Statement(NamedTuple):
    """A statement that a run has sent, or was killed before."""

    text: str
    follows_commit: bool  # all that was done before it is committed


Watch = Callable[[int, Statement], None]
"""Is called before each statement, with its number from 1."""


@contextmanager
def statements_of(engine: sa.Engine, watch: Watch) -> Iterator[list[Statement]]:
    """Call `watch` before each statement; yield the list of them, which grows."""
    statements: list[Statement] = []

    def note(connection: sa.Connection, _: object, text: str, *__: object) -> None:
        driver = connection.connection.driver_connection
        is_asyncpg = connection.dialect.name == "postgresql"
        is_open = driver.is_in_transaction() if is_asyncpg else driver.in_transaction  # type: ignore[union-attr]  # drivers differ
        statements.append(Statement(text, follows_commit=not is_open))
        watch(len(statements), statements[-1])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def killing_before(number: int) -> Watch:
    """Return what kills a run before it has sent so many statements, and those that clean up."""

    def watch(sent: int, _: Statement) -> None:
        if sent >= number:
            raise KilledError

    return watch


def let_go(_: int, __: Statement) -> None:
    """Let a statement be sent."""


class Run(NamedTuple):
    """The result of running the body of a revision."""

    is_done: bool
    statements: list[Statement]


async def run_watched(  # noqa: PLR0913  # what a step tells of a run
    engine: AsyncEngine,
    body: Callable[[], object],
    *,
    up: bool,
    watch: Watch,
    file: Path | None = None,
    half: Half | None = None,
) -> Run:
    """Run the body of a revision, which `watch` may kill.

    Each run has a connection of its own. `file` is that of the revision. `half`: a run before was
    killed, and is finished or undone.
    """
    await engine.dispose()
    async with engine.connect() as connection:
        with statements_of(engine.sync_engine, watch) as statements:
            try:
                await connection.run_sync(operate, "0042", body, up=up, file=file, half=half)
                await connection.commit()
            except KILLED:
                await connection.invalidate()
                return Run(is_done=False, statements=statements)
    return Run(is_done=True, statements=statements)


async def run_body(
    engine: AsyncEngine, body: Callable[[], object], *, up: bool, kill_before: int = 10**6
) -> bool:
    """Run the body of a revision, killed before that statement; return whether it came to its end.

    Each run has a connection of its own.
    """
    run = await run_watched(engine, body, up=up, watch=killing_before(kill_before))
    return run.is_done


async def upgrade_beside_tables(url: str, engine: AsyncEngine, clone: Path, by: str) -> None:
    """Run the next revision by `alembic`, or by its script; the test has made tables of its own."""
    if by == "alembic":
        arguments = ("-x", "drift=accept", "upgrade", "head")
        await asyncio.to_thread(run_alembic, url, *arguments, cwd=clone)
        return
    steps = f"{HEAD}:{NEXT}"
    script = await asyncio.to_thread(run_alembic, url, "upgrade", steps, "--sql", cwd=clone)
    await run_script(engine, script.stdout)
