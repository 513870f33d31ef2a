"""How Alembic meets the database: async, with the service's own settings.

`alembic upgrade head` comes by: settings -> engine -> connection.run_sync -> one transaction per
revision -> the head read again on a connection of its own.
"""

import asyncio
import logging
import os
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations.autogenerate import number_the_revision
from service import embedded
from service.database import create_engine
from service.models import Base
from service.outages import is_lock_timeout, why_unreachable
from service.settings import Settings, SettingsError, async_url

LOCK_TIMEOUT = "100ms"  # how long clients may queue behind us; `-x lock_timeout=…` changes it

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
        "lock_timeout": context.get_x_argument(as_dictionary=True).get(
            "lock_timeout", LOCK_TIMEOUT
        ),
    }


def migrate_offline(settings: Settings) -> None:
    """Print the SQL instead of running it; needs no database."""
    url = async_url(settings.database_url)
    context.configure(
        url=url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **options()
    )
    if url.get_backend_name() == "postgresql":
        context.get_context().impl.static_output(
            f"SET lock_timeout = '{options()['lock_timeout']}';"
        )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online(settings: Settings) -> None:
    """Run the migrations on an async engine, then look with fresh eyes."""
    engine = create_engine(
        settings,
        application_name="migrations",
        server_settings={
            "lock_timeout": options()["lock_timeout"],
            "statement_timeout": "0",  # a role's own would cut long index builds
            "idle_in_transaction_session_timeout": "0",
        },
        foreign_keys=False,  # safely.rebuild says why
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            expected = await connection.run_sync(migrate)
        if expected is not None:
            await confirm(engine, expected)
        elif is_command("upgrade", "downgrade"):
            log.info("nothing to do")
    except Exception as error:
        if is_lock_timeout(error):
            raise CommandError(
                "somebody held a lock that this step needs, and clients must not queue behind "
                "us: the step was undone; run the command again, it goes on from there"
            ) from error
        if reason := why_unreachable(error):
            place = async_url(settings.database_url).render_as_string(hide_password=True)
            raise CommandError(f"can't reach {place}: {reason}") from error
        raise
    finally:
        await engine.dispose()


def migrate(connection: Connection) -> set[str] | None:
    """Run what the command planned; return the heads it should have reached, None if no step."""
    reached: list[set[str]] = []

    def note(
        ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Any
    ) -> None:  # Alembic names the arguments
        del ctx, step, run_args
        reached.append({str(head) for head in heads})

    if connection.in_transaction():
        raise CommandError(
            "a statement ran before context.configure(): Alembic would take its transaction for "
            "somebody else's, and roll everything back at the end"
        )
    context.configure(connection=connection, on_version_apply=note, **options())
    with warnings.catch_warnings():
        # SQLite's expression indexes can't be reflected; Alembic leaves them alone, and says so
        warnings.filterwarnings("ignore", "Skipped unsupported reflection", SAWarning)
        warnings.filterwarnings("ignore", "autogenerate skipping .* expression-based", UserWarning)
        with context.begin_transaction():
            context.run_migrations()
    return reached[-1] if reached else None


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
    command = getattr(context.config.cmd_opts, "cmd", None)
    return command is not None and command[0].__name__ in names


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
