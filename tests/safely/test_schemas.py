"""Operations in the schema of the project and in no other one, by revisions of any id."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import safely
from tests.chain import HEAD, NEXT
from tests.commands import run_alembic
from tests.databases import query, revision_of, run_script, write
from tests.operating import operate, revision_on
from tests.revisions import Revision

SCOPE = {"safely": safely, "sa": sa}  # of a revision

# tables of the same names are in both; an operation that confuses them would change the others,
# and a search_path that is not set back would lead Alembic to a version table without a version
SETUP = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.alembic_version (version_num text)",
    *(
        statement.format(schema=schema)
        for schema in ("public", "shop")
        for statement in (
            "CREATE TABLE {schema}.owners (id bigint PRIMARY KEY, name text)",
            "INSERT INTO {schema}.owners VALUES (1, 'Ada'), (2, NULL)",
            "CREATE TABLE {schema}.pets (id bigint PRIMARY KEY, owner bigint, "
            "name text NOT NULL DEFAULT 'Rex', age integer CONSTRAINT ck_age CHECK (age < 99))",
            "INSERT INTO {schema}.pets VALUES (1, 1, 'Rex', 7), (2, 1, 'Tom', NULL)",
            "CREATE INDEX ix_pets_name ON {schema}.pets (name)",
        )
    ),
)

PETS = (
    'safely.create_table("pets", sa.Column("id", sa.BigInteger(), primary_key=True), '
    'sa.Column("owner", sa.BigInteger()), sa.Column("name", sa.Text()), '
    'sa.Column("age", sa.Integer()), schema="shop")'
)
OPERATIONS = {  # upgrade, downgrade
    "create a table": (
        'safely.create_table("toys", sa.Column("id", sa.BigInteger(), primary_key=True), '
        'sa.Column("owner", sa.BigInteger(), sa.ForeignKey("shop.owners.id", name="fk_toys")), '
        'schema="shop")',
        'safely.drop_table("toys", schema="shop")',
    ),
    "drop a table": ('safely.drop_table("pets", schema="shop")', PETS),
    "add a column": (
        'safely.add_column("pets", sa.Column("weight", sa.Integer(), '
        'sa.CheckConstraint("weight > 0", name="ck_weight"), server_default="3", nullable=False), '
        'schema="shop")',
        'safely.drop_column("pets", "weight", schema="shop")',
    ),
    "drop a column": (
        'safely.drop_column("pets", "age", schema="shop")',
        'safely.add_column("pets", sa.Column("age", sa.Integer()), schema="shop")',
    ),
    "rename a column": (
        'safely.rename_column("pets", "name", "called", schema="shop")',
        'safely.rename_column("pets", "called", "name", schema="shop")',
    ),
    "create an index": (
        'safely.create_index("ix_pets_age", "pets", ["age"], unique=True, schema="shop")',
        'safely.drop_index("ix_pets_age", table_name="pets", schema="shop")',
    ),
    "drop an index": (
        'safely.drop_index("ix_pets_name", table_name="pets", schema="shop")',
        'safely.create_index("ix_pets_name", "pets", ["name"], schema="shop")',
    ),
    "create a unique constraint": (
        'safely.create_unique_constraint("uq_pets", "pets", ["name", "owner"], schema="shop", '
        "deferrable=True)",
        'safely.drop_constraint("uq_pets", "pets", schema="shop", type_="unique")',
    ),
    "create a check": (
        'safely.create_check_constraint("ck_name", "pets", sa.column("name") != "", schema="shop")',
        'safely.drop_constraint("ck_name", "pets", schema="shop")',
    ),
    "create a foreign key": (
        'safely.create_foreign_key("fk_pets", "pets", "owners", ["owner"], ["id"], '
        'ondelete="CASCADE", initially="DEFERRED", source_schema="shop", referent_schema="shop")',
        'safely.drop_constraint("fk_pets", "pets", schema="shop", type_="foreignkey")',
    ),
    "fill in rows": (
        'safely.backfill("owners", "name = \'Eve\'", where="name IS NULL", schema="shop")\n'
        'safely.create_table_comment("owners", "filled in", schema="shop")',
        'safely.backfill("owners", "name = NULL", where="name = \'Eve\'", schema=\'shop\')\n'
        'safely.drop_table_comment("owners", schema="shop")',
    ),
    "require a column": (
        'safely.require_column("owners", "name", fill="Eve", schema="shop")',
        'safely.allow_null("owners", "name", schema="shop")\n'
        'safely.backfill("owners", "name = NULL", where="name = \'Eve\'", schema=\'shop\')',
    ),
    "change a type": (
        'safely.change_type("pets", "age", sa.BigInteger, schema="shop")',
        'safely.change_type("pets", "age", sa.Integer(), schema="shop")',
    ),
    "change a default": (
        'safely.change_default("pets", "name", "Tom", schema="shop")',
        'safely.change_default("pets", "name", "Rex", schema="shop")',
    ),
}


async def everything_in(engine: AsyncEngine, schema: str, *, hidden: bool) -> dict[str, Any]:
    """Return the tables of a schema with their rows; `hidden`: with what is set aside."""
    await engine.dispose()  # its prepared statements are of other types
    tables = f"relnamespace = '{schema}'::regnamespace AND relname IN ('owners', 'pets', 'toys')"
    columns = await query(
        engine,
        "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, "
        "pg_get_expr(adbin, adrelid), obj_description(pg_class.oid) FROM pg_class "
        "JOIN pg_attribute ON attrelid = pg_class.oid "
        "LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
        f"WHERE {tables} AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2",
    )
    rules = await query(
        engine,
        "SELECT conname, pg_get_constraintdef(pg_constraint.oid), convalidated "
        f"FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE {tables} "
        "UNION ALL SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid "
        f"FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE {tables} "
        "UNION ALL SELECT tgname, pg_get_triggerdef(pg_trigger.oid), true FROM pg_trigger "
        "JOIN pg_class ON pg_class.oid = tgrelid "
        f"WHERE {tables} AND starts_with(tgname, 'fill_missing') ORDER BY 1, 2",
    )
    rows = {
        table: [
            {name: value for name, value in row.items() if hidden or not is_hidden(name)}
            for (row,) in await query(
                engine, f"SELECT to_jsonb(t) FROM {schema}.{table} AS t ORDER BY id"
            )
        ]
        for table in dict.fromkeys(column[0] for column in columns)
    }
    return {
        "columns": [column for column in columns if hidden or not is_hidden(column[1])],
        "rules": [rule for rule in rules if hidden or not is_hidden(str(rule))],
        "rows": rows,
    }


def is_hidden(name: str) -> bool:
    return "_aside_" in name


async def functions(engine: AsyncEngine, schema: str) -> list[str]:
    names = await query(
        engine, f"SELECT proname FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace"
    )
    return sorted(name for (name,) in names)


OTHER = "is not the schema of this project"
ARGUMENTS: dict[str, Any] = {  # of an operation that names another schema
    "column": sa.Column("age", sa.Integer()),
    "columns": ["age"],
    "type_": sa.Text(),
    "where": "age IS NULL",
    "fill": None,
    "local_cols": ["age"],
    "remote_cols": ["id"],
}


def with_schema() -> list[str]:
    """Return the operations that have a parameter for a schema."""
    return [
        name
        for name in safely.__all__
        if inspect.isfunction(function := getattr(safely, name))
        and {"schema", "source_schema"} & inspect.signature(function).parameters.keys()
    ]


def in_other_schema(name: str) -> Callable[[], object]:
    """Return a call of an operation on users of another schema."""
    function = getattr(safely, name)
    parameters = inspect.signature(function).parameters.values()
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    arguments = {
        parameter: ARGUMENTS.get(parameter, "users" if "table" in parameter else "age")
        for parameter in needed
    }
    schema = "source_schema" if name == "create_foreign_key" else "schema"
    others = {"referent_schema": "archive"} if name == "create_foreign_key" else {}
    return partial(function, **arguments, **{schema: "archive"}, **others)


@pytest.mark.parametrize("name", with_schema())
async def test_an_operation_in_another_schema_is_refused(engine: AsyncEngine, name: str) -> None:
    """Nothing would be published for it, and older builds would break."""
    words = OTHER if engine.dialect.name == "postgresql" else "SQLite has no schemas"
    async with engine.connect() as connection:
        with pytest.raises(safely.Refused, match=words):
            await connection.run_sync(operate, "0042", in_other_schema(name))


@pytest.mark.only("postgresql")
async def test_another_schema_is_refused_by_upgrade_and_by_a_script_alike(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "CREATE SCHEMA archive")
    column = 'sa.Column("id", sa.BigInteger(), primary_key=True)'
    revision(
        f'safely.create_table("users", {column}, schema="archive")',
        'safely.drop_table("users", schema="archive")',
    )
    for options in (("upgrade", "head"), ("upgrade", f"{HEAD}:{NEXT}", "--sql")):
        process = run_alembic(url, *options, cwd=clone, check=False)
        assert process.returncode != 0
        assert OTHER in f"{process.stdout}{process.stderr}"
        assert "Traceback" not in process.stderr
    assert await revision_of(engine) == HEAD
    assert await query(engine, "SELECT to_regclass('archive.users') IS NULL") == [(True,)]


@pytest.mark.only("postgresql")
async def test_the_current_schema_may_be_named(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    revision('safely.change_default("users", "age", "7", schema="public")')
    script = run_alembic(url, "upgrade", f"{HEAD}:{NEXT}", "--sql", cwd=clone).stdout
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    await run_script(engine, script)
    assert await revision_of(engine) == NEXT


@pytest.mark.only("postgresql")
async def test_the_operations_work_in_the_schema_of_the_project_and_in_no_other(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    """Up, down and up again, beside tables of the same names in another schema."""
    for statement in SETUP:
        await write(engine, statement)
    others = await everything_in(engine, "public", hidden=True), await functions(engine, "public")
    metadata = sa.MetaData(schema="shop")
    sa.Table("pets", metadata)
    for number, (up, down) in enumerate(OPERATIONS.values()):
        before = await everything_in(engine, "shop", hidden=False)
        file = tmp_path / f"00{number}.py"
        file.write_text(up, encoding="utf-8")
        async with revision_on(engine, f"00{number}", metadata, file) as run:
            await run(partial(exec, up, SCOPE))
            after = await everything_in(engine, "shop", hidden=False)
            assert after != before, up
            await run(partial(exec, down, SCOPE), up=False)
            assert await everything_in(engine, "shop", hidden=False) == before, down
            await run(partial(exec, up, SCOPE))
            assert await everything_in(engine, "shop", hidden=False) == after, up
            await run(partial(exec, down, SCOPE), up=False)
    assert (
        await everything_in(engine, "public", hidden=True),
        await functions(engine, "public"),
    ) == others


REFUSED = {
    "a table that is missing in the schema": (
        'safely.drop_column("users", "age")',
        "there is no table users in the schema shop",
    ),
    "a foreign key to another schema": (
        'safely.create_foreign_key("fk", "pets", "users", ["owner"], ["id"], '
        'source_schema="shop", referent_schema="public")',
        "a foreign key from the schema shop to the schema public",
    ),
    "a new table that refers to another schema": (
        'safely.create_table("toys", sa.Column("id", sa.BigInteger(), '
        'sa.ForeignKey("public.users.id")), schema="shop")',
        "a foreign key from the schema shop to the schema public",
    ),
    "a constraint without a name": (
        'safely.create_unique_constraint(None, "pets", ["name"], schema="shop")',
        "a constraint or an index of pets has no name",
    ),
}


@pytest.mark.only("postgresql")
async def test_what_does_not_fit_the_schema_is_refused_in_words(engine: AsyncEngine) -> None:
    for statement in SETUP:
        await write(engine, statement)
    metadata = sa.MetaData(schema="shop")
    sa.Table("pets", metadata)
    for body, words in REFUSED.values():
        async with revision_on(engine, "0042", metadata) as run:
            with pytest.raises(safely.Refused, match=words):
                await run(partial(exec, body, SCOPE))


IDS = ("ae1027a6acf1", 'it\'s 50% of "Ä" {0} $1')


@pytest.mark.parametrize("revision_id", IDS)
async def test_a_revision_may_have_any_id(url: str, revision_id: str) -> None:
    """Its id is part of the names of what it sets aside."""
    engine = create_async_engine(
        url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")
    )
    for statement in (
        "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)",
        "CREATE INDEX ix_pets_name ON pets (name)",
        "INSERT INTO pets VALUES (1, 'Rex', 7)",
    ):
        await write(engine, statement)
    directions: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (
            lambda: safely.drop_column("pets", "name"),
            lambda: safely.add_column("pets", sa.Column("name", sa.Text())),
        ),
        (
            lambda: safely.change_type("pets", "age", sa.Text()),
            lambda: safely.change_type("pets", "age", sa.Integer()),
        ),
        (
            lambda: safely.require_column("pets", "name", fill="Tom"),
            lambda: safely.allow_null("pets", "name"),
        ),
        (
            lambda: safely.drop_table("pets"),
            lambda: safely.create_table(
                "pets",
                sa.Column("id", sa.Integer(), primary_key=True),
                sa.Column("name", sa.Text()),
                sa.Column("age", sa.Integer()),
            ),
        ),
    ]
    async with revision_on(engine, revision_id) as run:
        for up, down in directions:
            await run(up)
            await run(down, up=False)
            assert await query(engine, "SELECT id, name, age FROM pets") == [(1, "Rex", 7)]
        await write(engine, "DROP INDEX ix_pets_name")  # it has got its name back
    await engine.dispose()


async def test_a_name_that_would_be_cut_off_is_refused_before_anything_is_changed(
    engine: AsyncEngine,
) -> None:
    revision_id = "f" * 60
    operations: list[Callable[[], object]] = [
        lambda: safely.drop_column("users", "age"),
        lambda: safely.drop_table("idempotency_key"),
    ]
    async with revision_on(engine, revision_id) as run:
        for operation in operations:
            with pytest.raises(safely.Refused, match=r"too long: .* or the id of revision fff"):
                await run(operation)
    assert await query(engine, "SELECT count(age) FROM users") == [(0,)]
    assert await query(engine, "SELECT count(key) FROM idempotency_key") == [(0,)]
