"""Generated revisions can be run, up and down, and then `alembic check` finds nothing."""

import os
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests import forkserver
from tests.databases import query, write
from tests.paths import ROOT

ENV = """\
import asyncio
from alembic import context
from safely.env import Project, create_engine, guarded, offline_options, run
from models import metadata, hook

project = Project(name="zoo", metadata=metadata)
url = context.config.get_main_option("sqlalchemy.url")
more = {"process_revision_directives": hook} if hook else {}

def configure(connection, options):
    context.configure(connection=connection, **more, **options)
    with context.begin_transaction():
        context.run_migrations()

async def online():
    async with guarded(project, create_engine(url)) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(configure, step.options)

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **offline_options(project))
    with context.begin_transaction():
        context.run_migrations()
else:
    run(online())
"""
MAKO = """\
\"\"\"${message}\"\"\"
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
"""
HEAD = """\
import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Integer, Table, Text
from sqlalchemy.dialects import postgresql

PG = {pg}
SCHEMA = {schema!r}
hook = None
metadata = sa.MetaData(schema=SCHEMA, naming_convention={{
    "uq": "uq_%(table_name)s_%(column_0_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s",
}})
"""
OPTIONS = """\
deferred = {"deferrable": True, "initially": "DEFERRED"} if PG else {}
Table(
    "owners", metadata, Column("id", Integer, primary_key=True, comment="the key's column"),
    Column("name", Text, comment='as "written": by: hand'),
    Column("best", Integer, ForeignKey("pets.id", use_alter=True, deferrable=True,
                                       initially="DEFERRED")),
    sa.UniqueConstraint("name", comment="no two alike", **deferred),
    comment="those who own",
)
Table(
    "pets", metadata, Column("id", Integer, primary_key=True),
    Column("owner", Integer, ForeignKey("owners.id", ondelete="CASCADE", onupdate="SET NULL",
                                        deferrable=True, initially="DEFERRED")),
    Column("age", Integer, server_default="1", nullable=False),
    sa.CheckConstraint("age > 0", name="ck_age", comment="some words"),
    sa.Index("ix_age", "age", unique=False, postgresql_include=["id"],
             postgresql_with={"fillfactor": 50}, postgresql_where=sa.text("age > 7"),
             sqlite_where=sa.text("age > 7")),
)
Table("tags", metadata, Column("id", Integer), Column("x", Integer), sa.PrimaryKeyConstraint(
    "id", name="pk", comment="some more", postgresql_include=["x"], **deferred))
"""
CHANGED = """\
Table("owners", metadata, Column("id", Integer, primary_key=True, comment="another"),
      Column("name", Text), Column("best", Integer, ForeignKey("pets.id")),
      sa.UniqueConstraint("name"), comment="other words")
Table("pets", metadata, Column("id", Integer, primary_key=True),
      Column("owner", Integer, ForeignKey("owners.id")), Column("name", Text),
      sa.UniqueConstraint("name", comment="new words"))
"""
LEFT = """\
Table("places", metadata, Column("id", Integer, primary_key=True, comment="alone"))
"""


class Zoo:
    """A project in a directory."""

    def __init__(self, directory: Path, url: str, schema: str | None = None) -> None:
        self.directory, self.url, self.schema = directory, url, schema
        (directory / "migrations/versions").mkdir(parents=True)
        (directory / "safely").symlink_to(ROOT / "safely")
        (directory / "migrations/env.py").write_text(ENV, encoding="utf-8")
        (directory / "migrations/script.py.mako").write_text(MAKO, encoding="utf-8")
        text = f"[alembic]\nscript_location = migrations\nsqlalchemy.url = {url}\n"
        (directory / "alembic.ini").write_text(text.replace("%", "%%"), encoding="utf-8")

    def models(self, text: str) -> None:
        head = HEAD.format(pg=self.url.startswith("postgresql"), schema=self.schema)
        (self.directory / "models.py").write_text(head + text, encoding="utf-8")

    def alembic(self, *arguments: str, code: int = 0) -> str:
        process = forkserver.run(
            "alembic", arguments, cwd=self.directory, environment=dict(os.environ)
        )
        output = process.stdout + process.stderr
        assert process.returncode == code, output
        assert "Traceback" not in output
        return output

    def write(self, models: str) -> str:
        """Autogenerate the revision that leads to the models; return its text."""
        self.models(models)
        before = set((self.directory / "migrations/versions").iterdir())
        self.alembic("revision", "--autogenerate", "-m", "next")
        (file,) = set((self.directory / "migrations/versions").iterdir()) - before
        return file.read_text(encoding="utf-8")

    def apply(self, models: str) -> str:
        """Autogenerate a revision, run it, and look that nothing is left to do."""
        text = self.write(models)
        self.alembic("upgrade", "head")
        self.alembic("check")
        return text


