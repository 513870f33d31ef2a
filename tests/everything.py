"""A project whose tables have every type, key, constraint and index that SQLAlchemy documents.

Its metadata is kept as source text by table and by part, so that a test can change a part, write
the models anew and let autogenerate find the change. On PostgreSQL a second revision adds what
models don't have: policies, a materialized view, a view and a trigger.
"""

import copy
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from tests.foreign import Project
from tests.foreign_projects import ADOPT, IMPORT, IMPORT_SAFELY
from tests.forkserver import Running

HEAD = """\
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

"""
ID = "Key, sa.Identity(), primary_key=True"


@dataclass
class Table:
    """The source of a table: its columns, then its constraints and indexes, by name."""

    columns: dict[str, str]
    rules: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    only: str = ""
    """The one database that has the table; empty: both."""

    def source(self, name: str) -> str:
        """Return the table as Python."""
        parts = [f"sa.Column({column!r}, {rest})" for column, rest in self.columns.items()]
        parts += self.rules.values()
        parts += [f"{option}={value}" for option, value in self.options.items()]
        body = "".join(f"    {part},\n" for part in parts)
        return f"sa.Table(\n    {name!r},\n    metadata,\n{body})\n"


def with_id(**columns: str) -> dict[str, str]:
    return {"id": ID, **columns}


def typed(*types: str) -> dict[str, str]:
    """Return an id and a column of each type."""
    return with_id(**{f"c{number}": type_ for number, type_ in enumerate(types)})


def index(name: str, *columns: str, **options: str) -> dict[str, str]:
    given = "".join(f", {option}={value}" for option, value in options.items())
    return {name: f"sa.Index({name!r}, {', '.join(columns)}{given})"}


PG, LITE = "postgresql", "sqlite"
MOOD = "sa.Enum('sad', 'ok', 'happy', name='mood')"
LEVEL = "sa.Enum('low', 'high', name='level')"

