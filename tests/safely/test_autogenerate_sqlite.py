"""On SQLite what autogenerate writes runs up, down and up, and leaves nothing to write."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.autogenerate.render import renderers
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

import safely
from safely import autogenerate
from safely.operations.connection import Refused
from tests.revising import Database

Tables = dict[str, list[Any]]
NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
TYPES: list[sa.types.TypeEngine[Any]] = [
    sa.Date(), sa.DateTime(), sa.DateTime(timezone=True), sa.TIMESTAMP(), sa.Time(), sa.Boolean(),
    sa.Boolean(create_constraint=True, name="ck_b"), sa.Numeric(10, 2), sa.Numeric(),
    sa.DECIMAL(5, 2), sa.Float(), sa.Float(53), sa.Double(), sa.REAL(), sa.JSON(), sa.Uuid(),
    sa.Enum("a", "bb", name="e"), sa.Enum("a", name="ck_e", create_constraint=True),
    sa.LargeBinary(), sa.LargeBinary(10), sa.Interval(), sa.String(3), sa.String(), sa.Text(),
    sa.Unicode(5), sa.UnicodeText(), sa.CHAR(3), sa.CHAR(32), sa.SmallInteger(), sa.Integer(),
    sa.BigInteger(), sa.PickleType(), sa.String(5, collation="NOCASE"), sa.BINARY(3), sa.CLOB(),
    sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
]  # fmt: skip
DEFAULTS: list[Any] = [
    "1", "x'y", "", "(x)", "a b", "CURRENT_TIMESTAMP", sa.text("1"), sa.text("-1"),
    sa.text("1.50"), sa.text("'x'"), sa.text("CURRENT_TIMESTAMP"), sa.text("(1 + 1)"),
    sa.text("lower('A')"), sa.text("x'00'"), sa.text("NULL"), sa.func.now(), sa.true(), sa.null(),
]  # fmt: skip
Column = sa.Column[Any]


def key() -> Column:
    return sa.Column("id", sa.Integer(), primary_key=True)


def everything() -> Tables:
    """Return the tables, each as the arguments of sa.Table."""
    return {
        "types": [key(), *(sa.Column(f"c{number}", type_) for number, type_ in enumerate(TYPES))],
        "defaults": [
            key(),
            *(
                sa.Column(f"c{number}", sa.Text(), server_default=default)
                for number, default in enumerate(DEFAULTS)
            ),
        ],
        "parents": [
            sa.Column("id", sa.Integer(), sa.Identity(), primary_key=True),
            sa.Column("a", sa.Integer(), unique=True),
            sa.Column("b", sa.Integer(), index=True),
            sa.Column("c", sa.Text(), nullable=False, server_default="x"),
            sa.Column("virtual", sa.Integer(), sa.Computed("a + 1")),
            sa.Column("stored", sa.Integer(), sa.Computed("a + 1", persisted=True)),
            sa.Column("parent", sa.ForeignKey("parents.id")),
            sa.CheckConstraint("a > 1"),
            sa.CheckConstraint("b > 1", name="ck_parents_b"),
            sa.UniqueConstraint("b", "a", name="uq_both"),
            sa.Index("ix_expression", sa.text("lower(c)")),
            sa.Index("ix_partial", "a", sqlite_where=sa.text("a > 1")),
        ],
        "children": [
            sa.Column("id", sa.BigInteger(), primary_key=True),
            sa.Column("kind", sa.String(9), primary_key=True),
            sa.Column(
                "parent",
                sa.ForeignKey(
                    "parents.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"
                ),
            ),
            sa.Column("other", sa.Integer()),
            sa.ForeignKeyConstraint(["other"], ["parents.a"], onupdate="CASCADE", name="fk_other"),
        ],
    }


def column(tables: Tables, table: str, name: str) -> Column:
    """Return a column of the tables."""
    [found] = (item for item in tables[table] if isinstance(item, sa.Column) and item.name == name)
    return found


def nullable(tables: Tables) -> None:
    column(tables, "parents", "c").nullable = True


def required(tables: Tables) -> None:
    column(tables, "children", "other").nullable = False


def without_default(tables: Tables) -> None:
    column(tables, "parents", "c").server_default = None


def other_default(tables: Tables) -> None:
    tables["parents"][3] = sa.Column("c", sa.Text(), nullable=False, server_default="it's")


def other_type(tables: Tables) -> None:
    column(tables, "types", "c0").type = sa.DateTime()


def longer(tables: Tables) -> None:
    column(tables, "types", "c21").type = sa.String(30)


def new_columns(tables: Tables) -> None:
    tables["parents"] += [sa.Column(f"new{n}", type_) for n, type_ in enumerate(TYPES)]


def generated_columns(tables: Tables) -> None:
    tables["children"] += [
        sa.Column("v", sa.Integer(), sa.Computed("other * 2")),
        sa.Column("s", sa.Integer(), sa.Computed("other * 2", persisted=True)),
    ]


def fewer_columns(tables: Tables) -> None:
    tables["types"] = [key()]


def new_rules(tables: Tables) -> None:
    tables["children"] += [
        sa.UniqueConstraint("other", name="uq_other"),
        sa.Index("ix_kind", "kind", "other", unique=True),
        sa.ForeignKeyConstraint(["id"], ["parents.id"], name="fk_id", ondelete="SET NULL"),
    ]


def fewer_rules(tables: Tables) -> None:
    tables["children"] = tables["children"][:-1]
    tables["parents"] = tables["parents"][:-3]


def other_expressions(tables: Tables) -> None:
    tables["parents"] = [
        item for item in tables["parents"] if getattr(item, "name", None) != "ix_expression"
    ]
    tables["parents"] += [
        sa.Index("ix_expression", sa.text("upper(c)"), unique=True),
        sa.Index("ix_new", sa.func.lower(sa.column("c")).desc(), sqlite_where=sa.text("c > 'a'")),
        sa.Index("ix_descending", sa.desc("c"), "b"),
        sa.Index("ix_falling", sa.text("b DESC"), unique=True),
    ]


def fewer_tables(tables: Tables) -> None:
    del tables["children"], tables["defaults"]


def new_tables(tables: Tables) -> None:
    tables["grandchildren"] = [key(), sa.Column("parent", sa.ForeignKey("parents.id"))]
    tables["siblings"] = [key(), sa.Column("of", sa.ForeignKey("grandchildren.id"))]


CHANGES: list[Callable[[Tables], None]] = [
    nullable, required, without_default, other_default, other_type, longer, new_columns,
    generated_columns, fewer_columns, new_rules, fewer_rules, other_expressions, fewer_tables,
    new_tables,
]  # fmt: skip


def metadata_of(tables: Tables) -> sa.MetaData:
    """Return the tables as the metadata of a project."""
    metadata = sa.MetaData(naming_convention=NAMES)
    for name, items in tables.items():
        sa.Table(name, metadata, *items)
    return metadata


def written(database: Database, metadata: sa.MetaData) -> tuple[str, str]:
    """Return the bodies of upgrade and downgrade that autogenerate writes."""
    with database.engine.begin() as connection:
        migration = context(connection, metadata)
        script = produce_migrations(migration, metadata)
        renderers.dispatch_for(autogenerate.SafeAlterColumn, replace=True)(
            autogenerate.render_alter_column
        )
        bodies = []
        for directives in (script.upgrade_ops, script.downgrade_ops):
            assert directives is not None
            directives.ops = autogenerate.spelled(directives.ops, metadata)
            bodies.append(
                render_python_code(
                    directives, alembic_module_prefix="safely.", migration_context=migration
                )
            )
    return bodies[0], bodies[1]


def context(connection: Connection, metadata: sa.MetaData) -> MigrationContext:
    """Return a context that compares as that of a command does."""
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "target_metadata": metadata,
        "include_object": lambda item, name, *_: autogenerate.is_ours(item, name, {None}),
        "alembic_module_prefix": "safely.",
    }
    migration = MigrationContext.configure(connection, opts=options)
    autogenerate.compare_as_the_database_does(migration.impl)
    return migration


def run(database: Database, body: str, *, up: bool, revision: str) -> None:
    """Run a body as a revision."""
    code = compile(f"if True:\n    {body}", "revision", "exec")
    database.revise(
        lambda: exec(code, {"sa": sa, "safely": safely, "sqlite": sqlite}),  # noqa: S102  # as Alembic does
        up=up,
        revision=revision,
    )


def is_empty(body: str) -> bool:
    """Return whether a body changes nothing."""
    return "safely." not in body


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_autogenerate_writes_runs_up_down_and_up_and_leaves_nothing_to_write(
    change: Callable[[Tables], None],
) -> None:
    database = Database()
    before, tables = metadata_of(everything()), everything()
    change(tables)
    after = metadata_of(tables)
    for revision, metadata in (("0001", before), ("0002", after)):
        up, down = written(database, metadata)
        assert not is_empty(up)
        for body, upwards in ((up, True), (down, False), (up, True)):
            run(database, body, up=upwards, revision=revision)
            if upwards:
                assert is_empty(rest := written(database, metadata)[0]), rest
            elif revision == "0002":
                assert is_empty(rest := written(database, before)[0]), rest


def test_a_type_that_sqlite_takes_for_a_number_is_refused() -> None:
    database = Database()
    metadata = metadata_of({"t": [sa.Column("id", sa.UUID(), primary_key=True)]})
    with pytest.raises(Refused, match=r"write sa\.Uuid\(\)"):
        run(database, written(database, metadata)[0], up=True, revision="0001")
    assert database.schema() == {}