OURS = (
    "IN (SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "WHERE nspname IN ('public', 'zoo') AND relname IN ('owners', 'pets', 'tags'))"
)
RULES = {
    "postgresql": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), "
    "convalidated, obj_description(oid, 'pg_constraint') FROM pg_constraint "
    f"WHERE contype <> 'n' AND conrelid {OURS} "
    "UNION ALL SELECT objoid::regclass::text, attname, description, true, NULL "
    "FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid "
    f"WHERE classoid = 'pg_class'::regclass AND objoid {OURS} "
    "UNION ALL SELECT objoid::regclass::text, NULL, description, true, NULL "
    f"FROM pg_description WHERE objsubid = 0 AND objoid {OURS} ORDER BY 1, 2, 3",
    "sqlite": "SELECT name, key.* FROM sqlite_master, pragma_foreign_key_list(name) AS key "
    "WHERE name IN ('owners', 'pets') ORDER BY 1, 2",
}
WORDS = (
    "no two alike",
    "some words",
    "the key's column",
    'as "written": by: hand',
    "those who own",
    "INCLUDE (x) DEFERRABLE",
    "ON UPDATE SET NULL ON DELETE CASCADE",
)


@pytest.mark.parametrize("schema", [None, "zoo"])
async def test_options_are_written_and_obeyed_and_nothing_is_left_to_do(
    empty: AsyncEngine, empty_url: str, tmp_path: Path, schema: str | None
) -> None:
    """Among them foreign keys in a circle, whose tables go and come back."""
    is_postgresql = empty.dialect.name == "postgresql"
    if schema is not None:
        if not is_postgresql:
            pytest.skip("SQLite has no schemas")
        await write(empty, f"CREATE SCHEMA {schema}")
        await write(empty, "CREATE TABLE of_another_project (id integer)")
    zoo = Zoo(tmp_path, empty_url, schema)
    assert "of_another_project" not in zoo.apply(OPTIONS)
    rules = RULES[empty.dialect.name]
    first = await query(empty, rules)
    if is_postgresql:
        catalogue = str([str(value) for row in first for value in row])
        missing = [words for words in WORDS if words not in catalogue.replace("\\'", "'")]
        assert missing == []
        assert catalogue.count("DEFERRABLE INITIALLY DEFERRED") == 4
    text = zoo.apply(CHANGED)
    change = "safely.change_comment('owners', 'name', None, existing_comment="
    assert (change in text) == is_postgresql  # SQLite has no comments
    zoo.apply(LEFT)
    zoo.alembic("downgrade", "-2")
    await empty.dispose()
    assert await query(empty, rules) == first
    zoo.alembic("downgrade", "base")
    zoo.alembic("upgrade", "head")
    zoo.alembic("check")


REFUSED = {  # a table, and why it can't be written
    "a sequence": (
        'Table("a", metadata, Column("id", Integer, sa.Sequence("s"), primary_key=True))',
        "a.id has the sequence s, which the database lacks",
    ),
    "a foreign key to another schema": (
        'Table("a", metadata, Column("id", Integer, ForeignKey("archive.b.id"), primary_key=True))',
        "a foreign key of a refers to archive.b, which the metadata lacks",
    ),
    "a CHECK that is deferred": (
        'Table("a", metadata, Column("id", Integer, primary_key=True), '
        'sa.CheckConstraint("id > 0", name="ck", deferrable=True))',
        "ck of a: deferrable can't be obeyed, since a CHECK is checked at once",
    ),
    "a temporary table": (
        'Table("a", metadata, Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])',
        "a: prefixes=['TEMPORARY'] can't be obeyed",
    ),
    "a name that the database folds": (
        'Table("a", metadata, Column("Id", Integer, primary_key=True, quote=False))',
        "a.Id: quote=False can't be obeyed",
    ),
    "another primary key": (
        'Table("places", metadata, Column("id", Integer, primary_key=True), '
        'Column("n", Integer, primary_key=True, server_default="1"))',
        "places.n would be added without being the primary key",
    ),
    "a column that newer builds could not write": (
        'Table("places", metadata, Column("other", Integer))',
        "Write safely.drop_column(…, fill=…)",
    ),
    "a key without that of its partitions": (
        'Table("a", metadata, Column("id", Integer, primary_key=True), Column("n", Integer), '
        'postgresql_partition_by="RANGE (n)")',
        "pk_a lacks n, and PostgreSQL looks for duplicates in one partition at a time",
    ),
    "a constraint without a name": (
        "metadata.naming_convention = {}\n"
        'Table("places", metadata, Column("id", Integer, primary_key=True), '
        'Column("needed", Integer, nullable=False), sa.UniqueConstraint("needed"))',
        "a constraint or an index of places has no name",
    ),
}


