"""Every argument of Alembic's operations and SQLAlchemy's constructs is obeyed or refused by name.

The signatures are walked: an argument without a case, such as a new release may bring, fails.
"""

import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import safely
from tests.commands import run_alembic
from tests.operating import operate
from tests.revisions import Revision

SETUP = (
    "CREATE TABLE u (id integer PRIMARY KEY)",
    "INSERT INTO u VALUES (1)",
    "CREATE TABLE t (id integer PRIMARY KEY, a integer, b text, c integer CONSTRAINT ck CHECK "
    "(c > 0))",
    "INSERT INTO t (id, a, b) VALUES (1, 1, 'x')",
    "CREATE INDEX ix ON t (c)",
)
# the schema as text; that of the ledger's snapshot takes ten times as long
CATALOGUE = {
    "postgresql": """\
WITH relations AS (
  SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p'))
SELECT string_agg(line, ' ' ORDER BY line) FROM (
  SELECT concat_ws(' ', relname, CASE relpersistence WHEN 'u' THEN 'unlogged' END,
                   array_to_string(reloptions, ' '), 'PARTITION BY ' || pg_get_partkeydef(oid))
  FROM relations
  UNION ALL
  SELECT concat_ws(' ', relname, attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN 'NOT NULL' END, 'GENERATED ' || CASE attidentity
    WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END || ' AS IDENTITY',
    CASE attgenerated WHEN 's' THEN 'STORED' WHEN '' THEN 'DEFAULT' END,
    pg_get_expr(adbin, adrelid))
  FROM pg_attribute JOIN relations ON relations.oid = attrelid
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT concat_ws(' ', conname, pg_get_constraintdef(pg_constraint.oid))
  FROM pg_constraint JOIN relations ON relations.oid = conrelid
  UNION ALL
  SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL
  SELECT concat_ws(' ', 'START', start_value, 'INCREMENT', increment_by, 'MINVALUE', min_value,
                   'MAXVALUE', max_value, 'CACHE', cache_size, CASE WHEN cycle THEN 'CYCLE' END)
  FROM pg_sequences WHERE schemaname = 'public'
  UNION ALL
  SELECT 'comment ' || description FROM pg_description
  WHERE classoid IN ('pg_class'::regclass, 'pg_constraint'::regclass) AND objoid >= 16384
) AS lines (line)""",
    "sqlite": "SELECT group_concat(sql, ' ') FROM (SELECT sql FROM sqlite_master "
    "WHERE name NOT GLOB 'sqlite_*' ORDER BY 1)",
}
CLEAN = """\
DO $clean$
DECLARE
  place record;
BEGIN
  FOR place IN
    SELECT relnamespace::regnamespace AS name, relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND relname IN ('n', 't', 'u') ORDER BY relname
  LOOP
    EXECUTE format('DROP TABLE %s.%I', place.name, place.relname);
  END LOOP;
  DROP FUNCTION IF EXISTS sync_retyped();
END $clean$"""
# by whether it is SQLite; a cached plan would be one for the table of the case before
WITHOUT_CACHE: dict[bool, dict[str, Any]] = {
    True: {},
    False: {"connect_args": {"prepared_statement_cache_size": 0, "statement_cache_size": 0}},
}
SCOPE = {"safely": safely, "sa": sa, "postgresql": postgresql}


class Case(NamedTuple):
    """A call with an argument, and what the catalogue of either database has afterwards.

    `refused WORDS`: it is refused in these words; `error WORDS`: the database itself got it.
    """

    call: str
    postgresql: str
    sqlite: str


def both(call: str, seen: str) -> Case:
    """Return a case that ends alike on both databases."""
    return Case(call, seen, seen)


def of_the_model(call: str) -> Case:
    """Return a case of an argument that Python alone reads: the operation takes it."""
    return both(call, "")


