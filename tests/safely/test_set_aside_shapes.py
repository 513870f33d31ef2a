"""Rules and indexes of a column that is set aside come back as they were, or are refused first."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD
from tests.commands import run_alembic, run_migrations
from tests.databases import Databases, write
from tests.migrated import state_of
from tests.revisions import Revision

DROP = 'safely.drop_column("users", "age")'
ADD = 'safely.add_column("users", sa.Column("age", sa.Integer()))'
BODY = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} RETURN new; END$$"
ON_USERS = "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()"
ON_KEYS = "CREATE TRIGGER t BEFORE UPDATE ON idempotency_key FOR EACH ROW EXECUTE FUNCTION f()"
# what somebody has made, the revision that can't be run with it, and words of the refusal
REFUSED = [
    ([BODY.format("new.Age := 1;"), ON_USERS], DROP, "f() (trigger t on users)"),
    (
        [BODY.format("UPDATE users SET age = 1;"), ON_KEYS],
        DROP,
        "f() (trigger t on idempotency_key)",
    ),
    (
        [BODY.format("new.email := '';"), ON_USERS],
        'safely.rename_column("users", "email", "mail")',
        "users.email can't be renamed: f() (trigger t on users)",
    ),
    (
        [BODY.format("PERFORM FROM users;"), ON_KEYS],
        'safely.drop_table("users")',
        "f() (trigger t on idempotency_key)",
    ),
    (["CREATE POLICY p ON users USING (age > 1)"], DROP, "policy p"),
    (["ALTER TABLE users ADD CONSTRAINT c CHECK (age IS NOT NULL)"], DROP, "c would still hold"),
    (["CREATE UNIQUE INDEX u ON users (age) NULLS NOT DISTINCT"], DROP, "with u: newer rows"),
]
UNDO = [
    "DROP TRIGGER IF EXISTS t ON users",
    "DROP TRIGGER IF EXISTS t ON idempotency_key",
    "DROP FUNCTION IF EXISTS f()",
    "DROP POLICY IF EXISTS p ON users",
    "ALTER TABLE users DROP CONSTRAINT IF EXISTS c",
    "DROP INDEX IF EXISTS u",
]
# nothing of this is in the way
SHAPES = [
    "ALTER TABLE users ADD s serial, ADD i int GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3), "
    "ADD g int GENERATED ALWAYS AS (age * 2) STORED, ADD v int GENERATED ALWAYS AS (age + 1), "
    "ADD r int4range, ADD CONSTRAINT x EXCLUDE USING gist (r WITH &&) WHERE (r IS NOT NULL), "
    "ADD CONSTRAINT q UNIQUE (age) INCLUDE (email) DEFERRABLE INITIALLY DEFERRED, "
    "ALTER age SET STATISTICS 77",
    "CREATE INDEX k ON users (age DESC NULLS LAST) INCLUDE (email) WITH (fillfactor = 70) "
    "WHERE age > 1",
    "CREATE INDEX e ON users ((age + 1), full_name text_pattern_ops)",
    "CREATE STATISTICS z (mcv) ON age, email FROM users",
    "CREATE MATERIALIZED VIEW m AS SELECT age FROM users",
    "CREATE VIEW w AS SELECT age FROM users",
    "CREATE RULE l AS ON UPDATE TO users WHERE new.age = 99 DO INSTEAD NOTHING",
    BODY.format("/* new.age */ -- age\n"),
    "CREATE TRIGGER t BEFORE UPDATE OF age ON users FOR EACH ROW WHEN (new.age > 5) "
    "EXECUTE FUNCTION f()",
]
COLUMNS = {
    "age": "sa.Integer()",
    "s": "sa.Integer(), nullable=False",
    "i": "sa.Integer(), sa.Identity(always=True, start=7, increment=3), nullable=False",
    "g": 'sa.Integer(), sa.Computed("age * 2", persisted=True)',
    "v": 'sa.Integer(), sa.Computed("age + 1", persisted=False)',
    "r": "postgresql.INT4RANGE()",
}
# drafts of a revision: the definition that was undone, the one that is run, and the refusal
DRAFTS = [
    ("sa.Integer()", "sa.Text()", "as integer, and is now to be text"),
    ("sa.Integer()", 'sa.Integer(), server_default="1", nullable=False', "integer NOT NULL"),
    ('sa.Integer(), server_default="1", nullable=False', "sa.Integer()", "with require_column"),
    (
        'sa.Integer(), sa.Computed("id * 2", persisted=False)',
        'sa.Integer(), sa.Computed("id * 3", persisted=False)',
        "is now to be integer GENERATED ALWAYS AS (id * 3)",
    ),
    (
        'sa.Integer(), sa.CheckConstraint("x > 1", name="ck_x")',
        "sa.Integer()",
        "with ck_x, which its file has no more",
    ),
    (
        'sa.Integer(), sa.CheckConstraint("x > 1", name="ck_x")',
        'sa.Integer(), sa.CheckConstraint("x > 2", name="ck_x")',
        "there is another ck_x",
    ),
]
TABLE = """\
safely.create_table(
    "t",
    sa.Column("id", sa.Integer(), sa.Identity(), primary_key=True),
    sa.Column("a", sa.Text(), server_default="x", nullable=False),
    sa.UniqueConstraint("a", "id", name="uq_t"),
    sa.CheckConstraint("a <> 'q'", name="ck_t"),
)"""
TABLE_EDITS = [
    ('server_default="x"', 'server_default="y"', "and is now to be text NOT NULL DEFAULT 'y'"),
    ("nullable=False", "nullable=True", "and is now to be text DEFAULT"),
    ("sa.Text()", "sa.String(9)", "and is now to be character varying(9)"),
    ("sa.Identity()", "sa.Identity(always=True)", "GENERATED ALWAYS AS IDENTITY"),
    ('sa.UniqueConstraint("a", "id"', 'sa.UniqueConstraint("a"', "without UNIQUE (a)"),
    ("<> 'q'", "<> 'r'", "without CHECK ((a <> 'r'::text))"),
    ('    sa.UniqueConstraint("a", "id", name="uq_t"),\n', "", "with uq_t"),
]


@pytest.fixture(params=["postgresql"])
async def databases(
    request: pytest.FixtureRequest, all_databases: dict[str, Databases]
) -> Databases:
    return all_databases[request.param]


def refusal(url: str, clone: Path) -> str:
    """Run an upgrade that must fail in one line; return that line."""
    process = run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    return process.stdout


async def test_what_would_fail_for_clients_is_refused_before(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, *, full: bool
) -> None:
    for made, up, words in REFUSED if full else REFUSED[::2]:
        for statement in made:
            await write(engine, statement)
        revision(up)
        before = await state_of("postgresql", url)
        assert words in refusal(url, clone)
        assert await state_of("postgresql", url) == before
        for statement in UNDO:
            await write(engine, statement)
    revision(DROP, ADD)
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)


async def test_whatever_hangs_on_a_column_comes_back_as_it_was(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 3)")
    for statement in SHAPES:
        await write(engine, statement)
    drops = "\n".join(f'safely.drop_column("users", "{name}")' for name in COLUMNS)
    adds = "\n".join(
        f'safely.add_column("users", sa.Column("{name}", {definition}))'
        for name, definition in COLUMNS.items()
    )
    revision(drops, f"from sqlalchemy.dialects import postgresql\n{adds}")
    run_alembic(url, "-x", "drift=accept", "upgrade", HEAD, cwd=clone)
    before = await state_of("postgresql", url)
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO users (full_name) VALUES ('B')")
    await write(engine, "UPDATE users SET full_name = 'C' WHERE full_name = 'B'")
    await write(engine, "DELETE FROM users WHERE full_name = 'C'")
    await write(engine, "REFRESH MATERIALIZED VIEW m")
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    assert await state_of("postgresql", url) == before


async def test_a_draft_that_was_edited_does_not_get_its_old_definition_back(
    url: str, clone: Path, revision: Revision, *, full: bool
) -> None:
    add = 'safely.add_column("users", sa.Column("x", {}))'
    drafts = [
        (add.format(undone), add.format(edited), 'safely.drop_column("users", "x")', words)
        for undone, edited, words in DRAFTS
    ]
    drafts += [
        (TABLE, TABLE.replace(old, new), 'safely.drop_table("t")', words)
        for old, new, words in TABLE_EDITS
    ]
    for undone, edited, down, words in drafts if full else drafts[1::8]:
        revision(undone, down)
        for _ in range(2):  # unedited, it comes back
            run_alembic(url, "upgrade", "head", cwd=clone)
            run_alembic(url, "downgrade", HEAD, cwd=clone)
        before = await state_of("postgresql", url)
        revision(edited, down)
        line = refusal(url, clone)
        assert words in line
        assert await state_of("postgresql", url) == before
        assert run_migrations(url, "purge", "--undone", "--yes", cwd=clone).returncode == 0
    run_alembic(url, "upgrade", "head", cwd=clone)
