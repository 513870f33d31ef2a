"""What the engine owns in a database: published versions, what keeps them going, what is set aside.

Reading it takes no lock on a table of the application, and needs no right on one.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import text

from safely.alembic_internals import MigrationContext, version_table
from safely.database import as_literal
from safely.ledger.ledger import LOG


class Fact(NamedTuple):
    """Something that is true of an object of the engine."""

    kind: str
    version: str
    """The published version, or the revision whose older builds need a trigger; or empty."""
    id: str
    name: str
    """For people: a table may be renamed, so it tells no two facts apart."""
    value: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the fact apart from the others."""
        return self.kind, self.version, self.id


Facts = dict[tuple[str, str, str], Fact]

# The place of a view's query in pg_rewrite changes with CREATE OR REPLACE, and not where a column
# of the table is renamed. `asker`: the role with whose rights a view reads and writes its table.
POSTGRESQL = r"""
WITH versions AS MATERIALIZED (
  SELECT place.oid, substr(nspname, 4) AS version, nspowner,
    coalesce(nspacl, acldefault('n', nspowner)) AS rights
  FROM pg_namespace AS place
  WHERE starts_with(nspname, 'at_') AND (nspname = {this_version} OR EXISTS (
    SELECT FROM pg_class
    WHERE relnamespace = place.oid AND relname = 'schema_state' AND relkind = 'v'))),
views AS MATERIALIZED (
  SELECT pg_class.oid, version, relname AS name, relowner, reloptions,
    coalesce(relacl, acldefault('r', relowner)) AS rights,
    coalesce((SELECT bool_or(option_value::boolean) FROM pg_options_to_table(reloptions)
              WHERE option_name = 'security_invoker'), false) AS is_invoker
  FROM pg_class JOIN versions ON relnamespace = versions.oid WHERE relkind = 'v'),
shown AS MATERIALIZED (  -- each view shows one table, so one of its dependencies tells which
  SELECT version, name, base.oid,
    CASE WHEN is_invoker THEN to_regrole(quote_ident({role}))::oid ELSE relowner END AS asker
  FROM views JOIN pg_rewrite ON ev_class = views.oid AND rulename = '_RETURN',
  LATERAL (SELECT refobjid AS oid FROM pg_depend
           WHERE classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
             AND refclassid = 'pg_class'::regclass AND refobjid <> views.oid LIMIT 1) AS base),
home AS MATERIALIZED (SELECT oid FROM pg_namespace WHERE nspname = {home}),
aside AS MATERIALIZED (SELECT oid, nspname FROM pg_namespace WHERE starts_with(nspname, 'aside_')),
helpers AS MATERIALIZED (
  SELECT pg_proc.oid, '' AS version, proname, proowner, prosecdef, prosrc, proconfig, proacl,
    pronamespace
  FROM pg_proc JOIN home ON pronamespace = home.oid
  WHERE proname IN ('fill_missing', 'sync_retyped')
  UNION ALL
  SELECT pg_proc.oid, version, proname, proowner, prosecdef, prosrc, proconfig, proacl,
    pronamespace
  FROM pg_proc JOIN versions ON pronamespace = versions.oid WHERE proname = 'seen_by_owner')
SELECT 'version' AS kind, version, '' AS id, '' AS name, concat_ws(' ', nspowner, (
    SELECT count(*) FROM pg_depend
    WHERE refclassid = 'pg_namespace'::regclass AND refobjid = versions.oid)) AS value
FROM versions
UNION ALL SELECT 'rights', version, '', '', array_to_string(rights, E'\n') FROM versions
UNION ALL SELECT 'rights', version, name, name, array_to_string(rights, E'\n') FROM views
UNION ALL SELECT 'view', version, name, name, concat_ws(' ', relowner, reloptions) FROM views
UNION ALL SELECT 'columns', version, name, name, (
  SELECT string_agg(attname, E'\n' ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = views.oid AND attnum > 0 AND NOT attisdropped) FROM views
UNION ALL SELECT 'query', version, name, name, string_agg(part, E'\n' ORDER BY part)
  FROM views JOIN (
    SELECT ev_class AS oid, concat_ws(' ', rulename, ctid, ev_enabled) AS part FROM pg_rewrite
    UNION ALL SELECT tgrelid, concat_ws(' ', tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT adrelid, concat_ws(' ', adnum, ctid) FROM pg_attrdef) AS parts USING (oid)
  GROUP BY version, name
UNION ALL SELECT 'reach', version, name, name, concat_ws(E'\n',
    CASE WHEN has_table_privilege(asker, oid, 'SELECT') THEN 'SELECT' END,
    CASE WHEN has_table_privilege(asker, oid, 'INSERT') THEN 'INSERT' END,
    CASE WHEN has_table_privilege(asker, oid, 'UPDATE') THEN 'UPDATE' END,
    CASE WHEN has_table_privilege(asker, oid, 'DELETE') THEN 'DELETE' END)
  FROM shown WHERE asker IS NOT NULL
UNION ALL SELECT 'reach', '', pg_class.oid::text, relname, 'USAGE'
  FROM pg_class
  WHERE relkind = 'S' AND relnamespace IN (SELECT oid FROM home UNION ALL SELECT oid FROM aside)
    AND has_sequence_privilege(
    to_regrole(quote_ident(nullif({role}, '')))::oid, pg_class.oid, 'USAGE')
UNION ALL SELECT 'trigger', CASE proname
    WHEN 'fill_missing' THEN split_part(encode(tgargs, 'escape'), '\000', 2)
    ELSE regexp_replace(split_part(encode(tgargs, 'escape'), '\000', 1), '^_aside_(.*)_$', '\1')
    END, concat_ws(' ', tgrelid, tgname), format('%s on %s', tgname, relname),
    concat_ws(' ', tgenabled, tgtype, tgattr, md5(tgargs))
  FROM pg_trigger JOIN helpers ON helpers.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid
  WHERE tgparentid = 0
UNION ALL SELECT 'function', version, proname, proname,
    concat_ws(' ', proowner, prosecdef, md5(prosrc), proconfig, proacl) FROM helpers
UNION ALL SELECT 'aside', '', concat_ws(' ', attrelid, attnum), format('%s.%s', relname, attname),
    concat_ws(' ', attname, format_type(atttypid, atttypmod))
  FROM pg_class JOIN home ON relnamespace = home.oid JOIN pg_attribute ON attrelid = pg_class.oid
  WHERE relkind IN ('r', 'p') AND attnum > 0 AND starts_with(attname, '_aside_')
    AND NOT attisdropped
UNION ALL SELECT 'aside', '', pg_class.oid::text, relname, relname
  FROM pg_class JOIN home ON relnamespace = home.oid
  WHERE relkind IN ('i', 'I') AND starts_with(relname, '_aside_')
UNION ALL SELECT 'aside', '', pg_constraint.oid::text, conname, conname
  FROM pg_constraint JOIN home ON connamespace = home.oid WHERE starts_with(conname, '_aside_')
UNION ALL SELECT 'aside', '', aside.oid::text, nspname,
    concat_ws(' ', nspname, obj_description(oid, 'pg_namespace')) FROM aside
UNION ALL SELECT 'aside table', '', pg_class.oid::text, format('%s.%s', nspname, relname),
    concat_ws(' ', relname, relfilenode, (
      SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped))
  FROM pg_class JOIN aside ON relnamespace = aside.oid WHERE relkind IN ('r', 'p')
UNION ALL SELECT 'aside', '', pg_type.oid::text, typname,
    (regexp_match(obj_description(pg_type.oid, 'pg_type'), 'safely: ([^\n]*)$'))[1]
  FROM pg_type JOIN home ON typnamespace = home.oid
  WHERE typtype = 'e' AND obj_description(pg_type.oid, 'pg_type') ~ 'safely: [^\n]*$'
UNION ALL SELECT 'table', '', pg_class.oid::text, relname, concat_ws(' ', relname, relnamespace,
    relfilenode, (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
                  WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped))
  FROM pg_class
  WHERE oid IN (to_regclass({version_table}), to_regclass(format('%I.{ledger}', {home}::text)))
"""