# by operation: `{}` stands for the argument
CALLS = {
    "add_column": 'safely.add_column("t", sa.Column("n", sa.Integer()), {})',
    "create_check_constraint": 'safely.create_check_constraint("ck_n", "t", "a > 0", {})',
    "create_foreign_key": 'safely.create_foreign_key("fk_n", "t", "u", ["a"], ["id"], {})',
    "create_index": 'safely.create_index("ix_n", "t", ["a"], {})',
    "create_table": 'safely.create_table("n", sa.Column("id", sa.Integer(), primary_key=True), {})',
    "create_table_comment": 'safely.create_table_comment("t", "some words", {})',
    "create_unique_constraint": 'safely.create_unique_constraint("uq_n", "t", ["a"], {})',
    "drop_column": 'safely.drop_column("t", "a", {})',
    "drop_constraint": 'safely.drop_constraint("ck", "t", "check", {})',
    "drop_index": 'safely.drop_index("ix", "t", {})',
    "drop_table": 'safely.drop_table("t", {})',
    "drop_table_comment": 'safely.drop_table_comment("t", {})',
    "rename_table": 'safely.rename_table("t", "n", {})',
}
SEEN = {  # what a plain call leaves in the catalogue; those that are missing leave nothing
    "add_column": r"\bn\b",
    "create_check_constraint": "ck_n",
    "create_foreign_key": "fk_n",
    "create_index": "ix_n",
    "create_table": r"\bn\b",
    "create_unique_constraint": "uq_n",
    "rename_table": r"\bn\b",
}
# the construct that takes the keywords of an operation beyond its signature
CONSTRUCTS: dict[str, type] = {
    "create_check_constraint": sa.CheckConstraint,
    "create_foreign_key": sa.ForeignKeyConstraint,
    "create_index": sa.Index,
    "create_table": sa.Table,
    "create_unique_constraint": sa.UniqueConstraint,
    "drop_index": sa.Index,
    "drop_table": sa.Table,
}
ALTERED = {  # the arguments of op.alter_column, by the operations in its place
    "comment": both('safely.change_comment("t", "a", "some words")', ""),
    "existing_comment": both('safely.change_comment("t", "a", "x", existing_comment="y")', ""),
    "new_column_name": both('safely.rename_column("t", "a", "n")', r"\bn\b"),
    "nullable": both('safely.require_column("t", "a")', "integer NOT NULL"),
    "schema": Case(
        'safely.rename_column("t", "a", "n", schema="other")',
        "refused is not the schema of this project",
        "refused SQLite has no schemas",
    ),
    "server_default": both('safely.change_default("t", "a", "77")', "DEFAULT '?77"),
    "type_": Case('safely.change_type("t", "a", sa.BigInteger())', "bigint", "BIGINT"),
}
NOT_TAKEN = {"existing_type", "existing_server_default", "existing_nullable"}
WOULD_CHANGE_NOTHING = "refused would change nothing"
ALWAYS_ON = "refused it is always on"
LOST = "refused SQLite would ignore"
DEFERRED = "refused SQLite checks what is unique at once"
SCHEMA = ('schema="other"', "refused is not the schema of this project", "refused SQLite has no")
ARGUMENTS: dict[str, dict[str, tuple[str, ...]]] = {  # by operation: argument, PG, SQLite
    "add_column": {
        "if_not_exists": ("if_not_exists=False", ALWAYS_ON, ALWAYS_ON),
        "inline_references": ("inline_references=True", *[WOULD_CHANGE_NOTHING] * 2),
        "inline_primary_key": ("inline_primary_key=True", *[WOULD_CHANGE_NOTHING] * 2),
    },
    "create_check_constraint": {
        "deferrable": ("deferrable=True", *[WOULD_CHANGE_NOTHING] * 2),
        "initially": ('initially="DEFERRED"', *[WOULD_CHANGE_NOTHING] * 2),
        "comment": ('comment="some words"', "comment some words", ""),
        "postgresql_not_valid": ("postgresql_not_valid=True", "ck_n.*NOT VALID", ""),
        "sqlite_on_conflict": ('sqlite_on_conflict="IGNORE"', "", "ON CONFLICT IGNORE"),
    },
    "create_foreign_key": {
        "onupdate": ('onupdate="CASCADE"', *["ON UPDATE CASCADE"] * 2),
        "ondelete": ('ondelete="SET NULL"', *["ON DELETE SET NULL"] * 2),
        "deferrable": ("deferrable=True", *[r"fk_n.*DEFERRABLE"] * 2),
        "initially": ('initially="DEFERRED"', *["INITIALLY DEFERRED"] * 2),
        "match": ('match="FULL"', *["MATCH FULL"] * 2),  # of one column, which is what SIMPLE is
        "source_schema": (
            'source_schema="other", referent_schema="other"',
            "refused is not the schema",
            "refused SQLite has no schemas",
        ),
        "referent_schema": (
            'referent_schema="other"',
            "refused to the schema other",
            "refused to the schema other",
        ),
        "use_alter": ("use_alter=True", *["fk_n"] * 2),
        "link_to_name": ("link_to_name=True", *["fk_n"] * 2),
        "comment": ('comment="some words"', "comment some words", "fk_n"),
        "postgresql_not_valid": ("postgresql_not_valid=True", "fk_n.*NOT VALID", "fk_n"),
        "sqlite_on_conflict": ('sqlite_on_conflict="IGNORE"', *[WOULD_CHANGE_NOTHING] * 2),
    },
    "create_index": {
        "unique": ("unique=True", *["UNIQUE INDEX ix_n"] * 2),
        "if_not_exists": ("if_not_exists=False", ALWAYS_ON, ALWAYS_ON),
        "quote": ("quote=False", *[WOULD_CHANGE_NOTHING] * 2),
        "postgresql_using": ('postgresql_using="hash"', "USING hash", "ix_n"),
        "postgresql_include": ('postgresql_include=["b"]', r"INCLUDE \(b\)", "ix_n"),
        "postgresql_where": ('postgresql_where="a > 7"', r"WHERE \(a > 7\)", LOST),
        "postgresql_ops": ('postgresql_ops={"a": "int4_ops"}', "ix_n", "ix_n"),
        "postgresql_concurrently": ("postgresql_concurrently=False", ALWAYS_ON, ALWAYS_ON),
        "postgresql_with": ('postgresql_with={"fillfactor": 50}', "fillfactor", "ix_n"),
        "postgresql_tablespace": ('postgresql_tablespace="nowhere"', "error nowhere", "ix_n"),
        "postgresql_nulls_not_distinct": (
            "postgresql_nulls_not_distinct=True",
            "NULLS NOT DISTINCT",
            LOST,
        ),
        "postgresql_invalid": ("postgresql_invalid=True", *[WOULD_CHANGE_NOTHING] * 2),
        "sqlite_where": ('sqlite_where="a > 7"', "ix_n", "WHERE a > 7"),
    },
    "create_table": {
        "if_not_exists": ("if_not_exists=False", ALWAYS_ON, ALWAYS_ON),
        "comment": ('comment="some words"', "comment some words", r"\bn\b"),
        "prefixes": ('prefixes=["UNLOGGED"]', "unlogged", "refused a table of the application is"),
        "postgresql_tablespace": ('postgresql_tablespace="nowhere"', "error nowhere", ""),
        "postgresql_partition_by": ('postgresql_partition_by="HASH (id)"', "PARTITION BY", ""),
        "postgresql_with": ('postgresql_with={"fillfactor": 50}', "fillfactor", ""),
        "postgresql_inherits": ('postgresql_inherits="u"', r"\bn\b", ""),
        "postgresql_using": ('postgresql_using="nothing"', "error nothing", ""),
        "sqlite_autoincrement": ("sqlite_autoincrement=True", "", "AUTOINCREMENT"),
        "sqlite_with_rowid": ("sqlite_with_rowid=False", "", "WITHOUT ROWID"),
        "sqlite_strict": ("sqlite_strict=True", "", "STRICT"),
    },
    "create_table_comment": {
        "comment": ("", "comment some words", ""),
        "existing_comment": ('existing_comment="x"', "comment some words", ""),
    },
    "create_unique_constraint": {
        "deferrable": ("deferrable=True", "uq_n.*DEFERRABLE", DEFERRED),
        "initially": ('initially="DEFERRED"', "INITIALLY DEFERRED", DEFERRED),
        "comment": ('comment="some words"', "comment some words", "uq_n"),
        "postgresql_include": ('postgresql_include=["b"]', r"uq_n.*INCLUDE \(b\)", "uq_n"),
        "postgresql_nulls_not_distinct": (
            "postgresql_nulls_not_distinct=True",
            "uq_n.*NULLS NOT DISTINCT",
            LOST,
        ),
        "sqlite_on_conflict": ('sqlite_on_conflict="IGNORE"', "uq_n", "ON CONFLICT IGNORE"),
    },
    "drop_column": {},
    "drop_constraint": {"if_exists": ("if_exists=False", ALWAYS_ON, ALWAYS_ON)},
    "drop_index": {
        "if_exists": ("if_exists=False", ALWAYS_ON, ALWAYS_ON),
        "unique": ("unique=True", "", ""),
        "postgresql_concurrently": ("postgresql_concurrently=False", ALWAYS_ON, ALWAYS_ON),
        **{
            name: (f"{name}=None", "", "")
            for name in (
                "postgresql_using",
                "postgresql_include",
                "postgresql_where",
                "postgresql_ops",
                "postgresql_with",
                "postgresql_tablespace",
                "postgresql_nulls_not_distinct",
                "sqlite_where",
            )
        },
    },
    "drop_table": {"if_exists": ("if_exists=False", ALWAYS_ON, ALWAYS_ON)},
    "drop_table_comment": {"existing_comment": ('existing_comment="x"', "", "")},
    "rename_table": {},
}
REFERENCES = r"(?i)references \S*u\b"
MODEL = {"info", "doc", "default", "insert_default", "onupdate", "insert_sentinel"}  # Python's own
IN_TABLE = 'safely.create_table("n", sa.Column("id", sa.Integer(), primary_key=True), {})'
COLUMN = 'sa.Column("n", sa.Integer(), {})'
NUMBERS = "refused SQLite would number"
NO_EFFECT = "refused the column has no"
ITEMS: dict[type, dict[str, Case]] = {
    sa.Column: {
        "name": both(IN_TABLE.format('sa.Column(name="n", type_=sa.Integer())'), r"\bn\b"),
        "type_": both(IN_TABLE.format('sa.Column(name="n", type_=sa.Text())'), "(?i)text"),
        "autoincrement": both(
            IN_TABLE.format(COLUMN.format("autoincrement=True")), "refused not the primary key"
        ),
        "key": of_the_model(IN_TABLE.format(COLUMN.format('key="x"'))),
        "index": both(IN_TABLE.format(COLUMN.format("index=True")), "INDEX ix_n_n"),
        "unique": both(IN_TABLE.format(COLUMN.format("unique=True")), "UNIQUE"),
        "nullable": both(IN_TABLE.format(COLUMN.format("nullable=False")), "NOT NULL"),
        "primary_key": both(
            IN_TABLE.format(COLUMN.format("primary_key=True")), r"PRIMARY KEY \(id, n\)"
        ),
        "server_default": both(
            IN_TABLE.format(COLUMN.format('server_default="77"')), "DEFAULT '?77"
        ),
        "server_onupdate": both(
            IN_TABLE.format(COLUMN.format('server_onupdate="77"')), "refused makes nothing"
        ),
        "quote": both(IN_TABLE.format(COLUMN.format("quote=False")), "refused change the name"),
        "system": both(IN_TABLE.format('sa.Column("xmin", sa.Integer(), system=True)'), ""),
        "comment": Case(
            IN_TABLE.format(COLUMN.format('comment="some words"')), "comment some words", ""
        ),
        "sqlite_on_conflict_primary_key": Case(
            IN_TABLE.format(COLUMN.format('sqlite_on_conflict_primary_key="FAIL"')), "", NO_EFFECT
        ),
        "sqlite_on_conflict_not_null": Case(
            IN_TABLE.format(COLUMN.format('nullable=False, sqlite_on_conflict_not_null="FAIL"')),
            "",
            "ON CONFLICT FAIL",
        ),
        "sqlite_on_conflict_unique": Case(
            IN_TABLE.format(COLUMN.format('unique=True, sqlite_on_conflict_unique="FAIL"')),
            "",
            "ON CONFLICT FAIL",
        ),
    },
    sa.ForeignKey: {
        argument: Case(
            IN_TABLE.format(COLUMN.format(f'sa.ForeignKey("u.id", {code})').replace(", {}", "")),
            *seen,
        )
        for argument, code, *seen in (
            ("column", "", *[REFERENCES] * 2),
            ("use_alter", "use_alter=True", *[REFERENCES] * 2),
            ("name", 'name="fk_n"', *["fk_n"] * 2),
            ("onupdate", 'onupdate="CASCADE"', *["ON UPDATE CASCADE"] * 2),
            ("ondelete", 'ondelete="SET NULL"', *["ON DELETE SET NULL"] * 2),
            ("deferrable", "deferrable=True", *["DEFERRABLE"] * 2),
            ("initially", 'initially="DEFERRED"', *["INITIALLY DEFERRED"] * 2),
            ("link_to_name", "link_to_name=True", *[REFERENCES] * 2),
            ("match", 'match="FULL"', *["MATCH FULL"] * 2),
            ("comment", 'name="fk_n", comment="some words"', "comment some words", "fk_n"),
            ("postgresql_not_valid", "postgresql_not_valid=True", *[REFERENCES] * 2),
            ("sqlite_on_conflict", 'sqlite_on_conflict="FAIL"', "", "refused has none"),
        )
    },
    sa.ForeignKeyConstraint: {
        argument: Case(
            IN_TABLE.format(
                f'{COLUMN.format("")}, sa.ForeignKeyConstraint(["n"], ["u.id"], {code})'
            ),
            *seen,
        )
        for argument, code, *seen in (
            ("columns", "", *[REFERENCES] * 2),
            ("refcolumns", "", *[REFERENCES] * 2),
            ("name", 'name="fk_n"', *["fk_n"] * 2),
            ("onupdate", 'onupdate="CASCADE"', *["ON UPDATE CASCADE"] * 2),
            ("ondelete", 'ondelete="SET NULL (n)"', r"SET NULL \(n\)", "refused sets all columns"),
            ("deferrable", "deferrable=True", *["DEFERRABLE"] * 2),
            ("initially", 'initially="DEFERRED"', *["INITIALLY DEFERRED"] * 2),
            ("use_alter", 'use_alter=True, name="fk_n"', *["fk_n"] * 2),
            ("link_to_name", "link_to_name=True", *[REFERENCES] * 2),
            ("match", 'match="PARTIAL"', *["refused does not enforce it"] * 2),
            ("table", "table=None", *[REFERENCES] * 2),
            ("comment", 'name="fk_n", comment="some words"', "comment some words", "fk_n"),
            ("postgresql_not_valid", "postgresql_not_valid=True", *[REFERENCES] * 2),
            ("sqlite_on_conflict", 'sqlite_on_conflict="FAIL"', "", "refused has none"),
        )
    },
    sa.UniqueConstraint: {
        argument: Case(
            IN_TABLE.format(f'{COLUMN.format("")}, sa.UniqueConstraint("n", {code})'), *seen
        )
        for argument, code, *seen in (
            ("name", 'name="uq_n"', *["uq_n"] * 2),
            ("deferrable", "deferrable=True", "DEFERRABLE", DEFERRED),
            ("initially", 'initially="DEFERRED"', "INITIALLY DEFERRED", DEFERRED),
            ("comment", 'name="uq_n", comment="some words"', "comment some words", "uq_n"),
            ("postgresql_include", 'postgresql_include=["id"]', r"INCLUDE \(id\)", "UNIQUE"),
            (
                "postgresql_nulls_not_distinct",
                "postgresql_nulls_not_distinct=True",
                "NULLS NOT DISTINCT",
                LOST,
            ),
            ("sqlite_on_conflict", 'sqlite_on_conflict="FAIL"', "UNIQUE", "ON CONFLICT FAIL"),
        )
    },
    sa.CheckConstraint: {
        argument: Case(IN_TABLE.format(f'sa.CheckConstraint("id > 0", {code})'), *seen)
        for argument, code, *seen in (
            ("sqltext", "", *["id > 0"] * 2),
            ("name", 'name="ck_n"', *["ck_n"] * 2),
            ("deferrable", "deferrable=True", *["refused a CHECK is checked at once"] * 2),
            ("initially", 'initially="DEFERRED"', *["refused a CHECK is checked at once"] * 2),
            ("table", "table=None", *["id > 0"] * 2),
            ("comment", 'name="ck_n", comment="some words"', "comment some words", "ck_n"),
            ("postgresql_not_valid", "postgresql_not_valid=True", *["id > 0"] * 2),
            ("sqlite_on_conflict", 'sqlite_on_conflict="FAIL"', "id > 0", "ON CONFLICT FAIL"),
        )
    },
    sa.PrimaryKeyConstraint: {
        argument: Case(
            f'safely.create_table("n", sa.Column("n", sa.Integer()), sa.Column("m", sa.Integer()), '
            f'sa.PrimaryKeyConstraint("n", {code}))',
            *seen,
        )
        for argument, code, *seen in (
            ("name", 'name="pk_n"', *["pk_n"] * 2),
            ("deferrable", "deferrable=True", "DEFERRABLE", DEFERRED),
            ("initially", 'initially="DEFERRED"', "INITIALLY DEFERRED", DEFERRED),
            ("comment", 'name="pk_n", comment="some words"', "comment some words", "pk_n"),
            ("postgresql_include", 'postgresql_include=["m"]', r"INCLUDE \(m\)", "PRIMARY KEY"),
            ("sqlite_on_conflict", 'sqlite_on_conflict="FAIL"', "PRIMARY KEY", "ON CONFLICT FAIL"),
        )
    },
    postgresql.ExcludeConstraint: {
        argument: Case(
            IN_TABLE.format(
                f'{COLUMN.format("")}, postgresql.ExcludeConstraint(("n", "="), {code})'
            ),
            seen,
            "refused SQLite has no exclusion constraints",
        )
        for argument, code, seen in (
            ("name", 'using="btree", name="ex_n"', "ex_n"),
            ("deferrable", 'using="btree", deferrable=True', "DEFERRABLE"),
            ("initially", 'using="btree", initially="DEFERRED"', "INITIALLY DEFERRED"),
            ("using", 'using="hash"', "EXCLUDE USING hash"),
            ("where", 'using="btree", where="n > 7"', r"WHERE \(\(?n > 7"),
            ("ops", 'using="btree", ops={"n": "int4_ops"}', "EXCLUDE USING btree"),
        )
    },
    sa.Index: {
        argument: Case(
            IN_TABLE.format(f'{COLUMN.format("")}, sa.Index("ix_n", "n", {code})'), seen, on_sqlite
        )
        for argument, code, seen, on_sqlite in (
            ("name", "", "ix_n", "ix_n"),
            ("unique", "unique=True", *["UNIQUE INDEX"] * 2),
            ("quote", "quote=True", "ix_n", "ix_n"),
            ("postgresql_using", 'postgresql_using="hash"', "USING hash", "ix_n"),
            ("postgresql_include", 'postgresql_include=["id"]', r"INCLUDE \(id\)", "ix_n"),
            ("postgresql_where", 'postgresql_where=sa.text("n > 7")', "n > 7", LOST),
            ("postgresql_ops", 'postgresql_ops={"n": "int4_ops"}', "ix_n", "ix_n"),
            ("postgresql_concurrently", "postgresql_concurrently=True", "ix_n", "ix_n"),
            ("postgresql_with", 'postgresql_with={"fillfactor": 50}', "fillfactor", "ix_n"),
            ("postgresql_tablespace", 'postgresql_tablespace="nowhere"', "error nowhere", "ix_n"),
            (
                "postgresql_nulls_not_distinct",
                "unique=True, postgresql_nulls_not_distinct=True",
                "NULLS NOT DISTINCT",
                LOST,
            ),
            ("postgresql_invalid", "", "ix_n", "ix_n"),
            ("sqlite_where", 'sqlite_where=sa.text("n > 7")', "ix_n", "n > 7"),
        )
    },
    sa.Identity: {
        argument: Case(
            'safely.create_table("n", sa.Column("id", sa.Integer(), '
            f"sa.Identity({argument}={value}), primary_key=True))",
            seen,
            on_sqlite,
        )
        for argument, value, seen, on_sqlite in (
            ("always", True, "GENERATED ALWAYS", ""),
            ("start", 7, "START 7", NUMBERS),
            ("increment", 7, "INCREMENT 7", NUMBERS),
            ("minvalue", -7, "MINVALUE -7", NUMBERS),
            ("maxvalue", 77, "MAXVALUE 77", NUMBERS),
            ("nominvalue", True, "IDENTITY", ""),
            ("nomaxvalue", True, "IDENTITY", ""),
            ("cycle", True, "CYCLE", NUMBERS),
            ("cache", 7, "CACHE 7", ""),
        )
    },
    sa.Computed: {
        "sqltext": both(IN_TABLE.format(COLUMN.format('sa.Computed("id * 2")')), r"id \* 2"),
        "persisted": both(
            IN_TABLE.format(COLUMN.format('sa.Computed("id * 2", persisted=True)')), "STORED"
        ),
    },
}
ORACLE = {"on_null", "order"}  # deprecated spellings of options of Oracle, with a warning
# arguments of the constructs that the operations refuse, since they would change nothing
NOT_OF_OPERATIONS = {
    "name",
    "columns",
    "refcolumns",
    "sqltext",
    "table",
    "quote",
    "quote_schema",
    "autoload_with",
    "autoload_replace",
    "keep_existing",
    "extend_existing",
    "resolve_fks",
    "include_columns",
    "implicit_returning",
    "listeners",
    "postgresql_ignore_search_path",
    "postgresql_with_oids",
    "postgresql_on_commit",
}