TABLES: dict[str, Table] = {
    # types
    "texts": Table(
        typed(
            "sa.Text()", "sa.String(40)", "sa.String()", "sa.Unicode(20)", "sa.CHAR(3)",
            "sa.Text(), server_default='it''s'", "sa.String(10), nullable=False, server_default=''",
        )
    ),
    "numbers": Table(
        typed(
            "sa.SmallInteger()", "sa.Integer()", "sa.BigInteger()", "sa.Numeric(10, 2)",
            "sa.Numeric()", "sa.Float()", "sa.Double()", "sa.Boolean()",
            "sa.Integer(), nullable=False, server_default=sa.text('0')",
            "sa.Boolean(), nullable=False, server_default=sa.false()",
        )
    ),
    "times": Table(
        typed(
            "sa.Date()", "sa.DateTime()", "sa.Time()",
            "sa.DateTime(), server_default=sa.func.current_timestamp()",
        )
    ),
    "portable": Table(typed("sa.LargeBinary()", "sa.JSON()", "sa.Uuid()")),
    "pg_numbers": Table(
        typed(
            "pg.REAL()", "pg.DOUBLE_PRECISION()", "pg.MONEY()", "pg.OID()", "pg.BIT(5)",
            "pg.BIT(varying=True)", "pg.NUMERIC(12, 0)", "pg.SMALLINT()",
        ),
        only=PG,
    ),
    "pg_times": Table(
        typed(
            "pg.TIMESTAMP(timezone=True)", "pg.TIMESTAMP(precision=3)", "pg.TIME(timezone=True)",
            "pg.INTERVAL()", "pg.INTERVAL(fields='YEAR TO MONTH')", "pg.INTERVAL(precision=2)",
        ),
        only=PG,
    ),
    "pg_texts": Table(
        typed(
            "pg.CITEXT()", "pg.TSVECTOR()", "pg.TSQUERY()", "pg.REGCLASS()", "pg.REGCONFIG()",
            "sa.Text(collation='C')", "sa.String(collation='ucs_basic')",
        ),
        only=PG,
    ),
    "pg_documents": Table(
        typed(
            "pg.JSONB()", "pg.JSON()", "pg.JSONPATH()", "pg.HSTORE()", "pg.BYTEA()",
            "pg.JSONB(), nullable=False, server_default=sa.text(\"'{}'::jsonb\")",
        ),
        only=PG,
    ),
    "pg_networks": Table(
        typed("pg.INET()", "pg.CIDR()", "pg.MACADDR()", "pg.MACADDR8()", "pg.UUID()"), only=PG
    ),
    "pg_ranges": Table(
        typed(
            "pg.INT4RANGE()", "pg.INT8RANGE()", "pg.NUMRANGE()", "pg.DATERANGE()", "pg.TSRANGE()",
            "pg.TSTZRANGE()", "pg.INT4MULTIRANGE()", "pg.INT8MULTIRANGE()", "pg.NUMMULTIRANGE()",
            "pg.DATEMULTIRANGE()", "pg.TSMULTIRANGE()", "pg.TSTZMULTIRANGE()",
        ),
        only=PG,
    ),
    "pg_arrays": Table(
        typed(
            "pg.ARRAY(sa.Integer())", "pg.ARRAY(sa.Text(), dimensions=2)", "pg.ARRAY(sa.Uuid())",
            "sa.ARRAY(sa.String(5))",
        ),
        only=PG,
    ),
    # keys
    "key_uuid": Table(
        {
            "id": "sa.Uuid(), primary_key=True, server_default=sa.text('gen_random_uuid()')",
            "note": "sa.Text()",
        },
        only=PG,
    ),
    "key_text": Table({"code": "sa.String(30), primary_key=True", "note": "sa.Text()"}),
    "key_pair": Table(
        {"a": "sa.Integer()", "b": "sa.Text()", "note": "sa.Text()"},
        {"pk": "sa.PrimaryKeyConstraint('a', 'b', name='pk_pair')"},
    ),
    "key_number": Table({"number": "sa.Numeric(12, 2), primary_key=True", "note": "sa.Text()"}),
    "key_day": Table({"day": "sa.Date(), primary_key=True", "note": "sa.Text()"}),
    "key_serial": Table({"id": "sa.Integer(), primary_key=True", "note": "sa.Text()"}),
    "key_options": Table(
        {
            "id": "sa.BigInteger(), sa.Identity(always=True, start=100, increment=5, cycle=True),"
            " primary_key=True",
            "note": "sa.Text()",
        },
        only=PG,
    ),
    "keyless": Table({"note": "sa.Text()", "n": "sa.Integer()"}),
    # constraints
    "parents": Table(
        with_id(code="sa.String(20), nullable=False", place="sa.Integer()"),
        {
            "uq_parents_code": "sa.UniqueConstraint('code')",
            "uq_parents_pair": "sa.UniqueConstraint('code', 'place', name='uq_parents_pair')",
        },
    ),
    "children": Table(
        with_id(
            parent_id="Key, sa.ForeignKey('parents.id', ondelete='CASCADE'), nullable=True",
            other_id="Key, sa.ForeignKey('parents.id', ondelete='SET NULL', onupdate='CASCADE')",
            code="sa.String(20)",
            place="sa.Integer()",
            boss_id="Key, sa.ForeignKey('children.id', name='fk_children_boss')",
        ),
        {
            "fk_pair": "sa.ForeignKeyConstraint(['code', 'place'],"
            " ['parents.code', 'parents.place'], name='fk_children_pair')",
        },
    ),
    "deferred": Table(
        with_id(
            parent_id="Key, sa.ForeignKey('parents.id', name='fk_deferred_parent',"
            " deferrable=True, initially='DEFERRED')",
            n="sa.Integer()",
        ),
        {
            "uq_deferred_n": "sa.UniqueConstraint('n', name='uq_deferred_n', deferrable=True,"
            " initially='DEFERRED')",
            "uq_nulls": "sa.UniqueConstraint('parent_id', 'n', name='uq_deferred_nulls',"
            " postgresql_nulls_not_distinct=True)",
        },
        only=PG,
    ),
    "checked": Table(
        with_id(low="sa.Integer()", high="sa.Integer()", kind="sa.String(10)"),
        {
            "ck_low": "sa.CheckConstraint('low >= 0', name='low')",
            "ck_order": "sa.CheckConstraint('low <= high', name='in_order')",
        },
    ),
    "bookings": Table(
        with_id(room="sa.Integer()", during="pg.TSRANGE()"),
        {
            "ex": "pg.ExcludeConstraint((sa.column('during'), '&&'),"
            " name='ex_bookings_during', using='gist', where=sa.text('room > 0'))",
        },
        only=PG,
    ),
    "ring_a": Table(
        with_id(b_id="Key, sa.ForeignKey('ring_b.id', name='fk_ring_a_b', use_alter=True)"),
        only=PG,
    ),
    "ring_b": Table(with_id(a_id="Key, sa.ForeignKey('ring_a.id', name='fk_ring_b_a')"), only=PG),
    # indexes
    "indexed": Table(
        with_id(a="sa.Integer()", b="sa.Text()", c="sa.DateTime()", d="sa.Integer(), index=True"),
        {
            **index("ix_indexed_ab", "'a'", "'b'"),
            **index("ux_indexed_a_c", "'a'", "'c'", unique="True"),
            **index("ix_indexed_desc", "sa.desc('c')"),
        },
    ),
    "pg_indexed": Table(
        with_id(
            a="sa.Integer()", b="sa.Text()", j="pg.JSONB()", r="pg.INT4RANGE()", i="pg.INET()",
            g="pg.ARRAY(sa.Integer())",
        ),
        {
            **index("ix_pg_partial", "'a'", postgresql_where="sa.text('a > 0')"),
            **index("ix_pg_lower", "sa.text('lower(b)')"),
            **index("ix_pg_two", "sa.text('lower(b)')", "'a'"),
            **index("ix_pg_hash", "'b'", postgresql_using="'hash'"),
            **index(
                "ix_pg_gin", "'j'", postgresql_using="'gin'",
                postgresql_ops="{'j': 'jsonb_path_ops'}",
            ),
            **index("ix_pg_array", "'g'", postgresql_using="'gin'"),
            **index("ix_pg_gist", "'r'", postgresql_using="'gist'"),
            **index("ix_pg_brin", "'a'", postgresql_using="'brin'"),
            **index("ix_pg_include", "'a'", postgresql_include="['b']"),
            **index("ix_pg_like", "'b'", postgresql_ops="{'b': 'text_pattern_ops'}"),
            **index("ix_pg_fill", "'a'", postgresql_with="{'fillfactor': 70}"),
            **index(
                "ux_pg_nulls", "'a'", "'b'", unique="True",
                postgresql_nulls_not_distinct="True",
            ),
        },
        only=PG,
    ),
    # generated columns, comments, names
    "generated": Table(
        with_id(
            a="sa.Integer()",
            twice="sa.Integer(), sa.Computed('a * 2', persisted=True)",
            thrice="sa.Integer(), sa.Computed('a * 3', persisted=False)",
        )
    ),
    "commented": Table(
        with_id(a="sa.Integer(), comment='it''s a % sign'", b="sa.Text()"),
        options={"comment": "'a table; with \"quotes\"'"},
        only=PG,
    ),
    "Mixed Case": Table(
        with_id(**{"select": "sa.Integer()", "Größe": "sa.Text()", "with space": "sa.Text()"}),
        index("ix Mixed", "'Größe'"),
    ),
    # enums
    "moods": Table(
        with_id(
            plain=MOOD,
            required=f"{MOOD}, nullable=False, server_default='ok'",
            indexed=LEVEL,
        ),
        index("ix_moods_indexed", "'indexed'"),
    ),
    "pg_moods": Table(
        with_id(
            several=f"pg.ARRAY({MOOD})",
            alone="""sa.Enum("it's", 'a "b"', 'c, d', name='Odd one')""",
            state="sa.Enum('new', 'old', name='state'), nullable=False, server_default='new'",
        ),
        index("ix_pg_moods_new", "'id'", postgresql_where="sa.text(\"state = 'new'\")"),
        only=PG,
    ),
    # partitioned tables
    "events": Table(
        {"id": "sa.BigInteger()", "day": "sa.Date()", "note": "sa.Text()", "level": LEVEL},
        {
            "pk": "sa.PrimaryKeyConstraint('id', 'day', name='pk_events')",
            **index("ix_events_note", "'note'"),
        },
        {"postgresql_partition_by": "'RANGE (day)'"},
        only=PG,
    ),
    "places": Table(
        {
            "id": "sa.Integer()",
            "land": "sa.String(30)",
            "size": "sa.Integer(), nullable=False, server_default='1'",
        },
        {
            "pk": "sa.PrimaryKeyConstraint('id', 'land', name='pk_places')",
            "ck_size": "sa.CheckConstraint('size > 0', name='size')",
        },
        {"postgresql_partition_by": "'LIST (land)'"},
        only=PG,
    ),
    # sequences, which autogenerate wants to be there
    "numbered": Table(
        {
            "id": "sa.BigInteger(), sa.Sequence('ticket_numbers'), primary_key=True",
            "n": "sa.BigInteger(), server_default=sa.Sequence('ticket_numbers').next_value()",
        },
        only=PG,
    ),
    # tables that SQL of the project knows, too
    "secured": Table(with_id(owner="sa.Integer()", note="sa.Text()"), only=PG),
    "summed": Table(
        with_id(kind="sa.String(20)", amount="sa.Integer()", other="sa.Text()"), only=PG
    ),
    "counted": Table(with_id(note="sa.Text()", changes="sa.Integer()"), only=PG),
}  # fmt: skip

