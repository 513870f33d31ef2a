"""What PostgreSQL tells, beside the ledger."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from safely.ledger import snapshot
from safely.ledger.ledger import LOG, as_text
from safely.operations.aside import PREFIX
from safely.run import published
from safely.run.migration_lock import KEY
from service.database_errors import is_lock_timeout
from service.evolution.schemas import Aside, Build, Running

VERSION = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.Text))
STATE = sa.Table(published.STATE, sa.MetaData(), sa.Column("revision", sa.Text))
LOCK_TIMEOUT = "300ms"  # looking at a table waits for who alters it; the page need not

# the schemas through which this role may see something, the one that tells most first: the
# tables' own, else a version, the newest
DOORS = text(f"""\
SELECT nspname, nspname = current_schema AS is_home,
  coalesce(has_table_privilege(to_regclass(quote_ident(nspname) || '.{published.LEDGER}'),
                               'SELECT'), false) AS has_ledger,
  coalesce(has_table_privilege(to_regclass(quote_ident(nspname) || CASE
             WHEN nspname = current_schema THEN '.alembic_version' ELSE '.{published.STATE}' END),
                               'SELECT'), false) AS has_state
FROM pg_namespace
WHERE (nspname = current_schema OR nspname ~ '^at_[0-9]+$') AND has_schema_privilege(oid, 'USAGE')
ORDER BY has_ledger DESC, has_state DESC, is_home DESC NULLS LAST, nspname DESC LIMIT 1""")

ABOUT = text("SELECT current_database(), split_part(current_setting('server_version'), ' ', 1)")
# there is something to read, which this role may not
CLOSED = text(f"""\
SELECT EXISTS (SELECT FROM pg_class WHERE relkind = 'r' AND (
  relname = '{published.LEDGER}' OR relname = 'alembic_version' AND NOT :has_state))""")
HOME = text("""\
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = :ledger""")

HOLDER = text("""\
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND classid = 0 AND objid = :key AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1""")
WAITING = text("""\
SELECT extract(epoch FROM clock_timestamp() - waitstart)::float AS seconds, ARRAY(
  SELECT format('pid %s, %s', pid,
                coalesce(nullif(application_name, ''), 'an application without a name'))
  FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(:pid)) ORDER BY backend_start, pid
  LIMIT 5) AS blockers
FROM pg_locks WHERE pid = :pid AND NOT granted AND waitstart IS NOT NULL LIMIT 1""")

COLUMNS = text("""\
SELECT relname, attname, reltuples
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = :home AND relkind IN ('r', 'p')
  AND NOT attisdropped AND attname ~ '^_aside_[0-9]+_' ORDER BY 1, 2""")
TABLES = text("""\
SELECT substr(nspname, 7) AS revision, relname, pg_class.oid
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname ~ '^aside_[0-9]+$' AND relkind IN ('r', 'p') ORDER BY 1, 2""")
SIZES = text(f"""\
SELECT jsonb_object_agg(oid, pg_total_relation_size(oid))::text
FROM (SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}', true)) AS patience,
  unnest(CAST(:tables AS bigint[])) AS oid""")


class PostgreSQL:
    """A database, and through which door this role looks at it."""

    kind = "postgresql"

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name, number = connection.execute(ABOUT).one()
        self.server = f"PostgreSQL {number}"
        self.door: Any = connection.execute(DOORS).first()
        self.has_ledger = bool(self.door and self.door.has_ledger)
        has_state = bool(self.door and self.door.has_state)
        asked = {"has_state": has_state}
        self.is_closed = not self.has_ledger and bool(connection.scalar(CLOSED, asked))
        if self.door:
            connection.execution_options(schema_translate_map={None: self.door.nspname})
        self.home = self.find_home() if self.has_ledger else None
        self.seen = self.ask_owner() if self.has_ledger else {}

    def find_home(self) -> str | None:
        """The schema that is migrated."""
        if self.door.is_home:
            return str(self.door.nspname)
        itself = sa.select(sa.column("tableoid", sa.BigInteger)).select_from(LOG).limit(1)
        home: str | None = self.connection.scalar(HOME, {"ledger": self.connection.scalar(itself)})
        return home

    def ask_owner(self) -> dict[str, Any]:
        """What only the owner of the tables sees; a version lets us ask in the owner's name."""
        asked = f"SELECT {self.door.nspname}.{published.SEEN_BY_OWNER}()"
        query = published.SEEN if self.door.is_home else asked
        seen: dict[str, Any] = json.loads(self.connection.scalar(text(f"SELECT ({query})::text")))
        return seen

    def revision(self) -> str | None:
        """Where it is."""
        if not (self.door and self.door.has_state):
            return None
        (told,) = VERSION.c if self.door.is_home else STATE.c
        found: str | None = self.connection.scalar(sa.select(sa.func.max(told)))
        return found

    def snapshot(self) -> str | None:
        """The schema as it stands; None while somebody's lock is in the way."""
        name = str(self.home).replace("'", "''")
        home = (  # where the query begins, and its patience with it
            f"CASE WHEN set_config('lock_timeout', '{LOCK_TIMEOUT}', true) <> '' "
            f"THEN '{name}'::name END"
        )
        found: str | None = self.patiently(sa.select(as_text(snapshot.postgresql(home))))
        return found

    def patiently(self, query: sa.Executable, **values: Any) -> Any:
        """The one value of a query; None where somebody's lock is in its way."""
        try:
            return self.connection.scalar(query, values)
        except DBAPIError as error:
            if not is_lock_timeout(error):
                raise
            return None

    def published(self) -> list[str]:
        """The revisions that are published."""
        return published.revisions(self.connection)

    def builds(self) -> list[Build]:
        """Who is connected."""
        there = self.published()
        return [
            Build(revision=revision, connections=connections, published=revision in there)
            for name, connections in self.connection.execute(text(published.BUILDS))
            if (revision := name.removeprefix(published.BUILD))
        ]

    def running(self) -> Running | None:
        """Who has the turn."""
        pid = self.connection.scalar(HOLDER, {"key": KEY})
        if pid is None:
            return None
        since = (self.seen.get("migrating") or {}).get(str(pid))
        waiting = self.connection.execute(WAITING, {"pid": pid}).first()
        seconds, blockers = waiting or (None, [])
        return Running(
            since=since and datetime.fromisoformat(since).astimezone(UTC),
            waiting=seconds,
            blockers=list(blockers),
        )

    def aside(self) -> Iterator[Aside]:
        """What is set aside, and the space that it holds."""
        yield from self.columns_aside()
        yield from self.tables_aside()

    def columns_aside(self) -> Iterator[Aside]:
        """Columns; their share of a table is an estimate, by what ANALYZE has seen."""
        widths = self.seen.get("widths") or {}
        for table, column, rows in self.connection.execute(COLUMNS, {"home": self.home}):
            width = widths.get(f"{self.home}.{table}.{column}")
            revision, _, name = column.removeprefix(PREFIX).partition("_")
            yield Aside(
                kind="column",
                revision=revision,
                name=f"{table}.{name}",
                bytes=None if width is None or rows < 0 else round(width * rows),
            )

    def tables_aside(self) -> Iterator[Aside]:
        """Tables, with their indexes and their long values."""
        there = self.connection.execute(TABLES).all()
        asked = {"tables": [row.oid for row in there]}
        sizes = json.loads(self.patiently(SIZES, **asked) or "{}") if there else {}
        for revision, name, oid in there:
            yield Aside(kind="table", revision=revision, name=name, bytes=sizes.get(str(oid)))
