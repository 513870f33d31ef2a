"""What a database holds, in a form in which two can be compared: schema, rows, sequences."""

import hashlib
import json
import sqlite3
from typing import NamedTuple

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection

from safely.ledger import ledger, snapshot

VERSION = "alembic_version"
# rows as text depend on these; and who may not see every row shall be told
STEADY = (
    "search_path = pg_catalog, pg_temp",
    "TimeZone = 'UTC'",
    "DateStyle = 'ISO, YMD'",
    "IntervalStyle = 'postgres'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "lc_monetary = 'C'",
    "row_security = off",
)
# all whose rows are dumped: partitions, what is set aside, the ledger
TABLES = """\
SELECT CASE nspname WHEN 'public' THEN quote_ident(relname)
       ELSE format('%I.%I', nspname, relname) END AS name,
       format('%I.%I', nspname, relname) AS place
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND relpersistence <> 't'
  AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                  AND objid = pg_class.oid AND deptype = 'e')
ORDER BY 1"""
SEQUENCES = """\
SELECT CASE schemaname WHEN 'public' THEN quote_ident(sequencename)
       ELSE format('%I.%I', schemaname, sequencename) END AS name,
       last_value * sign(increment_by)::bigint AS reached
FROM pg_sequences WHERE schemaname !~ '^pg_' AND last_value IS NOT NULL"""


COUNT = "SELECT count(*), NULL FROM ONLY {place}"
# a sum doesn't mind the order; a hash alone would let two rows that are the same cancel each other
COUNT_AND_SUM = """\
SELECT count(*), sum(hashtextextended(fingerprinted_row\\:\\:text COLLATE "C", 0))\\:\\:text
FROM ONLY {place} AS fingerprinted_row"""


class Rows(NamedTuple):
    """A table's."""

    number: int
    checksum: str | None  # of all of them, in whatever order they lie


class Fingerprint(NamedTuple):
    """A database, as it was at one moment."""

    revision: str
    schema: dict[str, str]  # see safely.ledger.snapshot
    tables: dict[str, Rows]
    sequences: dict[str, int]  # how far each has got, negative for those that count down

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but, at most, what a first migration begins with."""
        return not self.rows and not self.tables.keys() - {VERSION, ledger.LOG.name}

    @property
    def rows(self) -> int:
        """How many there are, of all tables."""
        return sum(table.number for table in self.tables.values())


async def of_postgresql(connection: AsyncConnection, *, checksums: bool) -> Fingerprint:
    """What the connection's transaction sees, which is to end then: its settings are others."""
    schema = await connection.scalar(sa.select(ledger.as_text(ledger.SNAPSHOT["postgresql"])))
    revision = await connection.run_sync(revision_of)
    sequences = await sequences_of(connection)
    for setting in STEADY:
        await connection.execute(sa.text(f"SET LOCAL {setting}"))
    tables = {}
    for name, place in await tables_of(connection):
        counted = sa.text((COUNT_AND_SUM if checksums else COUNT).format(place=place))
        number, checksum = (await connection.execute(counted)).one()
        tables[name] = Rows(number, checksum)
    return Fingerprint(revision, json.loads(str(schema)), tables, sequences)


def revision_of(connection: sa.Connection) -> str:
    """Where the database is."""
    return min(MigrationContext.configure(connection).get_current_heads(), default="base")


async def sequences_of(connection: AsyncConnection) -> dict[str, int]:
    """How far they have got by now, whatever the transaction sees: they don't take part in any."""
    found = await connection.execute(sa.text(SEQUENCES.replace(":", r"\:")))
    return {name: int(reached) for name, reached in found}


async def tables_of(connection: AsyncConnection) -> list[tuple[str, str]]:
    """The tables, each by its name for people and by its whole name."""
    found = await connection.execute(sa.text(TABLES.replace(":", r"\:")))
    return [(name, place) for name, place in found]


def of_sqlite(connection: sqlite3.Connection, *, checksums: bool) -> Fingerprint:
    """What is seen in the connection's transaction."""
    (schema,) = connection.execute(ledger.SNAPSHOT["sqlite"]).fetchone()
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    tables = {}
    for (name,) in names.fetchall():
        place = '"{}"'.format(name.replace('"', '""'))
        (number,) = connection.execute(f"SELECT count(*) FROM {place}").fetchone()
        tables[name] = Rows(number, checksum_of(connection, place) if checksums else None)
    place = "SELECT max(version_num) FROM alembic_version"
    (revision,) = connection.execute(place).fetchone() if VERSION in tables else (None,)
    return Fingerprint(revision or "base", json.loads(schema), tables, {})


def checksum_of(connection: sqlite3.Connection, place: str) -> str:
    """Of all rows, in the order in which they lie, which a copy of the pages keeps."""
    digest = hashlib.blake2b(digest_size=16)
    for row in connection.execute(f"SELECT * FROM {place}"):
        digest.update(repr(row).encode(errors="surrogateescape"))
    return digest.hexdigest()


def differences(database: Fingerprint, backup: Fingerprint) -> list[str]:
    """What a backup has otherwise than the database that it is of, a sentence each."""
    told = [f"schema: {words}" for words in snapshot.differences(database.schema, backup.schema)]
    for name in sorted(database.tables.keys() | backup.tables.keys()):
        here, there = database.tables.get(name), backup.tables.get(name)
        if here is None or there is None:
            told.append(f"table {name}: is only in the {'database' if here else 'backup'}")
        elif here.number != there.number:
            told.append(
                f"table {name}: {here.number} rows in the database, {there.number} in the backup"
            )
        elif here.checksum != there.checksum:
            told.append(f"table {name}: some of its {here.number} rows differ")
    for name, reached in sorted(database.sequences.items()):
        got = backup.sequences.get(name)
        if got is None or got < reached:
            told.append(
                f"sequence {name}: has reached {abs(reached)} in the database, "
                f"{'nothing' if got is None else abs(got)} in the backup"
            )
    return told
