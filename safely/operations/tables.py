"""Tables: created and dropped. A drop sets aside, and creating again brings back."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from safely.operations.aside import (
    PREFIX,
    hidden_name,
    hidden_prefix,
    hidden_schema,
    how_to_purge,
    is_table_aside,
    refuse_references,
    rename_indexes,
)
from safely.operations.comments import set_comments_of, set_comments_of_constraints
from safely.operations.connection import (
    Refused,
    has_table,
    literal,
    offline,
    outside_transaction,
    postgresql,
    quoted,
    refuse_offline,
    refuse_other_schema,
    regclass,
    run,
    scalar,
    undoing,
)
from safely.operations.constraints import (
    dangling_rows,
    key_rule,
    refuse_dangling,
    refuse_two_schemas,
)
from safely.operations.drafts import refuse_other_table
from safely.operations.enums import create_missing_enums, hide_labels
from safely.operations.mentions import refuse_mentioned_table
from safely.operations.options import refuse_off, refuse_unknown, table_of
from safely.operations.partitions import note_made_by_script
from safely.operations.rebuild import definition_of_table, rebuilt, refused_by_sqlite
from safely.operations.sqlite_limits import refuse_keys_not_unique
from safely.operations.table_sql import Definition, differences

# The comment of the schema of what is set aside: by table, the foreign keys that it had. They come
# back with it as they were, also those that the revision does not mention.
KEYS = (
    "coalesce(obj_description(to_regnamespace({identifier})::oid, 'pg_namespace'), '{{}}')::jsonb"
)

SET_TABLE_ASIDE = """\
DO $aside$
DECLARE
  remembered jsonb;
  keys jsonb := '[]';
  item record;
BEGIN
  IF to_regclass(format('%I.%I', current_schema, {name})) IS NULL THEN
    RETURN;
  END IF;
  CREATE SCHEMA IF NOT EXISTS {schema};
  remembered := {keys};
  -- the tables that it refers to can then be set aside, too
  FOR item IN
    SELECT conname, jsonb_build_object(
      'name', conname,
      'rule', regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', ''),
      -- a run that was killed may have brought it back without checking the rows
      'valid', convalidated OR remembered -> {name} @> jsonb_build_array(
        jsonb_build_object('name', conname, 'valid', true)) IS TRUE,
      'comment', obj_description(oid, 'pg_constraint'),
      'referent', confrelid::regclass::text,
      'columns', (SELECT jsonb_agg(attname ORDER BY position)
                  FROM unnest(conkey) WITH ORDINALITY AS local (number, position)
                  JOIN pg_attribute ON attrelid = conrelid AND attnum = number),
      'remote', (SELECT jsonb_agg(attname ORDER BY position)
                 FROM unnest(confkey) WITH ORDINALITY AS remote (number, position)
                 JOIN pg_attribute ON attrelid = confrelid AND attnum = number)) AS key
    FROM pg_constraint
    WHERE conrelid = {oid} AND contype = 'f' AND confrelid <> conrelid AND conparentid = 0
  LOOP
    keys := keys || jsonb_build_array(item.key);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', {name}, item.conname);
  END LOOP;
  FOR item IN  -- the table, or it with its partitions
    SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_schema))
      AND (oid = {oid} OR oid IN (SELECT relid FROM pg_partition_tree({oid})))
  LOOP
    EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', current_schema, item.relname, {schema_name});
  END LOOP;
  EXECUTE format('COMMENT ON SCHEMA %I IS %L',
                 {schema_name}, remembered || jsonb_build_object({name}, keys));
END $aside$"""

# {keys_then}: the foreign keys that the table gets
BRING_TABLE_BACK = """\
DO $back$
DECLARE
  remembered jsonb;
  keys jsonb;
  not_valid boolean;  -- before version 18 a partitioned table takes no key without the check
  item record;
BEGIN
  IF to_regclass(format('%I.%I', {schema_name}, {name})) IS NULL
     OR to_regclass(format('%I.%I', current_schema, {name})) IS NOT NULL THEN
    RETURN;
  END IF;
  remembered := {keys};
  keys := {keys_then};
  FOR item IN
    SELECT relname FROM pg_class
    WHERE relnamespace = to_regnamespace(quote_ident({schema_name})) AND (relname = {name}
      OR oid IN (SELECT relid FROM pg_partition_tree(
        to_regclass(format('%I.%I', {schema_name}, {name})))))
  LOOP
    EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', {schema_name}, item.relname, current_schema);
  END LOOP;
  SELECT relkind <> 'p' OR current_setting('server_version_num')::int >= 180000 INTO not_valid
  FROM pg_class WHERE oid = to_regclass(format('%I.%I', current_schema, {name}));
  FOR item IN
    SELECT * FROM jsonb_to_recordset(keys) AS key (name text, rule text, comment text)
  LOOP
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I %s%s', {name}, item.name, item.rule,
                   CASE WHEN not_valid AND item.rule !~ 'NOT ENFORCED$' THEN ' NOT VALID' END);
    IF item.comment IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %I IS %L', item.name, {name}, item.comment);
    END IF;
  END LOOP;
  EXECUTE format('COMMENT ON SCHEMA %I IS %L',
                 {schema_name}, remembered || jsonb_build_object({name}, keys));
