"""The commands of `python -m migrations`: what each takes, and how it tells what it found.

A module has `WHAT` (its line in the help), `arguments(parser)` and `run(options, script)`, which
returns one of the exit codes below. The work itself is done in the modules above.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import LOCK_TIMEOUT, connected, settings_found
from safely.environment import Environment
from safely.project import Project
from service.models import Base

WELL, NO, UNKNOWN = 0, 1, 2
CODES = (
    "Exit codes: 0 all is well; 1 it is not: drift, a finding, a budget exceeded, a refusal by "
    "whoever was asked; 2 it can't be told or done."
)


@asynccontextmanager
async def at_the_database() -> AsyncIterator[AsyncEngine]:
    """An engine for the database that DATABASE_URL names."""
    async with connected(settings_found(), LOCK_TIMEOUT) as engine:
        yield engine


@asynccontextmanager
async def in_the_environment(script: ScriptDirectory) -> AsyncIterator[Environment]:
    """Yield this repository's environment, on the database that DATABASE_URL names."""
    project = Project(name="users", metadata=Base.metadata)
    async with at_the_database() as engine:
        yield Environment(project=project, config=Config(), script=script, engine=engine)