# rows that the open transaction has written, also those that it has taken back since
WRITTEN = """\
SELECT CASE WHEN oid = ANY (catalogue) THEN '' ELSE oid::text END, sum(
  pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid)
  + pg_stat_get_xact_tuples_deleted(oid))::bigint
FROM (SELECT ARRAY[{catalogue}]::regclass[]::oid[] AS catalogue) AS catalogues,
  unnest(catalogue || ARRAY[{ids}]::oid[]) AS oid
GROUP BY 1"""
CATALOGUE = ", ".join(
    f"'pg_catalog.pg_{name}'"
    for name in (
        *("attrdef", "attribute", "class", "constraint", "description", "namespace", "proc"),
        *("rewrite", "trigger", "type"),
    )
)
COLUMNS_OF = """\
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(format('%I.%I', {home}::text, {table}::text)) AND attnum > 0
  AND NOT attisdropped"""

# For a script of `--sql`: what no operation changes, whatever a function does that it calls. The
# function stands in the script once, and not in every step.
SCRIPT_FUNCTION = "pg_temp.published_facts"
CREATE_SCRIPT_FUNCTION = """\
CREATE OR REPLACE FUNCTION {function}()
RETURNS TABLE (kind text, version text, id text, value text) LANGUAGE sql AS $look$
SELECT kind, version, id, value FROM ({query}) AS facts
WHERE kind IN ('version', 'view', 'columns', 'reach')
$look$"""
KEEP = """\
DO $keep$ BEGIN
  DROP TABLE IF EXISTS pg_temp.safely_published;  -- of a script that was cut off in this session
  CREATE TEMPORARY TABLE safely_published AS SELECT * FROM {function}();
END $keep$"""
COMPARE = """\
DO $compare$
DECLARE
  broken text := (
    SELECT string_agg(DISTINCT concat_ws('.', 'at_' || version, nullif(id, '')), ', ')
    FROM safely_published AS before LEFT JOIN {function}() AS now USING (kind, version, id)
    WHERE now.value IS NULL OR CASE kind
      WHEN 'version' THEN false  -- it counts objects, and views tell more
      WHEN 'reach' THEN NOT string_to_array(before.value, E'\\n')
        <@ string_to_array(now.value, E'\\n')
      ELSE before.value <> now.value END);
BEGIN
  IF broken IS NOT NULL THEN
    RAISE EXCEPTION 'revision % breaks published versions, whose builds would fail: %',
                    {revision}, broken;
  END IF;
  DROP TABLE safely_published;
END $compare$"""

