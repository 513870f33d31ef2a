"""Applied revision files that were edited, where there is a ledger that knows."""

from sqlalchemy import Connection

from safely.environment import Environment
from safely.ledger import drift
from safely.lint.findings import Finding, found

REMEDY = "put the file back as it was (git restore), and write a new revision for what it should do"


async def edited_files(environment: Environment) -> dict[str, Finding]:
    """Return a finding for each applied file that was edited, by its revision.

    The caller makes sure that the database exists: connecting creates an SQLite file. Raise
    CommandError where the database has no ledger.
    """
    descriptions = await environment.read(read_ledger, environment)
    return {
        revision: found("edited-file", (1, 1), REMEDY, words=description.partition(": ")[2])
        for revision, description in descriptions.items()
    }


def read_ledger(connection: Connection, environment: Environment) -> dict[str, str]:
    """Return a description of each edited file, by its revision."""
    drift.refuse_missing(connection)
    heads = environment.migration(connection).get_current_heads()
    return drift.edited_files(connection, environment.script, heads)