def own(function: Any) -> list[str]:
    """Return the named parameters of a function that are not private."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in kinds and name != "self" and not name.startswith("_")
    ]


def arguments_of(construct: type) -> list[str]:
    """Return the arguments of a construct, with the options that each database has for it."""
    if construct is postgresql.ExcludeConstraint:  # it takes any keyword, and reads these
        return ["name", "deferrable", "initially", "using", "where", "ops"]
    names = own(construct)
    if issubclass(construct, sa.Constraint):
        names += own(sa.Constraint)
    like = sa.ForeignKeyConstraint if construct is sa.ForeignKey else construct
    for dialect in (postgresql.dialect, sqlite.dialect):
        for kind, options in dialect.construct_arguments or []:
            if issubclass(like, kind):
                names += [f"{dialect.name}_{name}" for name in options]
    return list(dict.fromkeys(names))


def cases() -> Iterator[tuple[str, str, Case | None]]:
    """Yield each argument of each owner, with its case."""
    for operation, call in CALLS.items():
        names = own(getattr(Operations, operation))
        if construct := CONSTRUCTS.get(operation):
            names += [name for name in arguments_of(construct) if name not in names]
        for name in names:
            yield operation, name, of_operation(operation, call, name)
    for name in own(Operations.alter_column):
        if name not in ("table_name", "column_name", *NOT_TAKEN):
            yield "alter_column", name, ALTERED.get(name)
    for construct, known in ITEMS.items():
        for name in arguments_of(construct):
            if name not in ORACLE:
                yield construct.__name__, name, known.get(name) or of_python(name)


def of_python(name: str) -> Case | None:
    """Return the case of an argument of a construct that makes nothing in the database."""
    if name not in MODEL:
        return None
    value = {"info": {"x": 1}, "insert_sentinel": False}.get(name, 1)
    return of_the_model(IN_TABLE.format(COLUMN.format(f"{name}={value}")))


def of_operation(operation: str, call: str, name: str) -> Case | None:
    """Return the case of an argument of an operation; None where nobody wrote one."""
    known: dict[str, tuple[str, ...]] = {"schema": SCHEMA, **ARGUMENTS[operation]}
    if name in known:
        code, on_postgresql, on_sqlite = known[name]
        return Case(call.format(code), on_postgresql, on_sqlite)
    signature = inspect.signature(getattr(Operations, operation)).parameters
    is_required = name in signature and signature[name].default is inspect.Parameter.empty
    plain = SEEN.get(operation, "")
    if is_required or name in ("table_name", "type_"):
        return both(call.format(""), plain)
    if name == "info" and operation != "drop_table":
        return both(call.format('info={"x": 1}'), plain)
    if operation.startswith("drop_") or name in NOT_OF_OPERATIONS:
        return both(call.format(f"{name}=True"), WOULD_CHANGE_NOTHING)
    return None


CASES = list(cases())


def test_every_argument_has_a_case() -> None:
    missing = [f"{owner}({name}=…)" for owner, name, case in CASES if case is None]
    assert missing == []
    mirrored = {name for name in safely.__all__ if hasattr(Operations, name)}
    assert mirrored - set(CALLS) == {"f"}


def test_the_signatures_are_written_out() -> None:
    """An editor completes the arguments that Alembic has."""
    for operation in CALLS:
        ours = set(own(getattr(safely, operation)))
        assert set(own(getattr(Operations, operation))) <= ours, operation
        keywords = inspect.signature(getattr(safely, operation)).parameters.values()
        assert not [p for p in keywords if p.kind is p.VAR_KEYWORD and p.name != "options"]


class Unexpected(NamedTuple):
    """A case that ended otherwise."""

    owner: str
    argument: str
    call: str
    outcome: str


async def test_every_argument_is_obeyed_or_refused_by_its_name(empty_url: str) -> None:
    engine = create_async_engine(with_driver(empty_url), **WITHOUT_CACHE[is_sqlite(empty_url)])
    async with engine.connect() as connection:
        unexpected = await connection.run_sync(run_cases)
    await engine.dispose()
    assert unexpected == []


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def with_driver(url: str) -> str:
    return url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")


def run_cases(connection: sa.Connection) -> list[Unexpected]:
    """Run each case on tables that none has changed; return those that ended otherwise."""
    unexpected, before, is_untouched = [], "", False
    for number, (owner, name, case) in enumerate(CASES):
        if case is None:
            continue
        if not is_untouched:
            clean(connection)
            for statement in SETUP:
                connection.exec_driver_sql(statement)
            connection.commit()
        before = before or catalogue(connection)
        expected = getattr(case, connection.dialect.name)
        kind, _, words = expected.partition(" ")
        if kind not in ("refused", "error"):
            kind, words = "obeyed", expected
        outcome, text = outcome_of(connection, f"{number:04}", case.call)
        is_untouched = outcome == "refused" and catalogue(connection) == before
        if outcome != kind or not re.search(words, text):
            unexpected.append(Unexpected(owner, name, case.call, f"{outcome}: {text[-500:]}"))
        elif outcome == "refused" and not is_untouched:
            unexpected.append(Unexpected(owner, name, case.call, "refused after a change"))
    return unexpected


def outcome_of(connection: sa.Connection, revision: str, call: str) -> tuple[str, str]:
    """Run a call as a revision; return whether it was obeyed, and the catalogue or the message."""
    try:
        operate(connection, revision, partial(exec, call, SCOPE))
        connection.commit()
    except safely.Refused as error:
        connection.rollback()
        return "refused", str(error)
    except DBAPIError as error:
        connection.rollback()
        return "error", str(error.orig)
    except Exception as error:  # noqa: BLE001  # all that is unexpected is told at once
        connection.rollback()
        return "broken", repr(error)
    return "obeyed", catalogue(connection)


def catalogue(connection: sa.Connection) -> str:
    """Return the schema as text."""
    text = connection.exec_driver_sql(CATALOGUE[connection.dialect.name]).scalar()
    connection.commit()
    return str(text)


def clean(connection: sa.Connection) -> None:
    """Drop all tables."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(CLEAN)
    else:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        for (name,) in connection.exec_driver_sql(tables).all():
            connection.exec_driver_sql(f'DROP TABLE "{name}"')
    connection.commit()


UNKNOWN = (
    'safely.rename_column("users", "age", "years", existing_type=sa.Integer())',
    'safely.add_column("users", sa.Column("n", sa.Integer(), postgresql_bogus=1))',
    'safely.create_index("ix", "users", ["age"], bogus=1)',
)


@pytest.mark.only("postgresql")
def test_an_argument_that_nothing_has_is_refused_in_one_line(
    url: str, clone: Path, revision: Revision
) -> None:
    for call in UNKNOWN:
        revision(call)
        process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
        assert process.returncode != 0
        assert "Traceback" not in process.stderr
        assert "existing_type" in process.stdout or "bogus" in process.stdout
