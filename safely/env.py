"""The functions for an env.py: Project, create_engine, guarded, offline_options.

```python
project = Project(name="shop", metadata=Base.metadata)


def run_migrations_offline() -> None:
    context.configure(
        url=url,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **offline_options(project),
    )
    with context.begin_transaction():
        context.run_migrations()


def do_run_migrations(connection, options) -> None:
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations() -> None:
    engine = create_engine(url)
    async with guarded(project, engine) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(do_run_migrations, step.options)
    await engine.dispose()
```
"""

import asyncio
import logging
import signal
import threading
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from types import FrameType
from typing import Any, TextIO, cast

from alembic.util import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine

from safely import alembic_internals as alembic
from safely import arguments, autogenerate, closed_output, database, history, invocation
from safely.alembic_internals import EnvironmentContext, MigrationContext
from safely.arguments import Arguments
from safely.backup.backup import before_migrating
from safely.database import Outage
from safely.environment import Environment
from safely.errors import why_unreachable
from safely.invocation import Invocation
from safely.operations.connection import Refused
from safely.project import Project
from safely.run import aftermath, steps
from safely.run.migrator import MIGRATING, Migrator
from safely.run.retry import Step

__all__ = ["Project", "create_engine", "guarded", "in_one_line", "offline_options", "run"]

LOGGERS = ("alembic.runtime.migration", "alembic.runtime.plugins", "alembic.util.messaging")
SET_UP = ("Context impl", "Will assume", "Generating static", "setup plugin", "setting up")
EXPECTED_WARNINGS = (  # autogenerate reflects SQLite's indexes on expressions itself
    ("Skipped unsupported reflection", SAWarning),
)


def create_engine(address: str | URL) -> AsyncEngine:
    """Return the engine for `guarded`: lock timeout and isolation as migrations need them.

    `address`: `postgresql+asyncpg://user:password@host/name`, `sqlite+aiosqlite:///file`, or
    `embedded:///name` for a PostgreSQL that `safely` runs for development (the extra `rehearse`).
    Raise CommandError for another driver, naming the one that can be used. The caller disposes of
    the engine.
    """
    context = running()
    address = invocation.of(context.config).address or address
    development = None
    if str(address).startswith("embedded:"):
        development = embedded(str(address))
        address = development.url
    engine = database.engine_for(address, lock_timeout=arguments.lock_timeout(context))
    return engine.execution_options(safely=True, development=development)


def embedded(address: str) -> Any:
    """Return the development server of an address; raise CommandError where there is none."""
    try:
        # production images leave it out
        from safely.scratch.embedded import locate  # noqa: PLC0415
    except ImportError:
        raise CommandError(
            f"{address} is a database for development, and this installation has none: give the "
            "address of a server"
        ) from None
    return locate(address)


@asynccontextmanager
async def guarded(project: Project, engine: AsyncEngine) -> AsyncIterator[AsyncIterator[Step]]:
    """Yield the steps of the command that Alembic runs, each safe to be killed and to be repeated.

    ```python
    async with guarded(project, engine) as steps:
        async for step in steps:  # one revision, or one attempt at it
            async with step as connection:
                await connection.run_sync(do_run_migrations, step.options)
    ```

    `engine` is one of `create_engine`. Around the steps: one migrator at a time, drift refused,
    lock timeouts retried, the ledger, published versions. Raise CommandError, which Alembic prints
    as one line, for all that can be foreseen: also for a database, a network or a disk that fails
    midway, and for ^C, with what is kept and what to type.
    """
    context = running()
    if alembic.is_configured(context):
        raise CommandError(
            "env.py calls context.configure() before the first step of safely: call it in "
            "do_run_migrations(connection, options) alone, with **options"
        )
    if not engine.get_execution_options().get("safely"):
        raise CommandError(
            "guarded() needs an engine of safely.env.create_engine(url): another one lacks the "
            "timeouts and the isolation that migrations need"
        )
    history.check(context.config, numbered=project.numbered)
    call = invocation.of(context.config)
    if call.address:
        project = replace(project, app_role=call.app_role, metrics_textfile="")
    migrator = Migrator(context, project, engine, back_up)
    context.context_opts["fn"] = refuse_plain
    taken = command_steps(migrator, call) if call.command else started(migrator)
    let_operators_read()
    with expected_only(), quiet_set_up():
        around = nullcontext() if call.command else with_aftermath(migrator)
        async with around, database.in_words(engine), aclosing(taken):
            yield taken
        if not migrator.is_finished:
            raise CommandError(
                "env.py left the loop over the steps of safely before its end: not all was done"
            )


