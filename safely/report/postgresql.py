"""Reads PostgreSQL's catalogue, and what a published version shows of the owner's tables."""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from safely.errors import is_lock_timeout
from safely.ledger import snapshot
from safely.ledger.ledger import LOG, as_text
from safely.project import lock_key
from safely.report.contents import Build, RunningMigration, SetAside, StandbyLag
from safely.run import published
from safely.run.blockers import WAITING
from safely.run.migration_lock import HOLDER
from safely.run.set_aside import set_aside_by
from safely.standbys import AWAITED, standbys

STATE = sa.Table(published.STATE, sa.MetaData(), sa.Column("revision", sa.Text))
LOCK_TIMEOUT = "300ms"  # reading a definition waits for ALTER TABLE; a report gives up instead

# somebody else's schema may be called at_… too; a published version has the table of its state
PUBLISHED = f"""\
starts_with(nspname, 'at_') AND EXISTS (
  SELECT FROM pg_class WHERE relnamespace = pg_namespace.oid AND relname = '{published.STATE}')"""
VERSIONS = text(f"SELECT substr(nspname, 4) FROM pg_namespace WHERE {PUBLISHED}")

# The schemas through which this role can read the ledger or the revision, the one that shows most
# first: the schema of the tables, else a published version, the newest (one without a file here is
# newer than all that have one).
DOORS = text(f"""\
SELECT nspname, nspname = current_schema AS is_home,
  coalesce(has_table_privilege(to_regclass(quote_ident(nspname) || '.{published.LEDGER}'),
                               'SELECT'), false) AS has_ledger,
  coalesce(has_table_privilege(to_regclass(CASE WHEN nspname = current_schema
      THEN quote_ident(coalesce(CAST(:version_schema AS text), nspname)) || '.'
           || quote_ident(:version_table)
      ELSE quote_ident(nspname) || '.{published.STATE}' END), 'SELECT'), false) AS has_state
FROM pg_namespace
WHERE (nspname = current_schema OR {PUBLISHED}) AND has_schema_privilege(oid, 'USAGE')
ORDER BY has_ledger DESC, has_state DESC, is_home DESC NULLS LAST,
  array_position(CAST(:ids AS text[]), substr(nspname, 4)) DESC NULLS FIRST LIMIT 1""")

ABOUT = text("SELECT current_database(), split_part(current_setting('server_version'), ' ', 1)")
# whether there is a ledger or a version table; only asked if this role can't read the ledger
CLOSED = text(f"""\
SELECT EXISTS (SELECT FROM pg_class WHERE relkind = 'r' AND (
  relname = '{published.LEDGER}' OR relname = :version_table AND NOT :has_state))""")
HOME = text("""\
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = :ledger""")


COLUMNS = text("""\
SELECT relname, attname, reltuples
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = :home AND relkind IN ('r', 'p')
  AND NOT attisdropped AND starts_with(attname, '_aside_') ORDER BY 1, 2""")
TABLES = text("""\
SELECT substr(nspname, 7) AS revision, relname, pg_class.oid
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE starts_with(nspname, 'aside_') AND relkind IN ('r', 'p') ORDER BY 1, 2""")
SIZES = text(f"""\
SELECT jsonb_object_agg(oid, pg_total_relation_size(oid))::text
FROM (SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}', true)) AS settings,
  unnest(CAST(:tables AS bigint[])) AS oid""")


