"""Which locks in pg_locks are on tables of the application (PostgreSQL)."""

from safely.ledger.ledger import LOG

# Conditions on pg_class, and on pg_locks joined with it; $1 is `bookkeeping_tables`.
# The locks on those, on temporary tables and on the catalogue never hold up an application.
APPLICATION_TABLES = """\
relkind IN ('r', 'p', 'm') AND relpersistence <> 't'
  AND relnamespace <> 'pg_catalog'::regnamespace AND relname <> ALL ($1::text[])"""
ON_APPLICATION_TABLES = f"locktype = 'relation' AND {APPLICATION_TABLES}"


def bookkeeping_tables(version_table: str) -> list[str]:
    """Return the names of the tables that only migrations use: Alembic's and the ledger."""
    return [version_table, LOG.name]


def without_suffix(mode: str) -> str:
    """Return a lock's mode as PostgreSQL's documentation writes it: `AccessShare`, not `…Lock`."""
    return mode.removesuffix("Lock")