END $back$"""

VALIDATE_KEYS = """\
DO $validate$
DECLARE
  item record;
BEGIN
  FOR item IN
    SELECT conname FROM jsonb_to_recordset({keys} -> {name}) AS key (name text, valid boolean)
    JOIN pg_constraint ON conname = name
    WHERE conrelid = to_regclass(format('%I.%I', current_schema, {name}))
      AND valid AND NOT convalidated
  LOOP
    EXECUTE format('ALTER TABLE %I VALIDATE CONSTRAINT %I', {name}, item.conname);
  END LOOP;
END $validate$"""

FORGET_KEYS = """\
DO $forget$ BEGIN
  IF to_regnamespace({identifier}) IS NULL
     OR to_regclass(format('%I.%I', {schema_name}, {name})) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('COMMENT ON SCHEMA %I IS %L', {schema_name}, {keys} - {name});
  -- not while the foreign keys of another table wait to be checked
  IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace({identifier}))
     AND NOT EXISTS (SELECT FROM jsonb_object_keys({keys}) AS other
                     WHERE to_regclass(format('%I.%I', current_schema, other)) IS NOT NULL) THEN
    DROP SCHEMA {schema};
  END IF;
END $forget$"""


def create_table(  # noqa: PLR0913  # Alembic's signature
    table_name: str,
    *columns: sa.schema.SchemaItem,
    if_not_exists: bool | None = None,
    schema: str | None = None,
    comment: str | None = None,
    info: dict[Any, Any] | None = None,
    prefixes: Sequence[str] | None = None,
    postgresql_inherits: str | Sequence[str] | None = None,
    postgresql_partition_by: str | None = None,
    postgresql_tablespace: str | None = None,
    postgresql_using: str | None = None,
    postgresql_with: dict[str, Any] | None = None,
    sqlite_autoincrement: bool | None = None,
    sqlite_strict: bool | None = None,
    sqlite_with_rowid: bool | None = None,
    **options: Any,
) -> sa.Table:
    """Create a table, or bring back the one that this revision has set aside, with its rows.

    Columns, constraints, indexes and options are those of `op.create_table`. `if_not_exists` is
    always on: a table that a killed run has created is left as it is. A foreign key with
    `use_alter` is created at once. Return the table, for inserting rows.

    PostgreSQL: SHARE ROW EXCLUSIVE on the tables that its foreign keys refer to, for an instant. A
    table that comes back gets the foreign keys that it had (on a downgrade), or those of its
    definition; its rows are checked in a later transaction, which blocks nobody.
    SQLite: comments are left out, since it has none, and an integer primary key always numbers
    its rows by itself.
    Older builds don't see it. The opposite is `safely.drop_table`.
    Raise Refused for an option that can't be obeyed; where a table with other columns was set
    aside under the name; where rows of the one that comes back refer to a missing row; and for a
    foreign key to another schema: versions of one schema are published.

    Example: `safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True))`
    """
    refuse_off("create_table", if_not_exists=if_not_exists)
    refuse_unknown("create_table", options)
    obeyed = {
        "comment": comment,
        "info": info,
        "prefixes": prefixes,
        "postgresql_inherits": postgresql_inherits,
        "postgresql_partition_by": postgresql_partition_by,
        "postgresql_tablespace": postgresql_tablespace,
        "postgresql_using": postgresql_using,
        "postgresql_with": postgresql_with,
        "sqlite_autoincrement": sqlite_autoincrement,
        "sqlite_strict": sqlite_strict,
        "sqlite_with_rowid": sqlite_with_rowid,
    }
    refuse_other_schema(schema)
    refuse_keys_to_other_schemas(columns, schema)
    has_enums = create_missing_enums(columns)
    set_options = {name: value for name, value in obeyed.items() if value is not None}
    table = table_of(table_name, columns, **set_options)
    if not postgresql() and not offline():
        refuse_keys_not_unique(table)
    if offline() and postgresql_partition_by is not None:
        note_made_by_script(table_name)
    is_new = offline() or not has_table(table_name)
    bring_table_back(table)
    exists = not offline() and has_table(table_name)
    if exists and is_new and postgresql():
        refuse_other_columns(table)
        refuse_other_table(table)
        set_comments_of(table)
    elif exists and is_new:
        bring_rules_back(table)
    elif not exists:
        with refused_by_sqlite(table_name):
            create(table)
    if postgresql():
        validate_keys(table)
    if has_enums:
        hide_labels(table_name)
    return table


def create(table: sa.Table) -> None:
    """CREATE TABLE, with its indexes and comments; one that is there is left as it is."""
    impl = op.get_context().impl
    indexes = list(table.indexes)
    table.indexes.clear()  # Alembic would create them without IF NOT EXISTS
    impl.create_table(table, if_not_exists=True)
    for index in indexes:
        index.dialect_options["postgresql"]["concurrently"] = False  # nobody reads a new table
        impl.create_index(index, if_not_exists=True)
    table.indexes.update(indexes)
    if postgresql():
        set_comments_of_constraints(table)


def refuse_keys_to_other_schemas(
    items: tuple[sa.schema.SchemaItem, ...], schema: str | None
) -> None:
    """Raise Refused for a foreign key to a table in another schema."""
    keys = [key for item in items if isinstance(item, sa.Column) for key in item.foreign_keys]
    for item in items:
        if isinstance(item, sa.ForeignKeyConstraint):
            keys += item.elements
    for key in keys:
        parts = key.target_fullname.split(".")  # [schema.]table.column
        refuse_two_schemas(schema, ".".join(parts[:-2]) or schema)


def keys_of(table: sa.Table) -> list[dict[str, Any]]:
    """Return the foreign keys of a table as SET_TABLE_ASIDE remembers them."""
    return [
        {
            "name": key.name if isinstance(key.name, str) else unnamed(table.name, key),
            "rule": key_rule(
                key.column_keys,
                key.referred_table.name,
                [element.column.name for element in key.elements],
                match=key.match,
                ondelete=key.ondelete,
                onupdate=key.onupdate,
                deferrable=key.deferrable,
                initially=key.initially,
            ),
            "valid": not key.dialect_options["postgresql"]["not_valid"],
            "comment": key.comment,
            "referent": quoted(key.referred_table.name),
            "columns": list(key.column_keys),
            "remote": [element.column.name for element in key.elements],
        }
        for key in table.foreign_key_constraints
        if key.referred_table.name != table.name  # that one stays while the table is aside
    ]


def unnamed(table_name: str, key: sa.ForeignKeyConstraint) -> str:
    """Return the name that PostgreSQL gives to a foreign key without one."""
    return "_".join([table_name, *key.column_keys, "fkey"])


def remembered_keys(table_name: str) -> list[dict[str, Any]] | None:
    """Return the foreign keys that a table had when it was set aside; None where nobody knows."""
    names = placeholders(table_name)
    remembered = scalar(f"SELECT ({KEYS.format(**names)} -> {names['name']})::text")
    return None if remembered is None else json.loads(remembered)


def refuse_dangling_keys(keys: list[dict[str, Any]], table_name: str, place: str) -> None:
    """Raise Refused where rows of the table, found at `place`, refer to a missing row."""
    for key in keys:
        if key["valid"]:
            match = "FULL" if "MATCH FULL" in key["rule"] else None
            columns = key["columns"], key["remote"]
            dangling = dangling_rows(place, key["referent"], *columns, match=match)
            refuse_dangling(key["name"], table_name, dangling)


def validate_keys(table: sa.Table) -> None:
    """Check the rows of a table that came back, in a transaction of its own (PostgreSQL).

    It also finishes the work of a run that was killed before.
    """
    if not offline() and remembered_keys(table.name) is None:
        return
    names = placeholders(table.name)
    # a script of a table without foreign keys needs no second transaction
    is_read_apart = not offline() or keys_of(table)
    try:
        with outside_transaction(patient=True) if is_read_apart else nullcontext():
            run(VALIDATE_KEYS.format(**names))
    except IntegrityError as error:  # such a row was written between the first look and the adding
        keys = remembered_keys(table.name) or []
        refuse_dangling_keys(keys, table.name, quoted(table.name))
        raise Refused(
            f"{table.name} is back, and a row of it breaks a foreign key: {error.orig}. Correct "
            "it, and run this again"
        ) from error
    run(FORGET_KEYS.format(**names))


def refuse_other_columns(table: sa.Table) -> None:
    """Raise Refused if the table that came back under the name has other columns."""
    existing = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table.name)}
    existing = {name for name in existing if not name.startswith(PREFIX)}
    wanted = {column.name for column in table.columns if not column.system}
    if existing != wanted:
        raise Refused(
            f"{table.name} was set aside by this revision with the columns "
            f"{', '.join(sorted(existing))}, and is now to have {', '.join(sorted(wanted))}: "
            f"{how_to_purge()}"
        )


def bring_rules_back(table: sa.Table) -> None:
    """Add the foreign keys that `set_table_aside` has dropped (SQLite).

    Raise Refused if the table that came back is defined otherwise than it is now to be.
    """
    dialect = op.get_context().dialect
    wanted = Definition(str(CreateTable(table).compile(dialect=dialect)).strip())
    existing = definition_of_table(table.name)
    # the rules that it had before are right, also those that the downgrade leaves out
    if undoing():
        differing = differences(existing.types(), wanted.types())
    else:
        differing = differences(existing.facts(of=table.name), wanted.facts(of=table.name))
    if differing:
        raise Refused(
            f"{table.name} was set aside by this revision with other columns or rules than it is "
            f"now to have, which differ in: {'; '.join(differing)}. {how_to_purge()}"
        )
    for key in table.foreign_key_constraints:
        remote = [element.column.name for element in key.elements]
        dangling = dangling_rows(
            quoted(table.name), quoted(key.referred_table.name), key.column_keys, remote
        )
        refuse_dangling(str(key.name or "a foreign key"), table.name, dangling)
    # an earlier version of safely left them on the table
    if not existing.foreign_keys(but_to=table.name) and (
        rules := wanted.foreign_keys(but_to=table.name)
    ):
        with rebuilt(table.name) as definition:
            for rule in rules:
                definition.add_constraint(rule)


def drop_table(
    table_name: str,
    *,
    schema: str | None = None,
    if_exists: bool | None = None,
    **options: Any,
) -> None:
    """Set a table aside, with its rows; one that a killed run has set aside is no error.

    `if_exists` is always on.

    PostgreSQL: ACCESS EXCLUSIVE on it and on the tables that its foreign keys refer to, for an
    instant; it moves to another schema, without its foreign keys. SQLite: it is renamed.
    Older builds go on reading and writing it (PostgreSQL).
    The opposite is `safely.create_table` in the same revision, which brings it back, with its
    foreign keys. `python -m safely purge` drops it for good.
    Raise Refused while foreign keys of other tables refer to it, or their triggers' functions name
    it.

    Example: `safely.drop_table("pets")`
    """
    refuse_off("drop_table", if_exists=if_exists)
    refuse_unknown("drop_table", options)
    refuse_other_schema(schema)
    if not offline() and not has_table(table_name):
        return  # a run that was killed has set it aside
    refuse_references(table_name)
    refuse_mentioned_table(table_name, what="set aside")
    set_table_aside(table_name)


def set_table_aside(table_name: str) -> None:
    """Move a table, with its rows, to where no build sees it; do nothing where it is missing."""
    if postgresql():
        run(SET_TABLE_ASIDE.format(**placeholders(table_name), oid=regclass(table_name)))
        return
    refuse_offline(table_name)
    if has_table(table_name):
        # newer builds, which don't see its rows, may then delete those that they refer to
        if definition_of_table(table_name).foreign_keys(but_to=table_name):
            with rebuilt(table_name) as definition:
                definition.drop_foreign_keys(but_to=table_name)
        run(f"ALTER TABLE {quoted(table_name)} RENAME TO {quoted(hidden_name(table_name))}")
        rename_indexes(hidden_name(table_name), hidden_name)


def bring_table_back(table: sa.Table) -> None:
    """Undo `set_table_aside`; do nothing where the table is not set aside.

    A downgrade gives it the foreign keys that it had, if it was set aside by a release that
    remembers them. An upgrade gives it those of its definition: a draft may have been edited.
    Raise Refused where rows of it refer to a missing row (PostgreSQL).
    """
    table_name = table.name
    if postgresql():
        names, keys = placeholders(table_name), keys_of(table)
        place = f"{names['schema']}.{names['table']}"
        keys_then = f"{literal(json.dumps(keys))}::jsonb"
        if undoing():
            keys_then = f"coalesce(remembered -> {names['name']}, {keys_then})"
        if not offline() and not has_table(table_name) and is_table_aside(table_name):
            remembered = remembered_keys(table_name) if undoing() else None
            refuse_dangling_keys(keys if remembered is None else remembered, table_name, place)
        run(BRING_TABLE_BACK.format(**names, keys_then=keys_then))
    elif not offline() and has_table(hidden_name(table_name)) and not has_table(table_name):
        prefix = hidden_prefix()
        run(f"ALTER TABLE {quoted(hidden_name(table_name))} RENAME TO {quoted(table_name)}")
        rename_indexes(table_name, lambda index: index.removeprefix(prefix))


def placeholders(table_name: str) -> dict[str, str]:
    """Return what the statements above need to know of a table."""
    names = {
        "table": quoted(table_name),
        "name": literal(table_name),
        "schema": quoted(hidden_schema()),
        "schema_name": literal(hidden_schema()),
        "identifier": literal(quoted(hidden_schema())),
    }
    return names | {"keys": KEYS.format(**names)}