@pytest.mark.only("postgresql")
async def test_what_the_operations_would_refuse_is_not_written(
    empty_url: str, tmp_path: Path
) -> None:
    zoo = Zoo(tmp_path, empty_url)
    zoo.apply(
        'Table("places", metadata, Column("id", Integer, primary_key=True), '
        'Column("needed", Integer, nullable=False))'
    )
    files = set((tmp_path / "migrations/versions").iterdir())
    for models, words in REFUSED.values():
        zoo.models(models)
        output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
        assert words in output
        assert output.count("\n") <= 2
    assert set((tmp_path / "migrations/versions").glob("*.py")) == files


@pytest.mark.only("sqlite")
async def test_an_index_that_sqlite_would_refuse_is_not_written(
    empty_url: str, tmp_path: Path
) -> None:
    zoo = Zoo(tmp_path, empty_url)
    zoo.models(
        'Table("places", metadata, Column("id", Integer, primary_key=True), '
        'sa.Index("ix", "id", postgresql_where=sa.text("id > 7")))'
    )
    output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
    assert "SQLite would ignore postgresql_where of ix of places" in output


@pytest.mark.only("postgresql")
async def test_sql_of_a_hook_is_written_as_alembic_has_it(empty_url: str, tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, empty_url)
    text = zoo.apply(
        f"{LEFT}\nfrom alembic.operations.ops import ExecuteSQLOp\n"
        "def hook(context, revision, scripts):\n"
        "    for script in scripts:\n"
        "        if script.upgrade_ops.ops:\n"
        "            script.upgrade_ops.ops.append(ExecuteSQLOp(\"SELECT 'a:b'\"))\n"
    )
    assert "op.execute(\"SELECT 'a:b'\")" in text


TYPES = {  # a column, its type, and one that no cast makes of it as it stands
    "day": ("sa.Integer", "sa.Date", "cannot cast type integer to date"),
    "mark": ("sa.Integer", "sa.Boolean", ""),
    "back": ("sa.Text", "sa.Integer", ""),
    "name": ('sa.Text(collation="C")', "sa.String(80)", "it would lose its collation"),
    "at": ("sa.DateTime(timezone=True)", "sa.Text", 'using="at AT TIME ZONE'),
    "seen": ("sa.DateTime", "sa.DateTime(timezone=True)", ""),
    "mood": ("sa.Integer", 'sa.Enum("ok", name="mood")', "cannot cast type integer to mood"),
    "rank": ('sa.Enum("a", "b", name="rank")', 'sa.Enum("b", "a", "c", name="rank_2")', ""),
    "ranks": (
        'sa.ARRAY(sa.Enum("x", name="ranks"))',
        'sa.ARRAY(sa.Enum("x", "y", name="ranks_2"))',
        "",
    ),
    "n": ('sa.Text, server_default="none"', 'sa.Integer, server_default="none"', "its default is"),
    "size": (
        'sa.Enum("s", "m", name="size"), server_default="s"',
        'sa.Enum("m", name="size"), server_default="s"',
        "can't lose its default",
    ),
}
TYPES_ON_SQLITE = {
    "day": ("sa.Integer", "sa.Date", "there is no conversion"),
    "mark": ("sa.Integer", "sa.Boolean", ""),
    "long": ("sa.Interval", "sa.Text", ""),
    "made": ("sa.LargeBinary", "sa.Boolean", "there is no conversion"),
}


