"""How migrations reach the database, and say in one line why they can't."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic.util import CommandError
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.run.migration_lock import NO_SESSION
from safely.scratch import embedded
from service.database import create_engine
from service.database_errors import causes, why_unreachable
from service.settings import Settings, SettingsError, async_url

LOCK_TIMEOUT = "100ms"  # how long clients may queue behind us; less than deadlock_timeout
NO_RIGHTS = ("42501", "3F000")  # SQLSTATEs: no privilege, no schema that one may use
Found = TypeVar("Found")
POOLED = ("08P01", "26000", "42P05")  # settings refused at connecting; statements of somebody else


def settings_found() -> Settings:
    """The service's own settings; the embedded database is started where none is named."""
    try:
        return embedded.resolved(Settings.from_environment(os.environ))
    except SettingsError as error:
        raise CommandError(str(error)) from error


@asynccontextmanager
async def connected(settings: Settings, lock_timeout: str) -> AsyncIterator[AsyncEngine]:
    """An engine for migrating; what the server refuses meanwhile is raised as CommandError.

    Its timeouts are arguments of the connection, so they hold from the first statement on.
    """
    engine = create_engine(
        settings,
        application_name="migrations",
        server_settings={
            "lock_timeout": lock_timeout,
            "statement_timeout": "0",  # a role's own would cut long index builds
            "idle_in_transaction_session_timeout": "0",
        },
        foreign_keys=False,  # safely.rebuild says why
        poolclass=NullPool,
    )
    try:
        yield engine
    except CommandError:
        raise  # it has its words already, whatever caused it
    except Exception as error:
        if reason := why_refused(error):
            raise CommandError(reason) from error
        if reason := why_unreachable(error):
            place = async_url(settings.database_url).render_as_string(hide_password=True)
            raise CommandError(f"can't reach {place}: {reason}") from error
        raise
    finally:
        await engine.dispose()


def is_there(engine: AsyncEngine) -> bool:
    """Return whether there may be a database: False for an SQLite file that does not exist."""
    return engine.dialect.name != "sqlite" or Path(str(engine.url.database)).exists()


async def read(engine: AsyncEngine, look: Callable[..., Found], *arguments: Any) -> Found:
    """What a function finds that only reads."""
    async with engine.execution_options(reading=True).connect() as connection:
        return await connection.run_sync(look, *arguments)


def why_refused(error: BaseException) -> str | None:
    """What the server doesn't let us do, in words; None if it is something else."""
    for cause in causes(error):
        state = getattr(cause, "sqlstate", None)
        if state in NO_RIGHTS:
            return f"this role may not migrate ({cause}): use the one that owns the tables"
        if state in POOLED:
            return NO_SESSION
    return None
