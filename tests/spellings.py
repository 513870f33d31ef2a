"""A corpus of plain revisions: what applications write, with every keyword and every clause.

Each case is a revision on the same ground: three tables with rows. `fills` is what the author
writes for each `…` of the spellings that lint prints, in their order.
"""

from itertools import cycle
from typing import NamedTuple

from tests.revisions import indented

PG = "postgresql"


class Case(NamedTuple):
    """A revision of plain code."""

    up: str
    down: str
    fills: tuple[str, ...] = ()
    only: str = ""
    """`postgresql` where SQLite can't run the spelling."""
    none: bool = False
    """Whether lint must print no spelling, since none would carry all clauses."""
    differs: tuple[str, ...] = ()
    """Parts of the catalogue's lines that differ from what the plain code makes, on purpose."""
    other_rows: bool = False
    """Whether the rows differ, on purpose."""
    alone: bool = False
    """Whether the plain code fails on this ground, so that there is nothing to compare with."""


# a type that SQLAlchemy doesn't have, as an author would write it
USER_TYPE = """\
type("Own", (sa.types.UserDefinedType,), {{"cache_ok": True, "get_col_spec": lambda *_: {!r}}})()"""
MODELS = """
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
beds = sa.Table(
    "beds",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("place", sa.Text(), nullable=False, unique=True),
    sa.Column("size", sa.Integer()),
)
plants = sa.Table(
    "plants",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("bed_id", sa.Integer()),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("note", sa.Text()),
    sa.Column("height", sa.Integer(), server_default="1"),
    sa.Column("code", sa.String(20)),
    sa.Column("price", sa.Numeric(8, 2)),
    sa.Column("planted", sa.Date()),
    sa.Column("data", sa.JSON().with_variant(JSONB(), "postgresql")),
    sa.Column("mood", sa.Enum("sad", "ok", name="mood"), server_default="ok"),
    sa.CheckConstraint("height > 0", name="height"),
    sa.Index("ix_plants_name", "name"),
)
tags = sa.Table(
    "tags",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("plant_id", sa.Integer(), sa.ForeignKey("plants.id", ondelete="CASCADE")),
    sa.Column("label", sa.Text()),
)
"""
GROUND = (
    """\
safely.create_table(
    "beds",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("place", sa.Text(), nullable=False),
    sa.Column("size", sa.Integer()),
    sa.PrimaryKeyConstraint("id", name="pk_beds"),
    sa.UniqueConstraint("place", name="uq_beds_place"),
)
safely.create_table(
    "plants",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("bed_id", sa.Integer()),
    sa.Column("name", sa.Text(), nullable=False),
    sa.Column("note", sa.Text()),
    sa.Column("height", sa.Integer(), server_default=sa.text("1")),
    sa.Column("code", sa.String(20)),
    sa.Column("price", sa.Numeric(8, 2)),
    sa.Column("planted", sa.Date()),
    sa.Column("data", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")),
    sa.Column("mood", sa.Enum("sad", "ok", name="mood"), server_default="ok"),
    sa.PrimaryKeyConstraint("id", name="pk_plants"),
    sa.CheckConstraint("height > 0", name=safely.f("ck_plants_height")),
)
safely.create_index("ix_plants_name", "plants", ["name"])
safely.create_table(
    "tags",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("plant_id", sa.Integer()),
    sa.Column("label", sa.Text()),
    sa.PrimaryKeyConstraint("id", name="pk_tags"),
    sa.ForeignKeyConstraint(
        ["plant_id"], ["plants.id"], name="fk_tags_plant_id_plants", ondelete="CASCADE"
    ),
)""",
    """\
safely.drop_table("tags")
safely.drop_table("plants")
safely.drop_table("beds")""",
)
ROWS = (
    "INSERT INTO beds (id, place, size) VALUES (1, 'wall', 3), (2, 'sun', NULL)",
    "INSERT INTO plants (id, bed_id, name, note, height, code, price, planted) VALUES "
    "(1, 1, 'Rose', NULL, 120, '17', 3.5, '2026-03-01'), (2, 2, 'Fern', 'old', NULL, NULL, NULL, "
    "NULL), (3, NULL, 'Oak', NULL, 7, '4', 20, '2025-11-30')",
    "INSERT INTO tags (id, plant_id, label) VALUES (1, 1, 'red'), (2, NULL, NULL)",
)
_SHAPES = cycle(
    (
        "op.execute({0!r})",
        "op.execute(sa.text({0!r}))",
        "statement = {0!r}\nop.execute(statement)",
        "op.execute(\n    {0!r}\n)",
    )
)


def sql(up: str, down: str, *fills: str, **options: object) -> Case:
    """Return a case of plain SQL, which one of the usual shapes executes."""
    options.setdefault("only", PG)
    bodies = [next(_SHAPES).format(text) if text else "pass" for text in (up, down)]
    return Case(bodies[0], bodies[1], fills, **options)  # type: ignore[arg-type]  # its fields


def op(up: str, down: str, *fills: str, **options: object) -> Case:
    """Return a case of calls of Alembic."""
    return Case(up, down, fills, **options)  # type: ignore[arg-type]  # fields of Case


def add(type_and_more: str, *fills: str, **options: object) -> Case:
    """Return a case of SQL that adds the column `extra` to plants."""
    return sql(
        f"ALTER TABLE plants ADD COLUMN extra {type_and_more}",
        "ALTER TABLE plants DROP COLUMN extra",
        *fills,
        **options,
    )


def column(definition: str, *fills: str, **options: object) -> Case:
    """Return a case of Alembic that adds the column `extra` to plants."""
    return op(
        f'op.add_column("plants", sa.Column("extra", {definition}))',
        'op.drop_column("plants", "extra")',
        *fills,
        **options,
    )


def index(definition: str, *fills: str, **options: object) -> Case:
    """Return a case of SQL that creates the index ix_extra."""
    head = "CREATE INDEX ix_extra ON plants"
    return sql(f"{head} {definition}", "DROP INDEX ix_extra", *fills, **options)


def op_index(arguments: str, *fills: str, **options: object) -> Case:
    """Return a case of Alembic that creates the index ix_extra."""
    return op(
        f'op.create_index("ix_extra", "plants", {arguments})',
        'op.drop_index("ix_extra", "plants")',
        *fills,
        **options,
    )


def rule(definition: str, *fills: str, **options: object) -> Case:
    """Return a case of SQL that adds the constraint extra to plants."""
    return sql(
        f"ALTER TABLE plants ADD CONSTRAINT extra {definition}",
        "ALTER TABLE plants DROP CONSTRAINT extra",
        *fills,
        **options,
    )


def altered(up: str, down: str, *fills: str, **options: object) -> Case:
    """Return a case of Alembic that alters a column of plants."""
    return op(
        f'op.alter_column("plants", {up})', f'op.alter_column("plants", {down})', *fills, **options
    )


def update(statement: str, *fills: str, **options: object) -> Case:
    """Return a case of SQL that changes rows, on both databases."""
    return sql(statement, "", *fills, **{"only": "", **options})