async def test_a_change_of_type_that_upgrade_refuses_says_why_in_the_file(
    empty: AsyncEngine, empty_url: str, tmp_path: Path
) -> None:
    types = TYPES if empty.dialect.name == "postgresql" else TYPES_ON_SQLITE
    zoo = Zoo(tmp_path, empty_url)

    def models(number: int, *changed: str) -> str:
        columns = [
            f"Column({name!r}, {types[name][number if name in changed else 0]})" for name in types
        ]
        return (
            f'Table("a", metadata, Column("id", Integer, primary_key=True), {", ".join(columns)})'
        )

    zoo.apply(models(0))
    first = set((tmp_path / "migrations/versions").glob("*.py"))
    for name, (_, _, words) in types.items():
        zoo.models(models(1, name))
        zoo.alembic("revision", "--autogenerate", "-m", "next")
        [file] = set((tmp_path / "migrations/versions").glob("*.py")) - first
        text = file.read_text(encoding="utf-8")
        lines = [line.strip() for line in text.splitlines()]
        ours = [line for line in lines if line.startswith("# ") and "###" not in line]
        note = " ".join(line.removeprefix("# ") for line in ours)
        assert (words in note) if words else not note, text
        output = zoo.alembic("upgrade", "head", code=255 if words else 0)
        reason = note.removeprefix("upgrade refuses this as it stands: ")
        assert reason.partition(" if a label was only renamed")[0] in output
        if not words:
            zoo.alembic("downgrade", "-1")
        file.unlink()
    zoo.models('Table("a", metadata, Column("id", sa.BigInteger, primary_key=True))')
    output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
    assert "which can't be created a second time" in output


@pytest.mark.only("postgresql")
async def test_labels_do_not_change_in_the_revision_that_drops_a_column_of_them(
    empty_url: str, tmp_path: Path
) -> None:
    """Nor do they come back at another place than those that older builds know have."""
    zoo = Zoo(tmp_path, empty_url)
    table = 'Table("a", metadata, Column("id", Integer, primary_key=True), Column("one", {}){})'
    enum, other = 'sa.Enum("s", "m", name="size")', 'sa.Enum("m", name="size")'
    zoo.apply(table.format(enum, f', Column("two", {enum})'))
    zoo.models(table.format(other, ""))
    output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
    assert "the labels of size change, and a.two, which has them, is dropped" in output
    zoo.apply(table.format(enum, ""))
    zoo.apply(table.format(other, ""))
    zoo.models(table.format('sa.Enum("m", "s", name="size")', ""))
    zoo.alembic("revision", "--autogenerate", "-m", "next")
    output = zoo.alembic("upgrade", "head", code=255)
    [file] = (
        file
        for file in (tmp_path / "migrations/versions").glob("*.py")
        if "upgrade refuses this as it stands" in file.read_text(encoding="utf-8")
    )
    note = "size has its labels in the order s, m"
    assert note in file.read_text(encoding="utf-8")
    assert note in output
    file.unlink()
    zoo.apply(LEFT)
    zoo.models(table.format('sa.Enum("x", name="size")', ""))
    output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
    assert "has set aside a type size with the labels m, and not x" in output


@pytest.mark.only("postgresql")
async def test_sequences_that_the_database_has_number_rows(
    empty: AsyncEngine, empty_url: str, tmp_path: Path
) -> None:
    """By the application, by a default, and by a sequence that no column has."""
    zoo = Zoo(tmp_path, empty_url)
    models = (
        'sa.Sequence("alone", metadata=metadata)\n'
        'numbers = sa.Sequence("numbers", start=7, metadata=metadata)\n'
        'Table("a", metadata, Column("id", Integer, numbers, primary_key=True), '
        'Column("n", sa.BigInteger, server_default=numbers.next_value()))'
    )
    for name, create in (
        ("a.id has the sequence numbers", "CREATE SEQUENCE IF NOT EXISTS numbers START WITH 7"),
        ("the models' MetaData has the sequence alone", "CREATE SEQUENCE IF NOT EXISTS alone"),
    ):
        zoo.models(models)
        output = zoo.alembic("revision", "--autogenerate", "-m", "next", code=255)
        assert name in output
        assert create in output
        await write(empty, create)
    zoo.apply(models)
    await write(empty, "INSERT INTO a (id) VALUES (nextval('numbers'))")
    zoo.alembic("downgrade", "-1")
    zoo.alembic("upgrade", "head")
    zoo.alembic("check")
    await empty.dispose()
    assert await query(empty, "SELECT * FROM a") == [(7, 8)]