class PostgreSQL:
    """A database, read through the schema that shows this role most."""

    kind: Literal["postgresql"] = "postgresql"

    def __init__(
        self,
        connection: Connection,
        project: str,
        ids: Sequence[str],
        version_table: str,
        version_table_schema: str | None,
    ) -> None:
        """Find the schema to read through; `ids` are those of the revision files, in order."""
        self.connection = connection
        self.project = project
        self.ids = ids
        self.version_table = sa.Table(
            version_table,
            sa.MetaData(),
            sa.Column("version_num", sa.Text),
            schema=version_table_schema,
        )
        self.name, number = connection.execute(ABOUT).one()
        self.server = f"PostgreSQL {number}"
        parameters = {
            "ids": list(ids),
            "version_table": version_table,
            "version_schema": version_table_schema,
        }
        self.door: Any = connection.execute(DOORS, parameters).first()
        self.has_ledger = bool(self.door and self.door.has_ledger)
        self.has_state = bool(self.door and self.door.has_state)
        is_there = {"version_table": version_table, "has_state": self.has_state}
        self.is_closed = not self.has_ledger and bool(connection.scalar(CLOSED, is_there))
        if self.door:
            connection.execution_options(schema_translate_map={None: self.door.nspname})
        self.home = self.find_home() if self.has_ledger else None
        self.owners_view = self.read_owners_view() if self.has_ledger else {}

    def find_home(self) -> str | None:
        """Return the schema of the tables."""
        if self.door.is_home:
            return str(self.door.nspname)
        ledger = sa.select(sa.column("tableoid", sa.BigInteger)).select_from(LOG).limit(1)
        home: str | None = self.connection.scalar(HOME, {"ledger": self.connection.scalar(ledger)})
        return home

    def read_owners_view(self) -> dict[str, Any]:
        """Return the statistics and sessions that only the owner of the tables may see.

        Another role calls the function of a published version that shows them.
        """
        door = self.connection.dialect.identifier_preparer.quote(self.door.nspname)
        query = (
            published.SEEN if self.door.is_home else f"SELECT {door}.{published.SEEN_BY_OWNER}()"
        )
        values: dict[str, Any] = json.loads(self.connection.scalar(text(f"SELECT ({query})::text")))
        return values

    def heads(self) -> list[str]:
        """Return the revisions that the database is at: usually one, none at base."""
        if not self.has_state:
            return []
        (column,) = self.version_table.c if self.door.is_home else STATE.c
        return [head for head in self.connection.scalars(sa.select(column)) if head is not None]

    def snapshot(self) -> str | None:
        """Return the schema as the ledger records it; None while a table is locked."""
        name = str(self.home).replace("'", "''")
        home = (  # the first expression that the query evaluates, so it sets the timeout in time
            f"CASE WHEN set_config('lock_timeout', '{LOCK_TIMEOUT}', true) <> '' "
            f"THEN '{name}'::name END"
        )
        schema: str | None = self.scalar_unless_locked(
            sa.select(as_text(snapshot.postgresql(home)))
        )
        return schema

    def scalar_unless_locked(self, query: sa.Executable, **parameters: Any) -> Any:
        """Return the one value of a query; None where it would wait for a lock."""
        try:
            return self.connection.scalar(query, parameters)
        except DBAPIError as error:
            if not is_lock_timeout(error):
                raise
            return None

    def published(self) -> list[str]:
        """Return the revisions whose versions are published, in order."""
        return sorted(self.connection.scalars(VERSIONS), key=self.place)

    def place(self, revision: str) -> tuple[int, str]:
        """Return a key to sort revisions by; those without a file here come last."""
        is_known = revision in self.ids
        return self.ids.index(revision) if is_known else len(self.ids), revision

    def builds(self) -> list[Build]:
        """Return the builds that are connected, in the order of their revisions."""
        versions = self.published()
        connected = published.connected_builds(self.connection, self.project)
        builds = [
            Build(revision=revision, connections=count, is_published=revision in versions)
            for revision, count in connected.items()
            if revision
        ]
        return sorted(builds, key=lambda build: self.place(build.revision))

    def running(self) -> RunningMigration | None:
        """Return the migration that holds the migration lock."""
        pid = self.connection.scalar(HOLDER, {"key": lock_key(self.project)})
        if pid is None:
            return None
        since = (self.owners_view.get("migrating") or {}).get(str(pid))
        wait = self.connection.execute(WAITING, {"pid": pid}).first()
        return RunningMigration(
            connected_since=since and datetime.fromisoformat(since).astimezone(UTC),
            waiting=wait.seconds if wait else None,
            blockers=wait.blockers if wait else [],
            waits_for_standby=bool(
                self.connection.scalar(AWAITED, {"key": lock_key(self.project), "pid": pid})
            ),
        )

    def standbys(self) -> list[StandbyLag]:
        """Return the standbys that are connected; their lag is that of this moment."""
        return [
            StandbyLag(name=one.name, state=one.state, bytes=one.lag_bytes, seconds=one.lag_seconds)
            for one in standbys(self.connection)
        ]

    def set_aside(self, ids: Collection[str]) -> Iterator[SetAside]:
        """Yield what is set aside, and the space that it takes; `ids` are known revisions."""
        yield from self.columns_set_aside(ids)
        yield from self.tables_set_aside()

    def columns_set_aside(self, ids: Collection[str]) -> Iterator[SetAside]:
        """Yield the columns; their share of a table is estimated from what ANALYZE has sampled."""
        widths = self.owners_view.get("widths") or {}
        for table, column, rows in self.connection.execute(COLUMNS, {"home": self.home}):
            if (parts := set_aside_by(column, ids)) is None:
                continue
            revision, name = parts
            width = widths.get(f"{self.home}.{table}.{column}")
            yield SetAside(
                kind="column",
                revision=revision,
                name=f"{table}.{name}",
                bytes=None if width is None or rows < 0 else round(width * rows),
            )

    def tables_set_aside(self) -> Iterator[SetAside]:
        """Yield the tables; their space includes that of their indexes and TOAST tables."""
        tables = self.connection.execute(TABLES).all()
        oids = [row.oid for row in tables]
        sizes = self.scalar_unless_locked(SIZES, tables=oids) if tables else None
        by_oid = json.loads(sizes or "{}")
        for revision, name, oid in tables:
            size = by_oid.get(str(oid))
            yield SetAside(kind="table", revision=revision, name=name, bytes=size)
