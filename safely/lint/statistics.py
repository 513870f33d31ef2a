"""Row counts, sizes and write rates of tables, and what they make of a finding.

A lock that is held for as long as PostgreSQL works through a table hurts where the table is large.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from safely.errors import causes, is_lock_timeout
from safely.ledger.ledger import LOG
from safely.lint.findings import Finding
from safely.lint.rules import RULES, Severity
from safely.lint.sql_text import unqualified
from safely.words import count, duration, size

VERSION = 1
SHORT = 0.1  # seconds that clients may wait: the default of lock_timeout
OF_ROWS = ("delete-at-once", "lossy-downgrade")  # which hurt no build, and nothing without rows
MEGABYTE = 1_000_000
ROW = 100  # bytes of a row, where only the number of rows is known
FEW = 10_000  # rows; fewer are counted on PostgreSQL, since its own figures are of the last ANALYZE
UNREADABLE = {"42501", "42P01", "55000"}  # no right, just dropped, a view that was never filled
MOST_ROWS = 1_000_000  # that are counted on SQLite
# the schemas in which unqualified names are looked for, and those of what is set aside
SCHEMAS = sa.text("""\
SELECT array_cat(current_schemas(false)::text[], array(
  SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, 'aside_') ORDER BY 1))
""")
POSTGRESQL = sa.text("""\
SELECT pg_class.oid, nspname, pg_class.relname, relkind::text, reltuples::bigint, relpages,
  nspname::text = ANY (:schemas) AS is_ours,
  (n_tup_ins + n_tup_upd + n_tup_del) / extract(epoch FROM now() - since)::float AS writes
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_stat_all_tables ON pg_stat_all_tables.relid = pg_class.oid
CROSS JOIN (SELECT coalesce(stats_reset, pg_postmaster_start_time()) AS since
  FROM pg_stat_database WHERE datname = current_database()) AS counting
WHERE relkind IN ('r', 'm', 'p') AND nspname <> 'information_schema'
  AND NOT starts_with(nspname, 'pg_')
""")
SIZE = {  # by kind: of a partitioned table, that of its partitions
    "p": "coalesce(sum(pg_table_size(relid)), 0) FROM pg_partition_tree({oid}) WHERE isleaf",
    "r": "pg_table_size({oid})",
    "m": "pg_table_size({oid})",
}
PAGE = 8192  # bytes, as PostgreSQL is built nearly everywhere
SQLITE = sa.text(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
)


class Table(NamedTuple):
    """The size of a table, and how much is written to it."""

    rows: int
    bytes: int
    """Of its rows, without indexes."""
    writes_per_second: float
    """Rows that were inserted, updated or deleted, on average since the server counts them."""


class Statistics(NamedTuple):
    """The tables of a database at some moment; a table that is missing didn't exist."""

    tables: dict[str, Table]
    """By `schema.table`; on SQLite by the name alone."""
    schemas: tuple[str, ...]
    """Where a name without a schema is looked for, in this order."""
    taken: str

    @property
    def is_empty(self) -> bool:
        """Whether no table has rows."""
        return not any(table.rows for table in self.tables.values())

    def find(self, name: str) -> Table | None:
        """Return the table of a name in SQL; None where there is none."""
        schema, table = parts_of(name)
        places = [schema] if schema else self.schemas
        keys = (key_of(place, table) for place in places)
        return next((self.tables[key] for key in keys if key in self.tables), None)

    def renamed(self, name: str, new: str) -> "Statistics":
        """Return the statistics in which a table has also a new name, in the same schema."""
        schema, _ = parts_of(name)
        table = self.find(name)
        if table is None:
            return self
        key = key_of(schema or next(iter(self.schemas), ""), unqualified(new))
        return self._replace(tables={key: table, **self.tables})


def parts_of(name: str) -> tuple[str, str]:
    """Return the schema of a name in SQL, which may be empty, and the name itself."""
    table = unqualified(name)
    before = name.removesuffix(f'"{table}"').removesuffix(table).removesuffix(".")
    return unqualified(before), table


def key_of(schema: str, table: str) -> str:
    """Return the key of a table in statistics."""
    return f"{schema}.{table}" if schema else table


def read(connection: Connection, version_table: str) -> Statistics:
    """Return the statistics of the database, without the tables in which Alembic and we keep."""
    schemas: tuple[str, ...] = ("",)
    tables = sqlite(connection)
    if connection.dialect.name == "postgresql":
        schemas = tuple(connection.scalar(SCHEMAS))
        tables = postgresql(connection, schemas)
    ours = (version_table, LOG.name)
    kept = {key_of(schema, name): table for schema, name, table in tables if name not in ours}
    return Statistics(kept, schemas, datetime.now(UTC).isoformat(timespec="seconds"))


def postgresql(
    connection: Connection, schemas: tuple[str, ...]
) -> Iterator[tuple[str, str, Table]]:
    """Yield schema, name and size of each table on PostgreSQL; `schemas` are those that matter."""
    for row in connection.execute(POSTGRESQL, {"schemas": list(schemas)}).all():
        rows, size = max(row.reltuples, 0), row.relpages * PAGE
        if row.is_ours or row.reltuples < FEW:
            rows, size = measured(connection, row) or (max(rows, 1), size)
        yield row.nspname, row.relname, Table(rows, size, round(float(row.writes or 0), 2))


