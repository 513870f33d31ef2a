"""Compare the files of applied revisions with the ledger."""

from sqlalchemy import Connection

from safely.environment import Environment
from safely.ledger import drift
from safely.lint.findings import Finding

REMEDY = "put the file back as it was (git restore), and write a new revision for what it should do"


async def edited_files(environment: Environment) -> dict[str, Finding]:
    """Return a finding for each file that was edited after it was applied, by its revision.

    The caller makes sure that there is a database, since connecting creates an SQLite file. Raise
    CommandError where the database has no ledger.
    """
    descriptions = await environment.read(read_ledger, environment)
    return {
        revision: Finding.of("edited-file", (1, 1), REMEDY, edit=description.partition(": ")[2])
        for revision, description in descriptions.items()
    }


def read_ledger(connection: Connection, environment: Environment) -> dict[str, str]:
    """Return a description of each edit, by the revision of the file."""
    drift.refuse_missing(connection)
    heads = environment.migration(connection).get_current_heads()
    return drift.edited_files(connection, environment.script, heads)