BEFORE = (  # what the models take for granted
    "CREATE EXTENSION citext",
    "CREATE EXTENSION hstore",
    "CREATE SEQUENCE ticket_numbers",
)
PARTITIONS = (
    "CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2000-01-01') "
    "PARTITION BY HASH (id)",
    "CREATE TABLE events_old_0 PARTITION OF events_old FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE events_old_1 PARTITION OF events_old FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE places_some PARTITION OF places FOR VALUES IN ('word 1', 'word 2', 'word 3')",
)
BY_SQL = (
    "ALTER TABLE secured ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY secured_rows ON secured USING (owner IS DISTINCT FROM -1)",
    "CREATE MATERIALIZED VIEW summary AS SELECT kind, sum(amount) FROM summed GROUP BY kind",
    "CREATE VIEW kinds AS SELECT DISTINCT kind FROM summed",
    "CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN new.changes := coalesce(old.changes, 0) + 1; RETURN new; END $$",
    "CREATE TRIGGER counted_changes BEFORE UPDATE ON counted "
    "FOR EACH ROW EXECUTE FUNCTION count_changes()",
)
BY_SQL_BACK = (
    "DROP TRIGGER counted_changes ON counted",
    "DROP FUNCTION count_changes()",
    "DROP VIEW kinds",
    "DROP MATERIALIZED VIEW summary",
    "DROP POLICY secured_rows ON secured",
    "ALTER TABLE secured DISABLE ROW LEVEL SECURITY",
)