TABLES = ("table", "aside table")  # the kinds of facts about tables whose rows are the engine's

SQLITE = r"""
SELECT 'aside table', '', name, name, (
  SELECT group_concat(column.name, ' ') FROM pragma_table_xinfo(kept.name) AS column)
FROM sqlite_master AS kept WHERE type = 'table' AND name GLOB '_aside_*'
UNION ALL SELECT 'aside', '', name, name, type FROM sqlite_master
WHERE type = 'index' AND (name GLOB '_aside_*' OR tbl_name GLOB '_aside_*') AND sql IS NOT NULL
UNION ALL SELECT 'aside', '', column.name, column.name, group_concat(column.type, ' ')
FROM sqlite_master AS kept, pragma_table_xinfo(kept.name) AS column
WHERE kept.type = 'table' AND column.name GLOB '_aside_*' GROUP BY column.name
UNION ALL SELECT 'table', '', name, name, (
  SELECT group_concat(column.name, ' ') FROM pragma_table_xinfo(kept.name) AS column)
FROM sqlite_master AS kept WHERE type = 'table' AND name IN ({version_table}, '{ledger}')
"""
SQLITE_WRITTEN = "SELECT total_changes() + schema_version FROM pragma_schema_version"
LEDGER_ROWS = f"""\
SELECT group_concat(id || revision || direction || state || ifnull(checksum, ''), ' ')
FROM {LOG.name}"""
VERSION_ROWS = "SELECT group_concat(version_num, ' ') FROM {}"


