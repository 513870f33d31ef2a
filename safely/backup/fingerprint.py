"""The content of a database in a form that can be compared: schema, rows, sequences."""

import hashlib
import json
import sqlite3
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.backup import sqlite_files
from safely.database import connected, usable
from safely.environment import Environment
from safely.ledger import ledger, snapshot

# The text of a row depends on these. With row_security off, a role that can't see all rows gets an
# error instead of some of them.
ROW_SETTINGS = (
    "search_path = pg_catalog, pg_temp",
    "TimeZone = 'UTC'",
    "DateStyle = 'ISO, YMD'",
    "IntervalStyle = 'postgres'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "lc_monetary = 'C'",
    "row_security = off",
)
# every table whose rows pg_dump writes, in all schemas: partitions, what is set aside, the ledger
TABLES = """\
SELECT CASE WHEN nspname = current_schema THEN quote_ident(relname)
       ELSE format('%I.%I', nspname, relname) END AS name,
       format('%I.%I', nspname, relname) AS qualified_name, relname
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't'
  AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                  AND objid = pg_class.oid AND deptype = 'e')
ORDER BY 1"""
SEQUENCES = """\
SELECT CASE WHEN schemaname = current_schema THEN quote_ident(sequencename)
       ELSE format('%I.%I', schemaname, sequencename) END AS name,
       last_value * sign(increment_by)::bigint AS reached
FROM pg_sequences WHERE schemaname !~ '^pg_' AND last_value IS NOT NULL"""

COUNT = "SELECT count(*), NULL FROM ONLY {table}"
# A sum of hashes does not depend on the order of the rows. XOR would not either, but two equal rows
# would cancel each other out.
COUNT_AND_CHECKSUM = """\
SELECT count(*), sum(hashtextextended(fingerprinted_row\\:\\:text COLLATE "C", 0))\\:\\:text
FROM ONLY {table} AS fingerprinted_row"""


class Rows(NamedTuple):
    """The rows of a table."""

    number: int
    checksum: str | None  # None: not computed


class Table(NamedTuple):
    """A table's names."""

    name: str  # for people, and to compare: without the schema if that is the application's
    qualified_name: str  # for SQL
    bare_name: str


class Fingerprint(NamedTuple):
    """The content of a database at one moment."""

    revision: str  # "base" where there is none
    schema: dict[str, str]  # see safely.ledger.snapshot
    tables: dict[str, Rows]
    sequences: dict[str, int]  # the last value of each; negative for those that count down
    is_empty: bool = False  # no rows, and no tables but those that a first migration makes

    @property
    def rows(self) -> int:
        """Return the number of rows in all tables."""
        return sum(table.number for table in self.tables.values())


async def of_database(
    environment: Environment, address: str | URL, schema: str | None
) -> Fingerprint:
    """Return the fingerprint, with checksums, of a database that nobody changes.

    It holds the environment's project, in this schema on PostgreSQL.
    """
    url = usable(address)
    if url.get_backend_name() == "sqlite":
        return await sqlite_files.read(
            sqlite_files.file_of(url),
            lambda connection: of_sqlite(connection, environment, checksums=True),
        )
    async with connected(url, schema=schema) as engine, engine.connect() as connection:
        return await of_postgresql(connection, environment, checksums=True)


async def of_postgresql(
    connection: AsyncConnection, environment: Environment, *, checksums: bool
) -> Fingerprint:
    """Return the fingerprint of what the connection's transaction sees.

    Afterwards the caller must end the transaction, since its settings were changed.
    """
    schema = await connection.scalar(sa.select(ledger.as_text(ledger.SNAPSHOT["postgresql"])))
    revision = await connection.run_sync(environment.revision)
    sequences, tables = await read_sequences(connection), await read_tables(connection)
    for setting in ROW_SETTINGS:
        await connection.execute(sa.text(f"SET LOCAL {setting}"))
    rows = {}
    for table in tables:
        query = COUNT_AND_CHECKSUM if checksums else COUNT
        statement = sa.text(query.format(table=table.qualified_name.replace(":", r"\:")))
        number, checksum = (await connection.execute(statement)).one()
        rows[table.name] = Rows(number, checksum)
    names = [table.bare_name for table in tables]
    return Fingerprint(
        revision or "base",
        json.loads(schema or "{}"),  # NULL: the schema is empty
        rows,
        sequences,
        is_empty(environment, names, rows),
    )


def is_empty(environment: Environment, names: list[str], rows: dict[str, Rows]) -> bool:
    """Return whether there are no rows, and no tables but those that a first migration makes."""
    first = {environment.version_table, ledger.LOG.name}
    return first.issuperset(names) and not any(table.number for table in rows.values())


async def read_sequences(connection: AsyncConnection) -> dict[str, int]:
    """Return the last value of each sequence now: sequences take part in no transaction."""
    rows = await connection.execute(sa.text(SEQUENCES.replace(":", r"\:")))
    return {name: int(reached) for name, reached in rows}


async def read_tables(connection: AsyncConnection) -> list[Table]:
    """Return the tables of all schemas."""
    rows = await connection.execute(sa.text(TABLES.replace(":", r"\:")))
    return [Table(*row) for row in rows]


def of_sqlite(
    connection: sqlite3.Connection, environment: Environment, *, checksums: bool
) -> Fingerprint:
    """Return the fingerprint of what the connection's transaction sees."""
    (schema,) = connection.execute(ledger.SNAPSHOT["sqlite"]).fetchone()
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    rows = {
        name: Rows(
            sqlite_files.count_rows(connection, name),
            checksum_of(connection, name) if checksums else None,
        )
        for name in sqlite_files.tables_in(connection)
    }
    revision = None
    if environment.version_table in rows:
        table = sqlite_files.quoted(environment.version_table)
        revision = connection.execute(f"SELECT version_num FROM {table}").fetchone()
    return Fingerprint(
        revision[0] if revision else "base",
        json.loads(schema),
        rows,
        {},
        is_empty(environment, list(rows), rows),
    )


def checksum_of(connection: sqlite3.Connection, table: str) -> str:
    """Return a checksum of all rows in the order of the file, which a copy of its pages keeps."""
    digest = hashlib.blake2b(digest_size=16)
    for row in connection.execute(f"SELECT * FROM {sqlite_files.quoted(table)}"):
        digest.update(repr(row).encode(errors="surrogateescape"))
    return digest.hexdigest()


def differences(database: Fingerprint, backup: Fingerprint) -> list[str]:
    """Return what differs between a database and its backup, a sentence each."""
    sentences = [
        f"schema: {words}" for words in snapshot.differences(database.schema, backup.schema)
    ]
    for name in sorted(database.tables.keys() | backup.tables.keys()):
        original, copy = database.tables.get(name), backup.tables.get(name)
        if original is None or copy is None:
            sentences.append(f"table {name}: is only in the {'database' if original else 'backup'}")
        elif original.number != copy.number:
            sentences.append(
                f"table {name}: {original.number} rows in the database, {copy.number} in the backup"
            )
        elif original.checksum != copy.checksum:
            sentences.append(f"table {name}: some of its {original.number} rows differ")
    for name, reached in sorted(database.sequences.items()):
        restored = backup.sequences.get(name)
        if restored is None or restored < reached:  # it would give a number again
            sentences.append(
                f"sequence {name}: has reached {abs(reached)} in the database, "
                f"{'nothing' if restored is None else abs(restored)} in the backup"
            )
    return sentences
