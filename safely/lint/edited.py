"""Applied revision files that were edited, where there is a ledger that knows."""

import os
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from safely.database import LOCK_TIMEOUT, connected, read, settings_found
from safely.ledger import drift
from safely.lint.findings import Finding, found
from safely.scratch import embedded
from service.settings import Settings, async_url

MENDING = (
    "put the file back as it was (git restore), and write a new revision for what it should do"
)


async def edited(directory: ScriptDirectory) -> dict[str, Finding]:
    """The edited files by their revisions; raise CommandError where there is nothing to ask."""
    async with connected(existing(), LOCK_TIMEOUT) as engine:
        files = await read(engine, look, directory)
    return {
        revision: found("edited-file", (1, 1), MENDING, words=words.partition(": ")[2])
        for revision, words in files.items()
    }


def look(connection: Connection, directory: ScriptDirectory) -> dict[str, str]:
    """The edited files, each in words; raise CommandError where there is no ledger."""
    drift.refuse_missing(connection)
    heads = MigrationContext.configure(connection).get_current_heads()
    return drift.edited_files(connection, directory, heads)


def existing() -> Settings:
    """The settings of a database that is there already; none is made by looking."""
    named = [os.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE")]
    own = embedded.locate("embedded:///users").exists
    if not own and all(name in (None, "", "embedded") for name in named):
        raise CommandError("no DATABASE_URL, and no embedded database in this clone")
    settings = settings_found()
    url = async_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise CommandError(f"there is no file {url.database}")
    return settings