class Owned:
    """Reads what the engine owns, on the connection of a migration."""

    def __init__(self, migration: MigrationContext) -> None:
        connection = migration.connection
        assert connection is not None  # noqa: S101  # only --sql has none
        self.connection = connection
        self.on_postgresql = migration.dialect.name == "postgresql"
        self.version_table = version_table(migration)
        if self.on_postgresql:
            [[home]] = self.rows("SELECT coalesce(current_schema, '')")
            self.home = as_literal(home)
            self.query = postgresql_query(migration, self.home)
        else:
            name = as_literal(migration.version_table)
            self.query = SQLITE.format(version_table=name, ledger=LOG.name)

    def facts(self) -> Facts:
        """Return the facts as they are now."""
        facts = [Fact(*row) for row in self.rows(self.query)]
        if not self.on_postgresql:
            tables = [fact.name for fact in facts if fact.kind == "table"]
            for name in tables:
                query = LEDGER_ROWS if name == LOG.name else VERSION_ROWS.format(self.version_table)
                [[rows]] = self.rows(query)
                facts.append(Fact("rows", "", name, name, str(rows)))
        return {fact.key: fact for fact in facts}

    def written(self, facts: Facts) -> dict[str, int]:
        """Return how many rows were written, by the id of each table among the facts.

        On PostgreSQL by the open transaction, with those of the catalogue under the empty id; on
        SQLite by the connection, all under the empty id, with the changes of the schema.
        """
        if not self.on_postgresql:
            [[number]] = self.rows(SQLITE_WRITTEN)
            return {"": number}
        ids = [fact.id for fact in facts.values() if fact.kind in TABLES]
        query = WRITTEN.format(ids=", ".join(ids), catalogue=CATALOGUE)
        return dict(self.rows(query))

    def rows_of(self, facts: Facts, ids: Collection[str], statement: str) -> Iterator[Fact]:
        """Yield the facts about rows of the tables with these ids, which a statement has written.

        On SQLite it is asked whether the statement names the table.
        """
        for fact in facts.values():
            is_written = (
                fact.id in ids
                if self.on_postgresql
                else fact.kind == "aside table" and ("" in ids and fact.name in statement)
            )
            if fact.kind in TABLES and is_written:
                yield fact._replace(kind="rows" if fact.kind == "table" else "aside rows")

    def columns_of(self, table_name: str) -> list[str]:
        """Return the columns of a table as it is now; none where it is gone, or on SQLite."""
        if not self.on_postgresql:
            return []
        query = COLUMNS_OF.format(home=self.home, table=as_literal(table_name))
        return [column for (column,) in self.rows(query)]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, beside SQLAlchemy, whose events would call us again."""
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]
        finally:
            cursor.close()


def create_script_function(migration: MigrationContext) -> None:
    """Print the function with which the steps of a script look at published versions."""
    if migration.dialect.name == "postgresql":
        query = postgresql_query(migration, "current_schema")
        create = CREATE_SCRIPT_FUNCTION.format(function=SCRIPT_FUNCTION, query=query)
        migration.execute(text(create.replace(":", r"\:")))


def postgresql_query(migration: MigrationContext, home: str) -> str:
    """Return the query for the facts; `home` is the schema of the tables, as an expression."""
    return POSTGRESQL.format(
        home=home,
        role=as_literal(migration.opts["project"].app_role),
        this_version=as_literal(f"at_{migration.opts.get('revision', '')}"),
        version_table=as_literal(version_table(migration)),
        ledger=LOG.name,
    )


def is_kept(before: Fact, now: Fact | None) -> bool:
    """Return whether a fact still holds. Rights may be added, and must not be taken away."""
    if now is None:
        return False
    if before.kind == "rights":
        then, still = rights(before.value), rights(now.value)
        return all(privileges <= still.get(role, set()) for role, privileges in then.items())
    if before.kind == "reach":
        return set(before.value.split()) <= set(now.value.split())
    return before.value == now.value


def rights(lines: str) -> dict[str, set[str]]:
    """Return the letters of the privileges of each role in an access list of PostgreSQL."""
    privileges: dict[str, set[str]] = {}
    for line in lines.splitlines():
        role, _, letters = line.rpartition("/")[0].rpartition("=")
        privileges.setdefault(role, set()).update(letters.replace("*", ""))
    return privileges