def retyped(old: str, new: str, *fills: str, column_name: str = "code", **options: object) -> Case:
    """Return a case of SQL that changes the type of a column of plants."""
    head = f"ALTER TABLE plants ALTER COLUMN {column_name}"
    return sql(f"{head} TYPE {new}", f"{head} TYPE {old}", *fills, **options)


def batch(up: str, down: str, *fills: str, **options: object) -> Case:
    """Return a case of a batch of plants."""
    head = 'with op.batch_alter_table("plants") as batch_op:\n'
    up, down = (head + indented(body) for body in (up, down))
    return op(up, down, *fills, **options)


CASES = {
    # indexes in SQL
    "index": index("(note)", only=""),
    "index unique": sql(
        "CREATE UNIQUE INDEX ix_extra ON plants (name, id)", "DROP INDEX ix_extra", only=""
    ),
    "index concurrently": op(
        "with op.get_context().autocommit_block():\n"
        '    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_extra ON plants (note)")',
        "with op.get_context().autocommit_block():\n"
        '    op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_extra")',
        only=PG,
    ),
    "index where": index("(note) WHERE note IS NOT NULL AND height > 3", only=""),
    "index expression": index("(lower(name), (height + 1))", only=""),
    "index using hash": index("USING hash (note)"),
    "index using gin": index("USING gin (data)"),
    "index using gin with opclass": index("USING gin (data jsonb_path_ops)"),
    "index using brin": index("USING brin (planted) WITH (pages_per_range = 32, autosummarize)"),
    "index opclass": index("(note text_pattern_ops, height)"),
    "index opclass of two": index("(code varchar_pattern_ops, name text_pattern_ops)"),
    "index collate": index('(name COLLATE "C")'),
    "index collate and opclass": index('(name COLLATE "C" text_pattern_ops DESC)'),
    "index order": index("(height DESC NULLS LAST, name ASC, planted DESC)"),
    "index nulls first": index("(height NULLS FIRST)"),
    "index opclass of an expression": index("(lower(name) text_pattern_ops)"),
    "index opclass with parameters": index(
        "USING brin (height int4_bloom_ops (false_positive_rate = 0.05))"
    ),
    "index include": index("(name) INCLUDE (height, note)"),
    "index with": index("(name) WITH (fillfactor = 70, deduplicate_items = off)"),
    "index nulls not distinct": sql(
        "CREATE UNIQUE INDEX ix_extra ON plants (id, note) NULLS NOT DISTINCT",
        "DROP INDEX ix_extra",
    ),
    "index tablespace": index("(name) TABLESPACE pg_default"),
    "index everything": sql(
        "CREATE UNIQUE INDEX ix_extra ON public.plants USING btree "
        '(name COLLATE "C" DESC, id) INCLUDE (note) NULLS NOT DISTINCT WITH (fillfactor = 80) '
        "WHERE height > 0",
        "DROP INDEX public.ix_extra",
    ),
    "index without a name": sql("CREATE INDEX ON plants (note)", "DROP INDEX plants_note_idx"),
    "index quoted": sql(
        'CREATE INDEX "Extra Index" ON "plants" ("note")', 'DROP INDEX "Extra Index"', only=""
    ),
    "index of a string with quotes": index("(note) WHERE note <> 'it''s \"a\" \\'"),
    "index only": sql(
        "CREATE INDEX ix_extra ON ONLY plants (note)", "DROP INDEX ix_extra", none=True
    ),
    "index cast": index("((data ->> 'a'), (code::integer))"),
    "two indexes dropped": op(
        'op.execute("CREATE INDEX ix_a ON plants (note)")\n'
        'op.execute("CREATE INDEX ix_b ON plants (code)")',
        'op.execute("DROP INDEX ix_a, ix_b")',
        only=PG,
    ),
    "index dropped by cascade": sql(
        "DROP INDEX ix_plants_name CASCADE", "CREATE INDEX ix_plants_name ON plants (name)"
    ),
    "index dropped if exists": sql(
        "DROP INDEX IF EXISTS ix_plants_name",
        "CREATE INDEX ix_plants_name ON plants (name)",
        only="",
    ),
    "index renamed": sql(
        "ALTER INDEX ix_plants_name RENAME TO ix_extra",
        "ALTER INDEX ix_extra RENAME TO ix_plants_name",
        '"plants"',
        '"plants"',
    ),
    # indexes by Alembic
    "op index": op_index('["note"]'),
    "op index unique": op_index('["name", "id"], unique=True'),
    "op index expression": op_index('[sa.text("lower(name)"), "id"]'),
    "op index desc": op_index('[sa.column("height").desc().nulls_last()]', only=PG),
    "op index using": op_index('["data"], postgresql_using="gin"', only=PG),
    "op index ops": op_index('["note", "name"], postgresql_ops={"note": "text_pattern_ops"}'),
    "op index include": op_index('["name"], postgresql_include=["note"]'),
    "op index with": op_index('["name"], postgresql_with={"fillfactor": 50}'),
    "op index where": op_index(
        '["note"], postgresql_where=sa.text("height > 3"), sqlite_where=sa.text("height > 3")'
    ),
    "op index concurrently": op(
        "with op.get_context().autocommit_block():\n"
        '    op.create_index("ix_extra", "plants", ["note"], postgresql_concurrently=True, '
        "if_not_exists=True)",
        "with op.get_context().autocommit_block():\n"
        '    op.drop_index("ix_extra", "plants", postgresql_concurrently=True, if_exists=True)',
    ),
    "op index nulls": op_index(
        '["id", "note"], unique=True, postgresql_nulls_not_distinct=True', only=PG
    ),
    "op index schema": op(
        'op.create_index("ix_extra", "plants", ["note"], schema="public")',
        'op.drop_index("ix_extra", "plants", schema="public")',
        only=PG,
    ),
    "op index f": op(
        'op.create_index(op.f("ix_extra"), "plants", ["note"], unique=False)',
        'op.drop_index(op.f("ix_extra"), table_name="plants")',
    ),
    "op index named by keywords": op(
        'op.create_index(index_name="ix_extra", table_name="plants", columns=["note"])',
        'op.drop_index(index_name="ix_extra", table_name="plants")',
    ),
    "op index mysql": op_index('["note"], mysql_length=10'),
    "op index dropped": op(
        'op.drop_index("ix_plants_name")', 'op.create_index("ix_plants_name", "plants", ["name"])'
    ),
    "op index of a variable": op(
        'columns = ["note", "height"]\nop.create_index("ix_extra", "plants", columns)',
        'op.drop_index("ix_extra")',
    ),
    "op index by convention": op(
        'op.create_index(None, "plants", ["note"])',
        'op.drop_index("ix_plants_note", "plants")',
    ),
    # columns in SQL
    "add column": add("text", only=""),
    "add column if not exists": sql(
        "ALTER TABLE plants ADD COLUMN IF NOT EXISTS extra text",
        "ALTER TABLE plants DROP COLUMN IF EXISTS extra",
    ),
    "add column schema": sql(
        "ALTER TABLE public.plants ADD COLUMN extra integer",
        "ALTER TABLE public.plants DROP COLUMN extra",
    ),
    "add column varchar": add("varchar(40)", only=""),
    "add column varchar without length": add("varchar"),
    "add column char": add("char(3)"),
    "add column numeric": add("numeric(10, 2)", only=""),
    "add column numeric without scale": add("numeric(7)"),
    "add column decimal": add("decimal"),
    "add column real": add("real"),
    "add column double": add("double precision"),
    "add column float": add("float(20)"),
    "add column timestamptz": add("timestamptz(3)"),
    "add column timestamp with time zone": add("timestamp with time zone"),
    "add column time": add("time"),
    "add column timetz": add("time(2) with time zone"),
    "add column interval": add("interval"),
    "add column interval fields": add("interval day to second(3)"),
    "add column interval precision": add("interval(4)"),
    "add column array": add("text[]"),
    "add column array of arrays": add("varchar(3)[][]"),
    "add column jsonb": add("jsonb"),
    "add column json": add("json"),
    "add column uuid": add("uuid"),
    "add column bytea": add("bytea"),
    "add column inet": add("inet"),
    "add column cidr": add("cidr"),
    "add column macaddr": add("macaddr8"),
    "add column bit": add("bit(4)"),
    "add column varbit": add("bit varying(9)"),
    "add column money": add("money"),
    "add column tsvector": add("tsvector"),
    "add column range": add("int8range"),
    "add column multirange": add("datemultirange"),
    "add column smallint": add("int2"),
    "add column boolean": add("bool DEFAULT true NOT NULL"),
    "add column enum": add("mood", "sa.Enum('sad', 'ok', name='mood', create_type=False)"),
    "add column point": add("point", USER_TYPE.format("point")),
    "add column xml": add("xml", USER_TYPE.format("xml")),
    "add column default": add("integer DEFAULT 3 NOT NULL", only=""),
    "add column default expression": add(
        "timestamptz DEFAULT (now() - interval '1 day')", other_rows=True
    ),
    "add column default text": add("text NOT NULL DEFAULT 'it''s 5:30 \"pm\"'"),
    "add column default null": add("text DEFAULT NULL"),
    "add column default cast": add("jsonb NOT NULL DEFAULT '{}'::jsonb"),
    "add column default volatile": add("uuid DEFAULT gen_random_uuid()", other_rows=True),
    "add column null": add("text NULL"),
    "add column required": add("text NOT NULL", '"new"', alone=True),
    "add column collate": add('text COLLATE "C"'),
    "add column collate varchar": add("varchar(5) COLLATE \"C\" DEFAULT 'a'"),
    "add column check": add("integer CHECK (extra > 3)"),
    "add column named check": add("integer CONSTRAINT positive CHECK (extra > 3 OR extra = 0)"),
    "add column two checks": add(
        "integer CONSTRAINT a CHECK (extra > 3) CONSTRAINT b CHECK (extra < 9)"
    ),
    "add column unique": add("text UNIQUE"),
    "add column named unique": add("text CONSTRAINT uq_extra UNIQUE"),
    "add column references": add("integer REFERENCES beds", '"id"'),
    "add column named references": add(
        "integer CONSTRAINT fk_extra REFERENCES beds (id) MATCH FULL ON DELETE SET NULL "
        "ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
    ),
    "add column references and default": add(
        "integer DEFAULT 1 NOT NULL CONSTRAINT fk_extra REFERENCES beds (id)"
    ),
    "add column generated virtual": add("integer GENERATED ALWAYS AS (height * 2) VIRTUAL"),
    "add column identity": add("integer GENERATED ALWAYS AS IDENTITY", none=True),
    "add column stored": add("integer GENERATED ALWAYS AS (height * 2) STORED", none=True),
    "add column storage": add("text STORAGE EXTERNAL", none=True),
    "add column compression": add("text COMPRESSION pglz", none=True),
    "add column primary key": sql(
        "ALTER TABLE plants ADD COLUMN extra integer PRIMARY KEY", "", none=True
    ),
    "add column quoted": sql(
        'ALTER TABLE "plants" ADD COLUMN "Extra" text',
        'ALTER TABLE "plants" DROP COLUMN "Extra"',
        only="",
    ),
    "add several columns": sql(
        "ALTER TABLE plants ADD COLUMN a text, ADD COLUMN b integer DEFAULT 3 NOT NULL",
        "ALTER TABLE plants DROP COLUMN a, DROP COLUMN b",
    ),
    "several actions": sql(
        "ALTER TABLE plants ADD COLUMN a text, ALTER COLUMN height SET DEFAULT 5, "
        "ADD CONSTRAINT extra CHECK (height < 900), ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE plants DROP COLUMN a, ALTER COLUMN height SET DEFAULT 1, "
        "DROP CONSTRAINT extra, ALTER COLUMN name SET NOT NULL",
        '"?"',
    ),
    "several actions, one without a spelling": sql(
        "ALTER TABLE plants ADD COLUMN a text, ALTER COLUMN height SET STATISTICS 500, "
        "ALTER COLUMN note SET DEFAULT 'x'",
        "ALTER TABLE plants DROP COLUMN a, ALTER COLUMN height SET STATISTICS -1, "
        "ALTER COLUMN note DROP DEFAULT",
    ),
    "several statements": sql(
        "ALTER TABLE plants ADD COLUMN a text; CREATE INDEX ix_a ON plants (a); "
        "UPDATE plants SET a = name WHERE a IS NULL",
        "DROP INDEX ix_a; ALTER TABLE plants DROP COLUMN a",
    ),
    "several statements, one without a spelling": sql(
        "CREATE INDEX ix_a ON plants (note); INSERT INTO beds (id, place) VALUES (9, 'a;b') "
        "ON CONFLICT DO NOTHING",
        "DELETE FROM beds WHERE id = 9; DROP INDEX ix_a",
        other_rows=True,
    ),
    "drop column": sql(
        "ALTER TABLE plants DROP COLUMN note",
        "ALTER TABLE plants ADD COLUMN note text",
        only="",
        other_rows=True,
    ),
    "drop column cascade": sql(
        "ALTER TABLE plants DROP COLUMN note CASCADE",
        "ALTER TABLE plants ADD COLUMN note text",
        other_rows=True,
    ),
    "drop column restrict": sql(
        "ALTER TABLE plants DROP COLUMN IF EXISTS note RESTRICT",
        "ALTER TABLE plants ADD COLUMN note text",
        other_rows=True,
    ),
    # columns by Alembic
    "op column": column("sa.Text()"),
    "op column default": column("sa.Integer(), server_default='3', nullable=False"),
    "op column text default": column("sa.Text(), server_default=sa.text(\"'a'\")"),
    "op column comment": column("sa.Text(), comment='in \"cm\"'"),
    "op column collation": column("sa.Text(collation='C')", only=PG),
    "op column array": column("postgresql.ARRAY(sa.Text())", only=PG),
    "op column check": column("sa.Integer(), sa.CheckConstraint('extra > 2', name='positive')"),
    "op column unique": column("sa.Text(), unique=True"),
    "op column index": column("sa.Text(), index=True", only=PG),
    "op column unique and default": column("sa.Text(), unique=True, comment='x'"),
    "op column foreign key": column("sa.Integer(), sa.ForeignKey('beds.id', name='fk_extra')"),
    "op column foreign key with everything": column(
        "sa.Integer(), sa.ForeignKey('beds.id', name='fk_extra', ondelete='SET NULL', "
        "onupdate='CASCADE', deferrable=True, initially='DEFERRED'), comment='the bed'"
    ),
    "op column foreign key by convention": column("sa.Integer(), sa.ForeignKey('beds.id')"),
    "op column volatile": column(
        "sa.Uuid(), server_default=sa.text('gen_random_uuid()')", only=PG, other_rows=True
    ),
    "op column volatile with comment": column(
        "sa.Uuid(), server_default=sa.func.gen_random_uuid(), comment='key'",
        only=PG,
        other_rows=True,
    ),
    "op column volatile and required": column(
        "sa.Uuid(), server_default=sa.text('gen_random_uuid()'), nullable=False",
        only=PG,
        other_rows=True,
    ),
    "op column of a name": op(
        'extra = sa.Column("extra", sa.Text(), nullable=True)\nop.add_column("plants", extra)',
        'op.drop_column("plants", "extra")',
    ),
    "op column schema": op(
        'op.add_column("plants", sa.Column("extra", sa.Text()), schema="public")',
        'op.drop_column("plants", "extra", schema="public")',
        only=PG,
    ),
    "op column schema and foreign key": op(
        'op.add_column("plants", sa.Column("extra", sa.Integer(), '
        'sa.ForeignKey("public.beds.id", name="fk_extra")), schema="public")',
        'op.drop_column("plants", "extra", schema="public")',
        only=PG,
    ),
    "op column if not exists": op(
        'op.add_column("plants", sa.Column("extra", sa.Text()), if_not_exists=True)',
        'op.drop_column("plants", "extra", if_exists=True)',
        only=PG,
    ),
    "op column named by keywords": op(
        'op.add_column(table_name="plants", column=sa.Column("extra", sa.Text()))',
        'op.drop_column(table_name="plants", column_name="extra")',
    ),
    "op column computed": column("sa.Integer(), sa.Computed('height * 2', persisted=False)"),
    "op column required": column("sa.Text(), nullable=False", '"new"', alone=True),
    "op column enum": column(
        "postgresql.ENUM('sad', 'ok', name='mood', create_type=False)", only=PG
    ),
    "op column dropped": op(
        'op.drop_column("plants", "note")',
        'op.add_column("plants", sa.Column("note", sa.Text()))',
        other_rows=True,
    ),
    "op column in a loop": op(
        'for extra in ("a", "b"):\n    op.add_column("plants", sa.Column(extra, sa.Text()))',
        'for extra in ("a", "b"):\n    op.drop_column("plants", extra)',
    ),
    # changes of columns in SQL
    "type": retyped("varchar(20)", "varchar(40)"),
    "type text": retyped("varchar(20)", "text"),
    "type set data": sql(
        "ALTER TABLE plants ALTER code SET DATA TYPE text",
        "ALTER TABLE plants ALTER code SET DATA TYPE varchar(20)",
    ),
    "type bigint": retyped("integer", "bigint", column_name="height"),
    "type using": retyped(
        "varchar(20) USING code::varchar(20)",
        "integer USING code::integer",
    ),
    "type using expression": retyped(
        "varchar(20) USING nullif(code, 0)::text",
        "integer USING coalesce(nullif(code, '17'), '0')::integer",
        "",
        other_rows=True,
    ),
    "type collate": retyped('varchar(20) COLLATE "default"', 'varchar(20) COLLATE "C"'),
    "type array": retyped("varchar(20) USING code[1]", "text[] USING string_to_array(code, ',')"),
    "type numeric": retyped("numeric(8, 2)", "numeric(12, 2)", column_name="price"),
    "type with default": sql(
        "ALTER TABLE plants ALTER COLUMN height DROP DEFAULT, ALTER COLUMN height TYPE bigint, "
        "ALTER COLUMN height SET DEFAULT 2",
        "ALTER TABLE plants ALTER COLUMN height DROP DEFAULT, ALTER COLUMN height TYPE integer, "
        "ALTER COLUMN height SET DEFAULT 1",
    ),
    "type point": retyped(
        "date USING NULL",
        "point USING NULL",
        USER_TYPE.format("point"),
        column_name="planted",
        other_rows=True,
    ),
    "default": sql(
        "ALTER TABLE plants ALTER COLUMN note SET DEFAULT 'it''s'",
        "ALTER TABLE plants ALTER COLUMN note DROP DEFAULT",
    ),
    "default expression": sql(
        "ALTER TABLE public.plants ALTER planted SET DEFAULT CURRENT_DATE + 1",
        "ALTER TABLE public.plants ALTER planted DROP DEFAULT",
    ),
    "not null": sql(
        "ALTER TABLE plants ALTER COLUMN bed_id DROP NOT NULL, ALTER name DROP NOT NULL",
        "ALTER TABLE plants ALTER name SET NOT NULL",
        '"?"',
    ),
    "rename column": sql(
        "ALTER TABLE plants RENAME COLUMN note TO remark",
        "ALTER TABLE plants RENAME remark TO note",
        only="",
    ),
    "rename column schema": sql(
        'ALTER TABLE public.plants RENAME "note" TO "Remark"',
        'ALTER TABLE public.plants RENAME "Remark" TO note',
    ),
    "rename table": sql(
        "ALTER TABLE beds RENAME TO patches", "ALTER TABLE patches RENAME TO beds", only=""
    ),
    "rename table schema": sql(
        "ALTER TABLE public.beds RENAME TO patches", "ALTER TABLE public.patches RENAME TO beds"
    ),
    "rename constraint": sql(
        "ALTER TABLE plants RENAME CONSTRAINT ck_plants_height TO extra",
        "ALTER TABLE plants RENAME CONSTRAINT extra TO ck_plants_height",
    ),
    "identity": sql(
        "ALTER TABLE plants ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START 9)",
        "ALTER TABLE plants ALTER COLUMN id DROP IDENTITY",
        none=True,
    ),
    # changes of columns by Alembic
    "op type": altered('"code", type_=sa.String(40)', '"code", type_=sa.String(20)'),
    "op type existing": altered(
        '"height", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=True, '
        'existing_server_default="1"',
        '"height", existing_type=sa.BigInteger(), type_=sa.Integer(), existing_nullable=True',
    ),
    "op type using": altered(
        '"code", type_=sa.Integer(), postgresql_using="code::integer"',
        '"code", type_=sa.String(20), postgresql_using="code::varchar"',
        only=PG,
    ),
    "op type schema": altered(
        '"code", type_=sa.Text(), schema="public"',
        '"code", type_=sa.String(20), schema="public"',
        only=PG,
    ),
    "op default": altered('"note", server_default="x"', '"note", server_default=None'),
    "op default false": altered(
        '"note", server_default=False, nullable=None, comment=False, type_=sa.String()',
        '"note", type_=sa.Text()',
        only=PG,
    ),
    "op nullable": altered('"name", nullable=True', '"name", nullable=False', '"?"'),
    "op nullable of a variable": op(
        'free = True\nop.alter_column("plants", "name", nullable=free)',
        'op.alter_column("plants", "name", nullable=False)',
        '"?"',
    ),
    "op nullable and no schema": altered(
        '"name", nullable=True, schema=None', '"name", nullable=False', '"?"'
    ),
    "op comment": altered('"note", comment="for us"', '"note", comment=None'),
    "op comment existing": altered(
        '"note", comment="for us", existing_comment=None',
        '"note", comment=None, existing_comment="for us"',
    ),
    "op rename": altered('"note", new_column_name="remark"', '"remark", new_column_name="note"'),
    "op everything": op(
        'op.alter_column("plants", "code", type_=sa.Text(), server_default="7", nullable=True, '
        'comment="a code", new_column_name="sign", schema="public")',
        'op.alter_column("plants", "sign", type_=sa.String(20), server_default=None, '
        'comment=None, new_column_name="code", schema="public")',
        only=PG,
    ),
    "op named by keywords": op(
        'op.alter_column(table_name="plants", column_name="note", server_default="x")',
        'op.alter_column(table_name="plants", column_name="note", server_default=None)',
    ),
    "op identity": altered(
        '"id", server_default=sa.Identity()', '"id", server_default=None', none=True, only=PG
    ),
    # constraints in SQL
    "check": rule("CHECK (height < 900)"),
    "check of two": rule("CHECK (height < 900 OR note = 'a''b(' AND code IS NULL)"),
    "check not valid": rule("CHECK (height < 900) NOT VALID"),
    "check no inherit": rule("CHECK (height < 900) NO INHERIT", none=True),
    "check not enforced": rule("CHECK (height < 900) NOT ENFORCED", none=True),
    "check without a name": sql(
        "ALTER TABLE plants ADD CHECK (height < 900)",
        "ALTER TABLE plants DROP CONSTRAINT plants_height_check",
    ),
    "check and validate": op(
        'op.execute("ALTER TABLE plants ADD CONSTRAINT extra CHECK (height < 900) NOT VALID")\n'
        "with op.get_context().autocommit_block():\n"
        '    op.execute("ALTER TABLE plants VALIDATE CONSTRAINT extra")',
        'op.execute("ALTER TABLE plants DROP CONSTRAINT extra")',
        only=PG,
    ),
    "unique": rule("UNIQUE (name, id)"),
    "unique nulls not distinct": rule("UNIQUE NULLS NOT DISTINCT (id, note)"),
    "unique include": rule("UNIQUE (id, name) INCLUDE (note)"),
    "unique deferrable": rule("UNIQUE (id, name) DEFERRABLE"),
    "unique deferred": rule("UNIQUE (id, name) DEFERRABLE INITIALLY DEFERRED"),
    "unique with": rule("UNIQUE (id, name) WITH (fillfactor = 70)", none=True),
    "unique tablespace": rule("UNIQUE (id, name) USING INDEX TABLESPACE pg_default", none=True),
    "unique without a name": sql(
        "ALTER TABLE plants ADD UNIQUE (name)",
        "ALTER TABLE plants DROP CONSTRAINT plants_name_key",
    ),
    "primary key": sql(
        "ALTER TABLE tags DROP CONSTRAINT pk_tags, ADD PRIMARY KEY (id)",
        "ALTER TABLE tags DROP CONSTRAINT tags_pkey, ADD CONSTRAINT pk_tags PRIMARY KEY (id)",
    ),
    "exclude": rule("EXCLUDE USING btree (name WITH =)", none=True),
    "foreign key": rule("FOREIGN KEY (bed_id) REFERENCES beds (id)"),
    "foreign key without columns": rule("FOREIGN KEY (bed_id) REFERENCES beds", '"id"'),
    "foreign key with everything": rule(
        "FOREIGN KEY (bed_id) REFERENCES public.beds (id) MATCH FULL ON DELETE SET NULL "
        "ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED"
    ),
    "foreign key set columns": sql(
        "ALTER TABLE plants ADD CONSTRAINT extra FOREIGN KEY (bed_id) REFERENCES beds "
        "(id) ON DELETE SET NULL (bed_id)",
        "ALTER TABLE plants DROP CONSTRAINT extra",
    ),
    "foreign key set default": rule(
        "FOREIGN KEY (bed_id) REFERENCES beds (id) ON DELETE SET DEFAULT ON UPDATE RESTRICT"
    ),
    "foreign key not deferrable": rule(
        "FOREIGN KEY (bed_id) REFERENCES beds (id) ON DELETE NO ACTION NOT DEFERRABLE"
    ),
    "foreign key not valid": rule("FOREIGN KEY (bed_id) REFERENCES beds (id) NOT VALID"),
    "foreign key not enforced": rule(
        "FOREIGN KEY (bed_id) REFERENCES beds (id) NOT ENFORCED", none=True
    ),
    "drop constraint": sql(
        "ALTER TABLE plants DROP CONSTRAINT ck_plants_height",
        "ALTER TABLE plants ADD CONSTRAINT ck_plants_height CHECK (height > 0)",
    ),
    "drop constraint cascade": sql(
        "ALTER TABLE IF EXISTS ONLY plants DROP CONSTRAINT IF EXISTS ck_plants_height CASCADE",
        "ALTER TABLE plants ADD CONSTRAINT ck_plants_height CHECK (height > 0)",
    ),
    "using index": sql(
        "ALTER TABLE plants ADD CONSTRAINT extra UNIQUE USING INDEX ix_none", "", none=True
    ),
    # constraints by Alembic
    "op check": op(
        'op.create_check_constraint("tall", "plants", "height < 900")',
        'op.drop_constraint("tall", "plants", type_="check")',
        only=PG,
    ),
    "op check f": op(
        'op.create_check_constraint(op.f("extra"), "plants", sa.column("height") < 900)',
        'op.drop_constraint(op.f("extra"), "plants", "check")',
        only=PG,
    ),
    "op check not valid": op(
        'op.create_check_constraint(op.f("extra"), "plants", "height < 900", '
        "postgresql_not_valid=True)",
        'op.drop_constraint(op.f("extra"), "plants", type_="check")',
        only=PG,
    ),
    "op check schema": op(
        'op.create_check_constraint(op.f("extra"), "plants", "height < 900", schema="public")',
        'op.drop_constraint(op.f("extra"), "plants", schema="public")',
        only=PG,
    ),
    "op unique": op(
        'op.create_unique_constraint("extra", "plants", ["name", "id"])',
        'op.drop_constraint("extra", "plants", type_="unique")',
        only="",
    ),
    "op unique with everything": op(
        'op.create_unique_constraint("extra", "plants", ["id", "note"], deferrable=True, '
        'initially="DEFERRED", postgresql_nulls_not_distinct=True, postgresql_include=["note"])',
        'op.drop_constraint("extra", "plants", type_="unique")',
        only=PG,
    ),
    "op unique by convention": op(
        'op.create_unique_constraint(None, "plants", ["name"])',
        'op.drop_constraint("uq_plants_name", "plants", type_="unique")',
        only=PG,
    ),
    "op foreign key": op(
        'op.create_foreign_key("extra", "plants", "beds", ["bed_id"], ["id"])',
        'op.drop_constraint("extra", "plants", type_="foreignkey")',
    ),
    "op foreign key by convention": op(
        'op.create_foreign_key(None, "plants", "beds", ["bed_id"], ["id"], ondelete="CASCADE")',
        'op.drop_constraint("fk_plants_bed_id_beds", "plants", type_="foreignkey")',
    ),
    "op foreign key with everything": op(
        'op.create_foreign_key("extra", "plants", "beds", ["bed_id"], ["id"], '
        'onupdate="CASCADE", ondelete="SET NULL", deferrable=True, initially="DEFERRED", '
        'match="FULL", source_schema="public", referent_schema="public")',
        'op.drop_constraint("extra", "plants", type_="foreignkey", schema="public")',
        only=PG,
    ),
    "op foreign key not valid": op(
        'op.create_foreign_key("extra", "plants", "beds", ["bed_id"], ["id"], '
        "postgresql_not_valid=True)",
        'op.drop_constraint("extra", "plants")',
    ),
    "op foreign key named by keywords": op(
        'op.create_foreign_key(constraint_name="extra", source_table="plants", '
        'referent_table="beds", local_cols=["bed_id"], remote_cols=["id"])',
        'op.drop_constraint(constraint_name="extra", table_name="plants", type_="foreignkey")',
    ),
    "op unique dropped": op(
        'op.drop_constraint("uq_beds_place", "beds", type_="unique")',
        'op.create_unique_constraint("uq_beds_place", "beds", ["place"])',
    ),
    # tables
    "drop table": op(
        'op.execute("DROP TABLE IF EXISTS tags")',
        'op.create_table(\n    "tags",\n    sa.Column("id", sa.Integer(), nullable=False),\n'
        '    sa.Column("plant_id", sa.Integer(), nullable=True),\n'
        '    sa.Column("label", sa.Text(), nullable=True),\n'
        '    sa.ForeignKeyConstraint(["plant_id"], ["plants.id"], '
        'name=op.f("fk_tags_plant_id_plants"), ondelete="CASCADE"),\n'
        '    sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),\n)',
        only=PG,
        other_rows=True,
    ),
    "op table": op(
        'op.create_table(\n    "pots",\n    sa.Column("id", sa.Integer(), primary_key=True),\n'
        '    sa.Column("size", sa.Integer(), comment="in cm"),\n    comment="pots",\n)',
        'op.drop_table("pots")',
    ),
    "op table dropped": op(
        'op.drop_table("tags")',
        'op.create_table(\n    "tags",\n    sa.Column("id", sa.Integer(), nullable=False),\n'
        '    sa.Column("plant_id", sa.Integer(), nullable=True),\n'
        '    sa.Column("label", sa.Text(), nullable=True),\n'
        '    sa.ForeignKeyConstraint(["plant_id"], ["plants.id"], '
        'name=op.f("fk_tags_plant_id_plants"), ondelete="CASCADE"),\n'
        '    sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),\n)',
        other_rows=True,
    ),
    "op table renamed": op(
        'op.rename_table("beds", "patches")', 'op.rename_table("patches", "beds")'
    ),
    "op table renamed schema": op(
        'op.rename_table("beds", "patches", schema="public")',
        'op.rename_table("patches", "beds", schema="public")',
        only=PG,
    ),
    "table": sql(
        "CREATE TABLE pots (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plant_id int NOT "
        "NULL REFERENCES plants (id) ON DELETE CASCADE, name varchar(20) DEFAULT 'a' UNIQUE, "
        "size int CHECK (size > 0), twice int GENERATED ALWAYS AS (size * 2) STORED, made "
        "timestamptz NOT NULL DEFAULT now(), mood mood, CONSTRAINT small CHECK (size < 9), "
        "UNIQUE (plant_id, name)) WITH (fillfactor = 70); CREATE INDEX ON pots (made)",
        "DROP TABLE pots",
        'sa.Enum("sad", "ok", name="mood")',
    ),
    "table of a serial": sql(
        'CREATE TABLE IF NOT EXISTS public.pots (id bigserial, name text COLLATE "C" NOT NULL, '
        "CONSTRAINT pots_key PRIMARY KEY (id))",
        "DROP TABLE public.pots",
    ),
    "table of two keys": sql(
        "CREATE TABLE pots (bed_id int, plant_id int DEFAULT 1, PRIMARY KEY (bed_id, plant_id))",
        "DROP TABLE IF EXISTS pots",
    ),
    "table with a key of its own": sql(
        "CREATE TABLE pots (id int PRIMARY KEY, note text)", "DROP TABLE pots", only=""
    ),
    "table dropped": sql(
        "DROP TABLE tags",
        "CREATE TABLE tags (id serial CONSTRAINT pk_tags PRIMARY KEY, plant_id int CONSTRAINT "
        "fk_tags_plant_id_plants REFERENCES plants (id) ON DELETE CASCADE, label text)",
        other_rows=True,
    ),
    "table with a clause": sql(
        "DROP TABLE tags", "CREATE UNLOGGED TABLE tags (id serial PRIMARY KEY)", none=True
    ),
    "table of a query": sql("DROP TABLE tags", "CREATE TABLE tags AS TABLE beds", none=True),
    "table partitioned": sql(
        "CREATE TABLE pots (id int) PARTITION BY RANGE (id)", "DROP TABLE pots", none=True
    ),
    "truncate": sql("TRUNCATE tags", "", none=True),
    "truncate cascade": sql("TRUNCATE TABLE plants, tags RESTART IDENTITY CASCADE", "", none=True),
    "delete": sql("DELETE FROM tags WHERE id > 1", "", none=True, only=""),
    # types
    "enum value": op(
        "with op.get_context().autocommit_block():\n"
        "    op.execute(\"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'glad' AFTER 'ok'\")",
        "pass",
        '"sad", "ok", "glad"',
        '"sad", "ok"',
        '("plants", "mood")',
        '"sad", "ok"',
        '"sad", "ok", "glad"',
        '("plants", "mood")',
        only=PG,
        differs=("enum mood",),
    ),
    "enum value at the end": op(
        "with op.get_context().autocommit_block():\n"
        "    op.execute(\"ALTER TYPE mood ADD VALUE 'glad'\")",
        "pass",
        '"sad", "ok"',
        '"sad", "ok"',
        '("plants", "mood")',
        '"sad", "ok"',
        '"sad", "ok", "glad"',
        '("plants", "mood")',
        only=PG,
        differs=("enum mood",),
    ),
    "enum value renamed": sql(
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'",
        '"blue", "ok"',
        '"sad", "ok"',
        '("plants", "mood")',
        '"sad", "ok"',
        '"blue", "ok"',
        '("plants", "mood")',
        differs=("enum mood",),
    ),
    # rows
    "update": update("UPDATE plants SET note = 'new' WHERE note IS NULL"),
    "update without where": update("UPDATE plants SET note = 'new'"),
    "update of two without where": update("UPDATE plants SET note = 'new', height = 8"),
    "update of two": update("UPDATE plants SET note = 'x', height = 2 WHERE height IS NULL"),
    "update alias": update("UPDATE plants AS p SET note = p.name WHERE p.note IS NULL"),
    "update alias without as": update(
        "UPDATE plants p SET note = upper(p.name), height = 3 WHERE p.height IS NULL AND p.id > 0"
    ),
    "update alias in a subquery": update(
        "UPDATE plants AS p SET note = (SELECT place FROM beds AS b WHERE b.id = p.bed_id) "
        "WHERE p.note IS NULL AND EXISTS (SELECT 1 FROM beds b WHERE b.id = p.bed_id)"
    ),
    "update schema": update(
        "UPDATE public.plants SET note = 'new' WHERE plants.note IS NULL", only=PG
    ),
    "update of columns together": update(
        "UPDATE plants SET (note, height) = ('a', 5) WHERE height IS NULL"
    ),
    "update percent": update(
        "UPDATE plants SET note = '100 % at 5:30' WHERE name LIKE 'R%' AND note IS NULL"
    ),
    "update quotes": update("UPDATE plants SET note = 'it''s \"new\"' WHERE note IS NULL"),
    "update default": update("UPDATE plants SET height = DEFAULT WHERE height IS NULL", only=PG),
    "update returning": update("UPDATE plants SET note = 'x' WHERE note IS NULL RETURNING id"),
    "update from": update(
        "UPDATE plants SET note = beds.place FROM beds WHERE beds.id = plants.bed_id",
        '"note = (SELECT place FROM beds WHERE beds.id = plants.bed_id)"',
        '"bed_id IS NOT NULL AND note IS DISTINCT FROM '
        '(SELECT place FROM beds WHERE beds.id = plants.bed_id)"',
    ),
    "update by a cte": update(
        "WITH big AS (SELECT id FROM beds WHERE size > 2) "
        "UPDATE plants SET note = 'big' WHERE bed_id IN (SELECT id FROM big)",
        "\"note = 'big'\"",
        "\"bed_id IN (SELECT id FROM beds WHERE size > 2) AND note IS DISTINCT FROM 'big'\"",
    ),
    "core update": op(
        'plants = sa.table("plants", sa.column("note", sa.Text()), sa.column("height", sa.Integer()))\n'  # noqa: E501
        'op.execute(sa.update(plants).where(plants.c.note.is_(None)).values(note="it\'s 5:30"))',
        "pass",
    ),
    "core update of an expression": op(
        'plants = sa.table("plants", sa.column("note", sa.Text()), sa.column("name"))\n'
        "op.execute(\n    plants.update()\n    .where(plants.c.note == sa.null())\n"
        "    .values(note=sa.func.upper(plants.c.name))\n)",
        "pass",
    ),
    "core update of an alias": op(
        'plants = sa.table("plants", sa.column("note", sa.Text()), sa.column("height", sa.Integer()))\n'  # noqa: E501
        'op.execute(sa.update(plants).where(plants.c.height == None).values({"height": 9}))',
        "pass",
    ),
    "update with a bound value": op(
        'op.execute(sa.text("UPDATE plants SET note = :note WHERE note IS NULL")'
        '.bindparams(note="it\'s"))',
        "pass",
    ),
    "core index": op(
        'plants = sa.Table("plants", sa.MetaData(), sa.Column("note", sa.Text()))\n'
        'op.execute(sa.schema.CreateIndex(sa.Index("ix_extra", plants.c.note)))',
        'op.execute("DROP INDEX ix_extra")',
    ),
    # batches
    "batch column": batch(
        'batch_op.add_column(sa.Column("extra", sa.Text()))', 'batch_op.drop_column("extra")'
    ),
    "batch column named": batch(
        'batch_op.add_column(column=sa.Column("extra", sa.Text()))',
        'batch_op.drop_column(column_name="extra")',
    ),
    "batch of several": batch(
        'batch_op.add_column(sa.Column("extra", sa.Integer()))\n'
        'batch_op.alter_column("extra", server_default="3", nullable=True)\n'
        'batch_op.create_index(batch_op.f("ix_plants_extra"), ["extra"], unique=False)',
        'batch_op.drop_index(batch_op.f("ix_plants_extra"))\nbatch_op.drop_column("extra")',
    ),
    "batch check": batch(
        'batch_op.create_check_constraint(batch_op.f("extra"), "height < 900")',
        'batch_op.drop_constraint(batch_op.f("extra"), type_="check")',
    ),
    "batch unique": batch(
        'batch_op.create_unique_constraint("extra", ["name", "id"])',
        'batch_op.drop_constraint("extra", "unique")',
    ),
    "batch foreign key": batch(
        'batch_op.create_foreign_key("extra", "beds", ["bed_id"], ["id"], ondelete="SET NULL")',
        'batch_op.drop_constraint("extra", type_="foreignkey")',
    ),
    "batch foreign key named by keywords": batch(
        'batch_op.create_foreign_key(constraint_name="extra", referent_table="beds", '
        'local_cols=["bed_id"], remote_cols=["id"])',
        'batch_op.drop_constraint(constraint_name="extra", type_="foreignkey")',
    ),
    "batch type": batch(
        'batch_op.alter_column("code", existing_type=sa.String(20), type_=sa.Text())',
        'batch_op.alter_column("code", existing_type=sa.Text(), type_=sa.String(20))',
    ),
    "batch index with a condition": batch(
        'batch_op.create_index("ix_extra", ["note"], postgresql_where=sa.text("height > 3"), '
        'sqlite_where=sa.text("height > 3"))',
        'batch_op.drop_index("ix_extra")',
    ),
    "batch with a schema": op(
        'with op.batch_alter_table("plants", schema="public") as batch_op:\n'
        '    batch_op.add_column(sa.Column("extra", sa.Text()))\n'
        '    batch_op.create_index("ix_extra", ["extra"])',
        'with op.batch_alter_table("plants", schema="public") as batch_op:\n'
        '    batch_op.drop_index("ix_extra")\n'
        '    batch_op.drop_column("extra")',
        only=PG,
    ),
    "batch of a table by its keyword": op(
        'with op.batch_alter_table(table_name="plants") as batch_op:\n'
        '    batch_op.add_column(sa.Column("extra", sa.Text()))',
        'with op.batch_alter_table(table_name="plants") as batch_op:\n'
        '    batch_op.drop_column("extra")',
    ),
    "batch rename": batch(
        'batch_op.alter_column("note", new_column_name="remark")',
        'batch_op.alter_column("remark", new_column_name="note")',
    ),
    "batch place": batch(
        'batch_op.add_column(sa.Column("extra", sa.Text()), insert_after="name")',
        'batch_op.drop_column("extra")',
        alone=True,
    ),
    "batch everything": op(
        'with op.batch_alter_table("plants", schema=None) as b:\n'
        '    b.alter_column("code", existing_type=sa.String(20), type_=sa.String(30), '
        'nullable=True, server_default="7", comment="a code")\n'
        '    b.alter_column("code", new_column_name="sign")',
        'with op.batch_alter_table("plants", schema=None) as b:\n'
        '    b.alter_column("sign", new_column_name="code")\n'
        '    b.alter_column("code", existing_type=sa.String(30), type_=sa.String(20), '
        "server_default=None, comment=None)",
    ),
    # what forbids to set aside
    "drop column with a foreign key": sql(
        "ALTER TABLE tags DROP COLUMN plant_id",
        "ALTER TABLE tags ADD COLUMN plant_id integer CONSTRAINT fk_tags_plant_id_plants "
        "REFERENCES plants (id) ON DELETE CASCADE",
        other_rows=True,
    ),
    "op column with a foreign key dropped": op(
        'op.drop_column("tags", "plant_id")',
        'op.add_column("tags", sa.Column("plant_id", sa.Integer(), sa.ForeignKey("plants.id", '
        'ondelete="CASCADE")))',
        other_rows=True,
    ),
    "op column and its rules": op(
        'op.add_column("plants", sa.Column("extra", sa.Integer()))\n'
        'op.create_check_constraint(op.f("ck_extra"), "plants", "extra > 0")\n'
        'op.create_unique_constraint("uq_extra", "plants", ["extra", "id"])\n'
        'op.create_foreign_key("fk_extra", "plants", "beds", ["extra"], ["id"])',
        'op.drop_column("plants", "extra")',
    ),
    "op column and its rules, which are dropped": op(
        'op.add_column("plants", sa.Column("extra", sa.Integer()))\n'
        'op.create_foreign_key("fk_extra", "plants", "beds", ["extra"], ["id"])',
        'op.drop_constraint("fk_extra", "plants", type_="foreignkey")\n'
        'op.drop_column("plants", "extra")',
    ),
    # ways down that are missing
    "no way down from an index": op('op.create_index("ix_extra", "plants", ["note"])', "pass"),
    "no way down from a column": op(
        'op.add_column("plants", sa.Column("extra", sa.Integer(), '
        'sa.ForeignKey("beds.id", name="fk_extra")))\n'
        'op.create_index("ix_extra", "plants", ["extra"])',
        "pass",
    ),
    "no way down from several": op(
        'op.execute("ALTER TABLE plants RENAME COLUMN note TO remark")\n'
        'op.rename_table("beds", "patches")\n'
        'op.create_unique_constraint("uq_extra", "plants", ["name", "id"])',
        "pass",
    ),
    "no way down from a type": op(
        'op.alter_column("plants", "code", type_=sa.Text())', "pass", "sa.String(20)"
    ),
    "no way down from a column that is dropped": op(
        'op.drop_column("plants", "note")', "pass", "sa.Text()"
    ),
    "no way down from a table": op(
        'op.create_table("pots", sa.Column("id", sa.Integer(), primary_key=True))', "pass"
    ),
    # shapes
    "a module by another name": op(
        "from alembic import op as o\n"
        'o.create_index(o.f("ix_extra"), "plants", ["note"], unique=False)',
        'from alembic.op import drop_index, f\ndrop_index(f("ix_extra"), table_name="plants")',
    ),
    "a starred argument": op(
        'arguments = ["ix_extra", "plants", ["note"]]\nop.create_index(*arguments)',
        'op.drop_index("ix_extra", "plants")',
    ),
    "unpacked options": op(
        'options = {"unique": True}\nop.create_index("ix_extra", "plants", ["id"], **options)',
        'op.drop_index("ix_extra", "plants")',
    ),
    "a loop over SQL": op(
        'for table in ("beds", "tags"):\n'
        "    op.execute(f\"ALTER TABLE {table} ADD COLUMN extra text DEFAULT 'a' NOT NULL\")",
        'for table in ("beds", "tags"):\n    op.execute(f"ALTER TABLE {table} DROP COLUMN extra")',
        only=PG,
    ),
    "a connection": op(
        'op.get_bind().execute(sa.text("UPDATE plants SET note = :note WHERE note IS NULL"), '
        '{"note": "it\'s :x"})',
        "pass",
    ),
    "a comment in SQL": sql(
        "/* about ; */ CREATE INDEX ix_extra -- for ' lists\n ON plants (note);\n-- the end",
        "DROP INDEX ix_extra;",
    ),
    "a table with all": op(
        'op.create_table(\n    "pots",\n    sa.Column("id", sa.Integer(), primary_key=True),\n'
        '    sa.Column("bed_id", sa.Integer(), sa.ForeignKey("beds.id", ondelete="CASCADE")),\n'
        '    sa.Column("name", sa.Text(), unique=True, index=False),\n'
        '    sa.CheckConstraint("id > 0", name="positive"),\n'
        '    sa.UniqueConstraint("bed_id", "name"),\n    schema="public",\n)',
        'op.drop_table("pots", schema="public")',
        only=PG,
    ),
    "primary key by Alembic": column("sa.Integer(), primary_key=True", none=True, alone=True),
    "identity by Alembic": column("sa.Integer(), sa.Identity()", none=True, only=PG),
    "stored by Alembic": column(
        "sa.Integer(), sa.Computed('height * 2', persisted=True)", none=True, only=PG
    ),
    "update of an element": update(
        "UPDATE plants SET data['a'] = '1' WHERE data IS NULL", only=PG, other_rows=False
    ),
    "update to json": update("UPDATE plants SET data = '{}'::jsonb", only=PG),
    "update to now": update(
        "UPDATE plants SET planted = CURRENT_DATE", '"planted IS NULL OR planted <> CURRENT_DATE"'
    ),
    "update of all by themselves": update(
        "UPDATE plants SET note = upper(note)", '"note <> upper(note)"'
    ),
    "update only": update("UPDATE ONLY plants SET note = 'x'", none=True, only=PG),
    "merge": update(
        "MERGE INTO plants USING beds ON beds.id = plants.bed_id "
        "WHEN MATCHED THEN UPDATE SET note = beds.place",
        '"note = (SELECT place FROM beds WHERE beds.id = bed_id)"',
        '"note IS DISTINCT FROM (SELECT place FROM beds WHERE beds.id = bed_id) '
        'AND bed_id IS NOT NULL"',
        only=PG,
    ),
    "insert": sql("INSERT INTO beds (id, place) VALUES (9, 'x')", "", none=True, only=""),
    "prepared": sql("PREPARE p AS UPDATE plants SET note = 'x'", "", none=True),
    "view": sql("ALTER VIEW some_plants RENAME COLUMN a TO b", "", none=True),
    "a cursor": update("UPDATE plants SET note = 'x' WHERE CURRENT OF c", none=True, only=PG),
    "default of a view": sql("ALTER VIEW v ALTER COLUMN a SET DEFAULT 1", "", none=True),
}
