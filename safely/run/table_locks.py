"""Which locks in pg_locks are on tables of the application (PostgreSQL)."""

from safely.ledger.ledger import LOG

# A condition on pg_locks joined with pg_class; $1 is `bookkeeping_tables`.
# The locks on those, on temporary tables and on the catalogue never hold up an application.
ON_APPLICATION_TABLES = """\
locktype = 'relation' AND relkind IN ('r', 'p') AND relpersistence <> 't'
  AND relnamespace <> 'pg_catalog'::regnamespace AND relname <> ALL ($1::text[])"""


def bookkeeping_tables(version_table: str) -> list[str]:
    """Return the names of the tables that only migrations use: Alembic's and the ledger."""
    return [version_table, LOG.name]


def without_suffix(mode: str) -> str:
    """Return a lock's mode as PostgreSQL's documentation writes it: `AccessShare`, not `…Lock`."""
    return mode.removesuffix("Lock")
