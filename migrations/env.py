"""How Alembic meets the database: async, with the service's own settings.

`alembic upgrade head` comes by: settings -> engine -> plan -> turn -> plan again -> per step:
one transaction, tried again while a lock is in its way -> the heads read on a fresh connection.
"""

import asyncio
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations.autogenerate import number_the_revision
from migrations.steps import Command, Overtaken, Step, command, plan, take
from migrations.turns import turn
from service import embedded
from service.database import create_engine
from service.models import Base
from service.outages import why_unreachable
from service.settings import Settings, SettingsError, async_url

# each can be changed by `-x name=value`
LOCK_TIMEOUT = "100ms"  # lock_timeout: how long clients may queue behind us
PATIENCE = 300.0  # patience: seconds until a step, or the wait for the turn, is given up

log = logging.getLogger("migrations")


def options() -> dict[str, Any]:
    """What is configured alike online and offline."""
    return {
        "target_metadata": Base.metadata,
        "transaction_per_migration": True,
        "transactional_ddl": True,  # SQLite too: service.database begins its transactions
        "compare_server_default": True,
        "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
        "alembic_module_prefix": "safely.",
        "process_revision_directives": number_the_revision,
        "lock_timeout": lock_timeout(),
    }


def migrate_offline(settings: Settings) -> None:
    """Print the SQL instead of running it; needs no database."""
    url = async_url(settings.database_url)
    context.configure(
        url=url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **options()
    )
    if url.get_backend_name() == "postgresql":
        context.get_context().impl.static_output(f"SET lock_timeout = '{lock_timeout()}';")
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online(settings: Settings) -> None:
    """Plan, take the turn, take the steps, and look with fresh eyes at what was reached."""
    engine = create_engine(
        settings,
        application_name="migrations",
        server_settings={
            "lock_timeout": lock_timeout(),
            "statement_timeout": "0",  # a role's own would cut long index builds
            "idle_in_transaction_session_timeout": "0",
        },
        foreign_keys=False,  # safely.rebuild says why
        poolclass=NullPool,
    )
    fn = command()
    try:
        if await planned(engine, fn):
            await migrate(engine, fn)
        elif is_command("upgrade", "downgrade"):
            log.info("nothing to do")
    except Exception as error:
        if reason := why_unreachable(error):
            place = async_url(settings.database_url).render_as_string(hide_password=True)
            raise CommandError(f"can't reach {place}: {reason}") from error
        raise
    finally:
        await engine.dispose()


async def migrate(engine: AsyncEngine, fn: Command) -> None:
    """Do what is left to do once it is our turn."""
    patience = seconds("patience", PATIENCE)
    async with turn(engine, patience):
        while todo := await planned(engine, fn):
            try:
                await take(engine, todo, options(), patience)
            except Overtaken:
                continue
            await confirm(engine, set(todo[-1].to_revisions))
            return
    log.info("nothing left to do: another migrator did it")


async def planned(engine: AsyncEngine, fn: Command) -> list[Step]:
    """What the command wants done, seen from where the database is now."""
    async with engine.connect() as connection:
        return await connection.run_sync(plan, fn, options())


def argument(name: str, default: str) -> str:
    """A value given as `-x name=value`."""
    return str(context.get_x_argument(as_dictionary=True).get(name, default))


def lock_timeout() -> str:
    """How long a statement may wait for a lock; above a second it would meet deadlocks."""
    text = argument("lock_timeout", LOCK_TIMEOUT)
    if not re.fullmatch(r"[1-9]\d{0,2}ms", text):
        raise CommandError("-x lock_timeout=… takes 1ms to 999ms, less than deadlock_timeout")
    return text


def seconds(name: str, default: float) -> float:
    """A number of seconds given as `-x name=value`."""
    text = argument(name, str(default))
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        raise CommandError(f"-x {name}=… takes a number of seconds")
    return float(text)


async def confirm(engine: AsyncEngine, expected: set[str]) -> None:
    """Raise unless the heads stand in the database, as a connection of its own sees it."""

    def heads(connection: Connection) -> set[str]:
        return set(MigrationContext.configure(connection).get_current_heads())

    async with engine.connect() as connection:
        found = await connection.run_sync(heads)
    if found != expected:
        raise CommandError(
            f"the database is at {said(found)} instead of {said(expected)}: nothing was kept"
        )
    log.info("the database is at %s", said(found))


def is_command(*names: str) -> bool:
    """Whether Alembic was called from the shell with one of these commands."""
    called = getattr(context.config.cmd_opts, "cmd", None)
    return called is not None and called[0].__name__ in names


def said(heads: set[str]) -> str:
    """Revisions for a person."""
    return ", ".join(sorted(heads)) or "base"


def check_numbers(script: ScriptDirectory) -> None:
    """The history is one line: refuse two files with one number, and two heads."""
    files = (Path(__file__).parent / "versions").glob("[0-9]*_*.py")
    numbers = Counter(file.name.partition("_")[0] for file in files)
    if twice := sorted(number for number, times in numbers.items() if times > 1):
        raise CommandError(
            f"two revision files have the number {twice[0]}: give the one that is not yet applied "
            "anywhere the next free number (file name and `revision`), and make its "
            "`down_revision` the other"
        )
    if len(heads := script.get_heads()) > 1:
        raise CommandError(
            f"the history has {len(heads)} heads, {said(set(heads))}: make one of them follow the "
            "other (its `down_revision`); this project keeps one line and no merges"
        )


def is_a_step(record: logging.LogRecord) -> bool:
    """Keep the lines that say which revision runs; leave out how Alembic set itself up."""
    return str(record.msg).startswith("Running")


def main() -> None:
    """Do what the Alembic command asked for; every foreseeable failure is one line."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s [%(name)s] %(message)s")
    for chatty in ("alembic.runtime.plugins", "alembic.util.messaging"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # what matters is said elsewhere
    logging.getLogger("alembic.runtime.migration").addFilter(is_a_step)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise CommandError(
            "Alembic was called inside a running event loop; "
            "call it in a thread: await asyncio.to_thread(command.upgrade, config, 'head')"
        )
    check_numbers(context.script)
    try:
        settings = embedded.resolved(Settings.from_environment(os.environ))
    except SettingsError as error:
        raise CommandError(str(error)) from error
    if context.is_offline_mode():
        migrate_offline(settings)
    else:
        asyncio.run(migrate_online(settings))


main()