class Everything(Project):
    """The project, and its models as they stand now."""

    name = "everything"
    table = "texts"
    column = ("more", "sa.Integer()")

    ADOPT_SAFELY: ClassVar[tuple[tuple[str, str], ...]] = (
        (IMPORT, f"{IMPORT_SAFELY}from everything.models import metadata\n"),
        ("target_metadata = None\n", 'project = Project(name="everything", metadata=metadata)\n'),
        *ADOPT,
    )

    @property
    def kind(self) -> str:
        return PG if self.on_postgresql else LITE

    def tables(self) -> dict[str, Table]:
        """Return a copy of the tables that the database can have."""
        return {
            name: Table(dict(t.columns), dict(t.rules), dict(t.options), t.only)
            for name, t in TABLES.items()
            if t.only in ("", self.kind)
        }

    def write(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.add_package(source(self.tables()))
        self.alembic("init", "-t", "async", "migrations")
        self.configure()
        self.change_env(self.ADOPT_SAFELY)

    def beside(self, ini: str, url: str) -> Self:
        """Return the same project with another database, whose address stands in another file."""
        other = copy.copy(self)
        other.ini = ini
        other.address_is(url)
        return other

    def address_is(self, url: str) -> None:
        """Write the address of the database."""
        self.url = url
        self.configure()

    def process(self, command: Sequence[str], *, merged: bool) -> subprocess.CompletedProcess[str]:
        return super().process(self.with_ini(command), merged=merged)

    async def start(self, *arguments: str) -> Running:
        return await super().start("-c", self.ini, *arguments)

    def with_ini(self, command: Sequence[str]) -> Sequence[str]:
        """Return the command with the file of the address, where it is Alembic's or safely's."""
        if command[0] == "alembic":
            return ["alembic", "-c", self.ini, *command[1:]]
        safely = ["python", "-m", "safely"]
        return [*safely, "-c", self.ini, *command[3:]] if list(command[:3]) == safely else command

    def make(self) -> None:
        """Let autogenerate write the first revision, and run it and that of BY_SQL."""
        if self.on_postgresql:
            self.execute(*BEFORE)
        self.write()
        self.alembic("revision", "--autogenerate", "-m", "make everything")
        if self.on_postgresql:
            up, down = (
                "\n".join(f"op.execute({statement!r})" for statement in statements)
                for statements in (BY_SQL, BY_SQL_BACK)
            )
            self.add_revision(up, down, imports="from alembic import op")
        self.alembic("upgrade", "head")
        if self.on_postgresql:
            self.execute(*PARTITIONS)

    def models_are(self, tables: dict[str, Table]) -> None:
        """Write the models of these tables."""
        self.models.write_text(source(tables), encoding="utf-8")


def source(tables: dict[str, Table]) -> str:
    """Return the models of these tables as Python."""
    return HEAD + "\n".join(table.source(name) for name, table in tables.items())