def measured(connection: Connection, row: sa.Row[Any]) -> tuple[int, int] | None:
    """Return the rows of a table (exactly of a small one, else as the planner expects) and bytes.

    None for a table that can't be read, or that somebody has locked: nothing waits for that.
    """
    quote = connection.dialect.identifier_preparer.quote_identifier
    path = f"{quote(row.nspname)}.{quote(row.relname)}"
    try:
        with connection.begin_nested():
            size = int(
                connection.scalar(sa.text(f"SELECT {SIZE[row.relkind].format(oid=row.oid)}"))
            )
            rows = int(row.reltuples)
            if rows < FEW:  # or it was never analyzed, or has changed much since
                some = f"SELECT count(*) FROM (SELECT FROM {path} LIMIT {FEW}) AS few"
                rows = int(connection.scalar(sa.text(some)) or 0)
                if rows == FEW:
                    plan = connection.scalar(sa.text(f"EXPLAIN (FORMAT JSON) SELECT FROM {path}"))
                    content: Any = json.loads(plan) if isinstance(plan, str) else plan
                    rows = int(content[0]["Plan"]["Plan Rows"])
    except DBAPIError as error:
        states = {getattr(cause, "sqlstate", None) for cause in causes(error)}
        if states & UNREADABLE or is_lock_timeout(error):
            return None
        raise
    return rows, size


def sqlite(connection: Connection) -> Iterator[tuple[str, str, Table]]:
    """Yield the tables of SQLite, which keeps no statistics of its own."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for name in connection.scalars(SQLITE).all():
        some = f"SELECT 1 FROM {quote(name)} LIMIT {MOST_ROWS}"
        rows = int(connection.scalar(sa.text(f"SELECT count(*) FROM ({some})")) or 0)
        yield "", name, Table(rows, rows * ROW, 0.0)


def as_json(statistics: Statistics) -> str:
    """Return the statistics for `load`: names and numbers, no data."""
    tables = {name: table._asdict() for name, table in sorted(statistics.tables.items())}
    content = {
        "version": VERSION,
        "taken": statistics.taken,
        "schemas": statistics.schemas,
        "tables": tables,
    }
    return json.dumps(content, indent=1)


def load(path: Path) -> Statistics:
    """Return the statistics of a file; raise CommandError where it has none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CommandError(f"{path} has statistics of version {content['version']}, not 1")
        tables = {
            str(name): Table(
                int(table["rows"]), int(table["bytes"]), float(table["writes_per_second"])
            )
            for name, table in content["tables"].items()
        }
        return Statistics(tables, tuple(map(str, content["schemas"])), str(content["taken"]))
    except FileNotFoundError:
        raise CommandError(
            f"there is no {path}: write it where production is (python -m safely stats > {path}), "
            "or say --stats live"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        words = f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} has no statistics of `safely stats` ({words})") from error


def judge(finding: Finding, statistics: Statistics) -> Finding:
    """Return the finding with the severity that it has on tables of these sizes.

    A grave one is a note where clients would wait for less than a moment; else it says how long
    they would wait. It is a note as well where its tables have no rows, unless they are in use and
    it breaks builds, which need no rows for that.
    """
    rule, tables = RULES.get(finding.rule), tables_of(finding)
    if rule is None or not tables or Severity.GRAVE not in (finding.severity, rule.severity):
        return finding
    found = [statistics.find(table) for table in tables]
    if not any(table is not None and table.rows for table in found):
        is_in_use = any(found) and not statistics.is_empty
        if is_in_use and rule.speed is None and finding.rule not in OF_ROWS:
            return finding
        names = " and ".join(dict.fromkeys(map(unqualified, tables)))
        return with_words(finding, f"Here {names} has no rows.", Severity.NOTE)
    if rule.speed is None:
        return finding
    table = found[0] or Table(0, 0, 0.0)  # the one that is worked through
    seconds = table.bytes / (rule.speed * MEGABYTE)
    facts = f"{unqualified(tables[0])} has about {count(table.rows, 'row')} ({size(table.bytes)}"
    if table.writes_per_second >= 1:
        facts += f", and {count(round(table.writes_per_second), 'row')} are written a second"
    wait = f"{facts}): about {duration(seconds)}, if PostgreSQL does {rule.speed} MB a second."
    return with_words(finding, wait, Severity.NOTE if seconds < SHORT else finding.severity)


def tables_of(finding: Finding) -> list[str]:
    """Return the tables that a finding is about, as the SQL names them."""
    return [table for table, _ in finding.locks if table]


def lacks_table(statistics: Statistics, finding: Finding) -> bool:
    """Return whether a grave finding is about a table that is not there, by this name at least."""
    is_grave = finding.severity is Severity.GRAVE
    return is_grave and any(statistics.find(table) is None for table in tables_of(finding))


def with_words(finding: Finding, sentence: str, severity: Severity) -> Finding:
    """Return a finding with another severity, and one more sentence that says why."""
    why = f"{finding.why} {sentence}".strip()
    return finding._replace(why=why, severity=min(severity, finding.severity))


def assumes_size(finding: Finding) -> bool:
    """Return whether the severity of a finding depends on sizes that nobody has told."""
    rule = RULES.get(finding.rule)
    return rule is not None and rule.speed is not None