@asynccontextmanager
async def with_aftermath(migrator: Migrator) -> AsyncIterator[None]:
    """Add to the message of an outage, and of ^C, what is kept and what to type.

    To the message of a step that is refused, or fails, add how to go on from its half, if a part
    of it is committed.
    On ^C asyncio cancels the task, and raises KeyboardInterrupt unless the task ends otherwise.
    """
    with interrupts() as is_interrupted:
        try:
            yield
        except (Outage, asyncio.CancelledError) as error:
            if is_interrupted():
                # the driver may have turned the cancellation into the loss of its connection
                what, when = "interrupted", "when you like"
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()
            elif isinstance(error, Outage):
                is_away = error.__cause__ is not None and why_unreachable(error.__cause__)
                what = str(error)
                when = "when the database is back" if is_away else "when that is mended"
            else:
                raise
            left = await aftermath.aftermath(migrator.environment, migrator.progress, when=when)
            raise CommandError(f"{what}. {left}") from error
        except Exception as error:
            ways_out = await aftermath.ways_out(migrator.environment, migrator.progress)
            if ways_out and isinstance(error, Refused):
                raise error.followed_by(ways_out) from error
            if ways_out and isinstance(error, CommandError):
                raise CommandError(f"{error}. {ways_out}") from error
            if ways_out:
                error.add_note(ways_out)
            raise


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether ^C was typed inside the block.

    The handler that asyncio has set goes on cancelling the task. Outside of the main thread
    nothing is noted, since no signal is handled there.
    """
    before, seen = signal.getsignal(signal.SIGINT), False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen = True
        assert callable(before)  # noqa: S101  # see below
        before(number, frame)

    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def offline_options(project: Project) -> dict[str, Any]:
    """Return the options of context.configure() with which `--sql` prints what would be run."""
    context = running()
    history.check(context.config, numbered=project.numbered)
    given = arguments.of(context)
    if given.backup:
        raise CommandError("-x backup=DIR backs a database up, and --sql asks none: leave it out")
    fn: alembic.Work = context.context_opts["fn"]

    def other(heads: Any, migration: MigrationContext) -> Any:
        autogenerate.set_up(migration, project)
        return fn(heads, migration)

    silence_set_up()
    if context.config.output_buffer is None:
        context.config.output_buffer = cast("TextIO", closed_output.StandardOutput())
    return {
        "target_metadata": project.tables,
        "transaction_per_migration": True,
        "transactional_ddl": True,
        "fn": steps.printed(
            fn, project, given.lock_timeout, config=context.config, unsafe=given.unsafe
        )
        if getattr(fn, "__name__", "") in MIGRATING
        else other,
    }


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine by asyncio.run; raise CommandError inside a running event loop."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        main.close()
        raise CommandError(
            "Alembic was called inside a running event loop; "
            "call it in a thread: await asyncio.to_thread(command.upgrade, config, 'head')"
        )
    asyncio.run(main)


@contextmanager
def in_one_line(*kinds: type[Exception]) -> Iterator[None]:
    """Raise exceptions of these kinds as CommandError, which Alembic prints as one line."""
    try:
        yield
    except kinds as error:
        raise CommandError(str(error)) from error


def running() -> EnvironmentContext:
    """Return the context of the env.py that runs; raise CommandError outside of Alembic."""
    context = alembic.current_environment()
    if context is None:
        raise CommandError(
            "safely.env works only in an env.py that Alembic runs: type `alembic upgrade head`, or "
            "`python -m safely COMMAND`"
        )
    return context


def refuse_plain(*_: Any) -> list[alembic.Step]:
    """Raise CommandError: the work of a command whose env.py does not pass the step's options."""
    raise CommandError(
        "env.py does not pass the options of the step to Alembic: write "
        "context.configure(connection=connection, **options), and give do_run_migrations the "
        "step.options"
    )


async def back_up(environment: Environment, given: Arguments) -> None:
    """Make the backup of `-x backup=DIR`; raise CommandError if it fails."""
    assert given.backup is not None  # noqa: S101  # the caller has looked
    await before_migrating(environment, directory=given.backup, verify=given.verify)


async def started(migrator: Migrator) -> AsyncGenerator[Step, None]:
    """Yield the steps of Alembic's command, once the development server runs."""
    await start(migrator.engine)
    async with aclosing(migrator.steps()) as taken:
        async for step in taken:
            yield step


async def start(engine: AsyncEngine) -> None:
    """Start the development server, where the engine's address names one."""
    if development := engine.get_execution_options().get("development"):
        await asyncio.to_thread(development.start)


async def command_steps(migrator: Migrator, call: Invocation) -> AsyncGenerator[Step, None]:
    """Yield a step that learns how env.py configures Alembic, and run a command of `safely`."""
    assert call.command is not None  # noqa: S101  # the caller has looked
    engine = migrator.engine
    development = engine.get_execution_options().get("development")
    is_there = development.exists if development else database.is_there(engine)
    unreachable = "" if call.needs_database or is_there else "there is no database yet"
    async with AsyncExitStack() as stack:
        try:
            if not unreachable:
                await start(engine)
                reading = engine.execution_options(reading=True).connect()
                connection = await stack.enter_async_context(reading)
        except Exception as error:
            reason = why_unreachable(error)
            if call.needs_database or reason is None:
                raise
            unreachable = f"can't reach {database.place_of(engine)}: {reason}"
        if not unreachable:
            async with aclosing(migrator.probe(connection)) as tries:
                async for step in tries:
                    yield step
    environment = replace(migrator.environment, unreachable=unreachable)
    call.exit_code = await until_terminated(call.command(environment))
    migrator.is_finished = True


async def until_terminated(command: Awaitable[int]) -> int:
    """Run a command; SIGTERM ends it as ^C does, so that it leaves nothing behind."""
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def let_operators_read() -> None:
    """Let the log of `safely` be written, which the logging of a stock alembic.ini disables.

    Without it an upgrade that waits for a lock would be silent for minutes.
    """
    log = logging.getLogger("safely")
    log.disabled = False
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


@contextmanager
def expected_only() -> Iterator[None]:
    """Silence warnings about what is as it should be."""
    with warnings.catch_warnings():
        for message, category in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


@contextmanager
def quiet_set_up() -> Iterator[None]:
    """Leave out of the log how Alembic sets itself up, which it would tell at every step."""
    silence_set_up()
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(is_no_set_up)


def silence_set_up() -> None:
    """Leave out of the log how Alembic sets itself up."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(is_no_set_up)


def is_no_set_up(record: logging.LogRecord) -> bool:
    """Return whether a line of the log says what is done, such as which revision runs."""
    return not str(record.msg).startswith(SET_UP)
