"""`python -m safely lint` reports what a revision would do to the clients of a database in use."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.ledger.checksum import checksum, short
from safely.lint import lint, select
from safely.lint.findings import Finding
from safely.lint.rendering import render
from safely.lint.reports import path_for_people
from safely.lint.spellings.calls import COUNTERPARTS
from safely.lint.volatility import STABLE_FUNCTIONS
from service.models import Base
from tests.chain import HEAD, NEXT, NUMBERS, VERSIONS, later
from tests.commands import run_alembic, run_migrations
from tests.databases import UNREACHABLE_URL
from tests.documented_changes import ROWS
from tests.paths import ROOT
from tests.revisions import indented

Draft = Callable[..., None]  # takes the bodies of upgrade and downgrade

REVISION = f"""\
import sqlalchemy as sa
from alembic import op

import safely

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
{{up}}


def downgrade() -> None:
{{down}}
"""

BAD = sorted((ROOT / "tests/data/revisions").glob("*.py"))
OPTIONS = {"lock_timeout": "100ms"}  # of env.py
NO_LEDGER = "not compared with a ledger: "
ADD_PHONE = 'safely.add_column("users", sa.Column("phone", sa.Text()))'
INDEX_AGE = 'safely.create_index("idx_users_age", "users", ["age"])'


@pytest.fixture(scope="module")
def chain_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the chain, which the tests of this module share."""
    directory = tmp_path_factory.mktemp("chain")
    shutil.copytree(ROOT / "migrations/versions", directory / "migrations/versions")
    return directory


@pytest.fixture
def chain(chain_copy: Path) -> Iterator[Path]:
    """Yield a copy of the chain; revisions that the test adds are removed afterwards."""
    yield chain_copy
    for path in (chain_copy / "migrations/versions").glob("*.py"):
        if path.name not in {version.name for version in VERSIONS}:
            path.unlink()


@pytest.fixture
def draft(chain: Path) -> Draft:
    """Return a function that writes the revision after the head with these bodies."""

    def write(up: str, down: str = 'safely.nothing_to_undo("a test")') -> None:
        source = REVISION.format(up=indented(up), down=indented(down))
        (chain / f"migrations/versions/{NEXT}_draft.py").write_text(source, encoding="utf-8")

    return write


def findings_of(chain: Path, *names: str) -> list[Finding]:
    """Lint revisions of a chain: the one after the head, unless others are named."""
    directory = ScriptDirectory(str(chain / "migrations"))
    revisions = select(directory, list(names or [NEXT]))
    findings_by_revision = lint(directory, revisions, Base.metadata, OPTIONS, numbered=True)
    return [finding for findings in findings_by_revision.values() for finding in findings]


def rules(chain: Path) -> list[str]:
    """Return the rules that the draft breaks."""
    return [finding.rule for finding in findings_of(chain)]


def copy_into_chain(chain: Path, path: Path) -> Path:
    """Copy a bad revision into a chain, after its head; return its new path."""
    return Path(shutil.copy(path, chain / f"migrations/versions/{NEXT}_{path.name}"))


def source(chain: Path) -> list[str]:
    """Return the lines of the draft."""
    path = chain / f"migrations/versions/{NEXT}_draft.py"
    return path.read_text(encoding="utf-8").splitlines()


class Expected(NamedTuple):
    """The finding that a bad revision must have."""

    line: str  # how the line begins
    safe: str


EXPECTED = {
    "backfill_at_once": Expected(
        'op.execute("UPDATE users SET age = 18 WHERE age IS NULL")',
        'safely.backfill("users", "age = 18", where="age IS NULL")',
    ),
    "check_and_validate": Expected(
        'op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_full_name_length")',
        'safely.create_check_constraint("ck_users_full_name_length", "users", '
        '"length(full_name) <= 200")  # in the place of both',
    ),
    "foreign_key_at_once": Expected(
        'op.create_foreign_key("fk_users_invited_by_users"',
        'safely.create_foreign_key("fk_users_invited_by_users", "users", "users", '
        '["invited_by"], ["id"])',
    ),
    "not_null_at_once": Expected(
        'op.alter_column("users", "status", nullable=False)',
        'safely.require_column("users", "status", fill=…)',
    ),
    "plain_drop": Expected('op.drop_column("users", "age")', 'safely.drop_column("users", "age")'),
    "plain_index": Expected('op.create_index("idx_users_age"', INDEX_AGE),
    "two_subjects": Expected(
        INDEX_AGE,
        f"0010_add_users_phone.py\n    {ADD_PHONE}\n0011_create_idx_users_age.py\n    {INDEX_AGE}",
    ),
    "two_tables": Expected(
        'op.add_column("idempotency_key", sa.Column("tenant", sa.Text()))',
        "0010_add_users_tenant.py\n"
        '    safely.add_column("users", sa.Column("tenant", sa.Text()))\n'
        "0011_add_idempotency_key_tenant.py\n"
        '    safely.add_column("idempotency_key", sa.Column("tenant", sa.Text()))',
    ),
    "type_change": Expected(
        'op.alter_column("users", "age", type_=sa.BigInteger()',
        'safely.change_type("users", "age", sa.BigInteger())',
    ),
    "volatile_default": Expected(
        "op.add_column(",
        'safely.add_column("users", sa.Column("token", sa.Uuid()))\n'
        'safely.change_default("users", "token", sa.text("gen_random_uuid()"))\n'
        'safely.backfill("users", "token = gen_random_uuid()", where="token IS NULL")',
    ),
}


def test_there_are_ten_bad_revisions_and_none_is_in_the_chain() -> None:
    assert [path.stem for path in BAD] == sorted(EXPECTED)
    assert len(BAD) == 10
    assert not {path.name for path in BAD} & {path.name[5:] for path in VERSIONS}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_revision_is_reported_on_its_line_with_the_safe_spelling(
    chain: Path, path: Path
) -> None:
    copy_into_chain(chain, path)
    rule = path.stem.replace("_", "-")
    finding, *others = sorted(findings_of(chain), key=lambda finding: finding.rule != rule)
    assert finding.rule == rule
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[finding.line - 1].strip().startswith(EXPECTED[path.stem].line)
    assert (finding.safe or "").startswith(EXPECTED[path.stem].safe)
    assert finding.why
    # the other findings: the plain op.add_column that the bad line needs, and a missing index
    assert {(f.rule, lines[f.line - 1].split("(")[0].strip()) for f in others} <= {
        ("raw-op", "op.add_column"),
        ("foreign-key-without-index", "op.create_foreign_key"),
    }


@pytest.mark.only("postgresql")
def test_the_safe_code_can_be_pasted_and_run_and_has_no_finding(
    url: str, chain: Path, clone: Path
) -> None:
    # others need the column that plain_drop drops; test_evolving.py runs its spelling
    names = [name for name in EXPECTED if not name.startswith(("two_", "plain_drop"))]
    for steps, name in enumerate(names, start=1):
        path = copy_into_chain(chain, ROOT / f"tests/data/revisions/{name}.py")
        text = with_fixes(path, findings_of(chain)).replace(f'"{NEXT}"', f'"{later(steps)}"')
        text = text.replace(f'"{HEAD}"', f'"{later(steps - 1)}"')
        (clone / f"migrations/versions/{later(steps)}_{name}.py").write_text(text, "utf-8")
        path.unlink()
    assert findings_of(clone, f"{HEAD}:") == []
    run_alembic(url, "upgrade", "head", cwd=clone)
    run_alembic(url, "downgrade", HEAD, cwd=clone)


def with_fixes(path: Path, findings: list[Finding]) -> str:
    """Return the revision's source with the safe spelling in place of each finding."""
    lines = path.read_text("utf-8").splitlines()
    for finding in findings[::-1]:
        safe = str(finding.safe).replace("fill=…", 'fill="new"').splitlines()
        both = 3 if "in the place of both" in safe[0] else 0  # the lines of the one above
        lines[finding.line - 1 - both : finding.last] = indented("\n".join(safe)).splitlines()
    assert not any(line.strip().startswith("op.") for line in lines)
    return "\n".join(lines)


def test_the_chain_has_no_finding_and_needs_no_suppression() -> None:
    assert findings_of(ROOT, "base:head") == []
    assert not any("# lint:" in path.read_text(encoding="utf-8") for path in VERSIONS)


@pytest.mark.parametrize("change", ROWS)
def test_the_spellings_in_the_documentation_have_no_finding(
    chain: Path, draft: Draft, change: str
) -> None:
    draft("\n".join(re.findall(r"`(safely\..*?\))`", f"{ROWS[change].spelling}")))
    assert findings_of(chain) == []


def test_autogenerate_and_hand_written_revisions_of_the_tests_have_no_finding(chain: Path) -> None:
    for steps, path in enumerate(sorted((ROOT / "tests/scratch").glob("[0-9]_*.py")), start=1):
        numbers = (
            f'revision = "{later(steps)}"\ndown_revision = "{later(steps - 1)}"\n\n\ndef upgrade'
        )
        source = path.read_text(encoding="utf-8").replace("def upgrade", numbers, 1)
        (chain / f"migrations/versions/{later(steps)}_x.py").write_text(source, "utf-8")
    assert findings_of(chain, f"{HEAD}:") == []


@pytest.mark.only("postgresql")
def test_a_revision_is_rendered_by_itself_and_as_alembic_prints_it(url: str) -> None:
    directory = ScriptDirectory(str(ROOT / "migrations"))
    printed = {
        True: run_alembic(url, "upgrade", "head", "--sql").stdout,
        False: run_alembic(url, "downgrade", f"{HEAD}:base", "--sql").stdout,
    }
    for number in NUMBERS:
        for up, script in printed.items():
            statements = render(
                directory, select(directory, [number])[0], Base.metadata, OPTIONS, up=up
            ).statements
            body = "\n\n".join(statement.text for statement in statements[1:-1])
            assert body in script
            assert "migration_log" not in body
            assert "alembic_version" not in body


@pytest.mark.only("postgresql")
async def test_postgresql_calls_none_of_the_stable_functions_volatile(driver: Any) -> None:
    rows = await driver.fetch(
        "SELECT proname, bool_or(provolatile = 'v') AS volatile FROM pg_proc "
        "WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ($1) GROUP BY 1",
        list(STABLE_FUNCTIONS),
    )
    assert {row["proname"] for row in rows} == STABLE_FUNCTIONS
    assert not [row["proname"] for row in rows if row["volatile"]]


PLAIN = {  # a harmful line: the rule that reports it, and the code to write instead
    'op.drop_table("users")': ("plain-drop", 'safely.drop_table("users")'),
    'op.create_table("t", sa.Column("id", sa.Text()))': (
        "raw-op",
        'safely.create_table("t", sa.Column("id", sa.Text()))',
    ),
    'op.add_column("users", sa.Column("a", sa.Text()))': (
        "raw-op",
        'safely.add_column("users", sa.Column("a", sa.Text()))',
    ),
    'op.add_column("users", sa.Column("a", sa.Text(), nullable=False))': (
        "required-column",
        'safely.add_column("users", sa.Column("a", sa.Text()))\n'
        'safely.require_column("users", "a", fill=…)',
    ),
    'op.add_column("users", sa.Column("a", sa.Text(), sa.ForeignKey("users.id", name="f")))': (
        "foreign-key-at-once",
        'safely.add_column("users", sa.Column("a", sa.Text()))\n'
        'safely.create_foreign_key("f", "users", "users", ["a"], ["id"])',
    ),
    'op.drop_column("users", "age")': ("plain-drop", 'safely.drop_column("users", "age")'),
    'op.create_index("i", "users", ["age"], unique=True)': (
        "plain-index",
        'safely.create_index("i", "users", ["age"], unique=True)',
    ),
    'op.create_index("i", "users", ["age"], postgresql_concurrently=True)': (
        "concurrently-in-transaction",
        'safely.create_index("i", "users", ["age"])',
    ),
    'op.drop_index("i", "users")': ("plain-index-drop", 'safely.drop_index("i", "users")'),
    'op.create_check_constraint("adult", "users", "age > 17")': (
        "check-at-once",
        'safely.create_check_constraint("ck_users_adult", "users", "age > 17")',
    ),
    'op.create_foreign_key("f", "users", "users", ["age"], ["id"], ondelete="CASCADE")': (
        "foreign-key-at-once",
        'safely.create_foreign_key("f", "users", "users", ["age"], ["id"], ondelete="CASCADE")',
    ),
    'op.create_unique_constraint("u", "users", ["email"])': (
        "unique-at-once",
        'safely.create_unique_constraint("u", "users", ["email"])',
    ),
    'op.drop_constraint(op.f("ck_users_age"), "users", type_="check")': (
        "drop-constraint",
        'safely.drop_constraint(safely.f("ck_users_age"), "users", type_="check")',
    ),
    'op.create_check_constraint(constraint_name="c", table_name="users", condition="age > 1")': (
        "check-at-once",
        'safely.create_check_constraint("ck_users_c", "users", "age > 1")',
    ),
    'op.alter_column(table_name="users", column_name="age", nullable=False)': (
        "not-null-at-once",
        'safely.require_column("users", "age", fill=…)',
    ),
    'op.drop_constraint("age", "users", "check")': (
        "drop-constraint",
        'safely.drop_constraint("ck_users_age", "users", "check")',
    ),
    'with op.batch_alter_table("users") as b:\n    b.drop_index(b.f("i"))': (
        "plain-index-drop",
        'safely.drop_index(safely.f("i"), "users")',
    ),
    'op.alter_column("users", "age", nullable=True, server_default="7", new_column_name="b")': (
        "rename",
        'safely.change_default("users", "age", "7")\n'
        'safely.allow_null("users", "age")\n'
        'safely.rename_column("users", "age", "b")',
    ),
    'op.rename_table("users", "people")': ("rename", 'safely.rename_table("users", "people")'),
    'op.execute("ALTER TABLE users RENAME CONSTRAINT ck_users_age TO c")': (
        "raw-op",
        'safely.rename_constraint("ck_users_age", "users", "c")',
    ),
    'op.execute("CREATE UNIQUE INDEX i ON users (age, lower(email)) WHERE age > 3")': (
        "plain-index",
        'safely.create_index("i", "users", ["age", sa.text("lower(email)")], unique=True, '
        'postgresql_where=sa.text("age > 3"), sqlite_where=sa.text("age > 3"))',
    ),
    'op.execute("ALTER TABLE users ADD COLUMN a bigint DEFAULT -1 NOT NULL")': (
        "raw-op",
        'safely.add_column("users", sa.Column("a", sa.BigInteger(), '
        'server_default=sa.text("-1"), nullable=False))',
    ),
    'op.execute("ALTER TABLE users ADD COLUMN a int CHECK (a > 3)")': (
        "check-at-once",
        'safely.add_column("users", sa.Column("a", sa.Integer()))\n'
        'safely.create_check_constraint("users_a_check", "users", "a > 3")',
    ),
    'op.execute("ALTER TABLE users ALTER age TYPE bigint USING age::bigint")': (
        "type-change",
        'safely.change_type("users", "age", sa.BigInteger(), using="age::bigint")',
    ),
    'op.execute("ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY (age) REFERENCES users (id)")': (
        "foreign-key-at-once",
        'safely.create_foreign_key("f", "users", "users", ["age"], ["id"])',
    ),
    'op.execute("ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)")': (
        "unique-at-once",
        'safely.create_unique_constraint("u", "users", ["email"])',
    ),
    'op.execute("ALTER TABLE users ADD PRIMARY KEY (email)")': ("primary-key-at-once", None),
    'op.execute("ALTER TABLE users ALTER age SET NOT NULL")': (
        "not-null-at-once",
        'safely.require_column("users", "age", fill=…)',
    ),
    'op.execute("UPDATE users SET age = 18")': (
        "backfill-at-once",
        'safely.backfill("users", "age = 18", where="age IS DISTINCT FROM 18")',
    ),
    'op.execute("UPDATE users SET age = age + 1 WHERE age > 17")': (
        "backfill-at-once",
        'safely.backfill("users", "age = age + 1", where="age > 17")  # where: ',
    ),
    'op.execute("UPDATE users SET age = 1 FROM idempotency_key WHERE status = 2")': (
        "backfill-at-once",
        'safely.backfill("users", …, where=…)  # where: ',
    ),
    'op.execute("UPDATE users SET age = 1 FROM idempotency_key t WHERE t.id = 1")': (
        "backfill-at-once",
        'safely.backfill("users", …, where=…)  # where: ',
    ),
    'op.execute("UPDATE users SET age = 1 WHERE id = 7 AND age > 3 OR age > 9")': (
        "backfill-at-once",
        'safely.backfill("users", "age = 1", where="(id = 7 AND age > 3) OR age > 9")',
    ),
    'op.execute("UPDATE users SET age = (SELECT age FROM users u WHERE u.id = 7 AND true)")': (
        "backfill-at-once",
        'safely.backfill("users", "age = (SELECT age FROM users u WHERE u.id = 7 AND true)", ',
    ),
    'op.execute("WITH d AS (SELECT 18 AS v) UPDATE users SET age = d.v FROM d")': (
        "backfill-at-once",
        'safely.backfill("users", …, where=…)  # where: ',
    ),
    'op.execute("WITH d AS (DELETE FROM users RETURNING id) SELECT count(*) FROM d")': (
        "delete-at-once",
        None,
    ),
    'op.execute("MERGE INTO users USING idempotency_key k ON k.status = users.age '
    'WHEN MATCHED THEN UPDATE SET age = 3")': (
        "backfill-at-once",
        'safely.backfill("users", …, where=…)  # where: ',
    ),
    'op.execute("DELETE FROM users WHERE age > 100")': ("delete-at-once", None),
    'op.execute("DELETE FROM users WHERE id = 7")': ("delete-at-once", None),
    'op.execute("TRUNCATE users")': ("plain-drop", None),
    'op.execute("CLUSTER users")': ("rewrite", None),
    'op.execute("ALTER TABLE users SET UNLOGGED")': ("rewrite", None),
    'op.execute("SET lock_timeout = 0")': ("lock-timeout", None),
    'op.execute("GRANT SELECT (id, age), UPDATE ON users TO app")': ("column-grant", None),
    'op.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")': ("table-lock", None),
    'op.execute("LOCK users IN SHARE MODE NOWAIT")': ("table-lock", None),
    'op.execute("-- squawk-ignore-file\\nALTER TABLE users DROP COLUMN age")': (
        "plain-drop",
        'safely.drop_column("users", "age")',
    ),
    'op.execute("DO $$ BEGIN END $$")': ("unseen", None),
    'op.execute("ALTER TABEL users")': ("syntax-error", None),
    'op.execute("SELECT 1; nonsense here")': ("syntax-error", None),
    'safely.add_column("users", sa.Column("a", sa.Text(), nullable=False))': ("refused", None),
    'safely.add_column("users", sa.Column("a", sa.Uuid(), server_default=sa.func.uuidv7()))': (
        "volatile-default",
        'safely.add_column("users", sa.Column("a", sa.Uuid()))\nsafely.change_default(',
    ),
    'safely.add_column("users", sa.Column("a", sa.DateTime()))': (
        "prefer-timestamp-tz",
        "sa.DateTime(timezone=True)",
    ),
    'op.execute("ALTER TABLE users ADD COLUMN a bigserial")': (
        "volatile-default",
        'safely.add_column("users", sa.Column("a", sa.BigInteger()))',
    ),
    'safely.change_default("users", "full_name", None)': ("drop-default", None),
}


def test_a_column_that_refers_to_another_table_locks_both(chain: Path, draft: Draft) -> None:
    draft('op.execute("ALTER TABLE users ADD a text REFERENCES idempotency_key (key)")')
    assert rules(chain) == ["foreign-key-without-index", "raw-op", "two-tables"]


@pytest.mark.parametrize("line", PLAIN)
def test_a_harmful_line_is_reported_once_with_the_code_to_write_instead(
    chain: Path, draft: Draft, line: str
) -> None:
    draft(line)
    rule, safe = PLAIN[line]
    others = ("foreign-key-without-index", "prefer-identity")
    (finding,) = [finding for finding in findings_of(chain) if finding.rule not in others]
    assert finding.rule == rule
    assert (finding.safe or "").startswith(safe or "")
    assert (finding.safe is None) == (safe is None)
    assert "…" not in finding.message + finding.why


def test_every_operation_that_has_a_safe_spelling_is_tried_above() -> None:
    assert {
        name for name in COUNTERPARTS if not any(f"op.{name}(" in line for line in PLAIN)
    } == set()


def test_a_lock_on_two_tables_is_reported_as_such_too(chain: Path, draft: Draft) -> None:
    draft('op.execute("LOCK TABLE users, idempotency_key")')
    lock, tables = findings_of(chain)
    assert lock.message == "LOCK TABLE locks users and idempotency_key in ACCESS EXCLUSIVE mode"
    assert "reads and writes wait" in lock.why
    assert (tables.rule, str(tables.safe)[:12]) == ("two-tables", "one revision")


def test_two_findings_of_one_rule_on_one_line_are_both_reported(chain: Path, draft: Draft) -> None:
    draft('op.execute("DROP TABLE users; DROP TABLE idempotency_key")')
    assert {f.message.split()[1] for f in findings_of(chain) if f.rule == "plain-drop"} == {
        "users",
        "idempotency_key",
    }


HARMLESS = [
    'op.execute("UPDATE users SET age = 18 WHERE id = 7")',
    'op.execute("UPDATE users AS u SET age = 18 WHERE u.id = 7 RETURNING age")',
    'op.execute("WITH d AS (SELECT 18 AS v) UPDATE users SET age = v FROM d WHERE users.id = 7")',
    'op.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")',
    'op.execute("GRANT SELECT ON users TO app")',
    'op.execute("ALTER TABLE users ALTER age SET STATISTICS 500")',
    'safely.add_column("users", sa.Column("a", sa.DateTime(True), server_default=sa.func.now()))',
    'safely.add_column("users", sa.Column("a", sa.Date(), server_default=sa.text("CURRENT_DATE")))',
    'safely.add_column("users", sa.Column("a", sa.Integer(), server_default=sa.text("(1 + -2)")))',
    'safely.change_default("users", "age", None)',
    'safely.create_foreign_key("f", "users", "idempotency_key", ["age"], ["status"])',
]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_line_has_no_finding(chain: Path, draft: Draft, line: str) -> None:
    draft(line)
    assert findings_of(chain) == []


@pytest.mark.parametrize(
    "lines",
    [
        'from alembic import op as o\no.add_column("users", sa.Column("a", sa.Text()))',
        'import alembic.op as o\no.add_column("users", sa.Column("a", sa.Text()))',
        'from alembic.op import add_column\nadd_column("users", sa.Column("a", sa.Text()))',
        'for t in ["users"]:\n    op.add_column(t, sa.Column("a", sa.Text()))',
        'with op.batch_alter_table("users") as b:\n    b.add_column(sa.Column("a", sa.Text()))',
        'if not op.get_context().as_sql:\n    op.add_column("users", sa.Column("a", sa.Text()))',
    ],
)
def test_plain_alembic_is_seen_however_it_is_called(chain: Path, draft: Draft, lines: str) -> None:
    draft(lines)
    (finding,) = findings_of(chain)
    assert finding.rule == "raw-op"
    assert re.fullmatch(
        r'safely\.add_column\((t|"users"), sa\.Column\("a", sa\.Text\(\)\)\)', finding.safe or ""
    )
    assert "add_column(" in source(chain)[finding.line - 1]


def test_each_operation_of_a_batch_is_reported_by_its_own_line(chain: Path, draft: Draft) -> None:
    draft(
        'with op.batch_alter_table("users") as b:\n'
        '    b.alter_column("age", nullable=False)\n'
        '    b.create_index("i", ["age"])\n'
        '    b.drop_constraint("ck_users_age")'
    )
    findings = {finding.rule: (finding.line, finding.safe) for finding in findings_of(chain)}
    first = source(chain).index('    with op.batch_alter_table("users") as b:') + 1
    assert findings["not-null-at-once"][0] == first + 1
    assert findings["plain-index"] == (
        first + 2,
        'safely.create_index("i", "users", ["age"])',
    )
    assert findings["drop-constraint"] == (
        first + 3,
        'safely.drop_constraint("ck_users_age", "users")',
    )


def test_changing_a_new_table_keeps_nobody_waiting(chain: Path, draft: Draft) -> None:
    draft(
        'op.create_table("teams", sa.Column("id", sa.BigInteger(), sa.Identity()))\n'
        'op.create_index("i", "teams", ["id"])\n'
        'op.alter_column("teams", "id", type_=sa.Text())\n'
        'op.execute("UPDATE teams SET id = 3")'
    )
    assert set(rules(chain)) == {"raw-op"}
    assert all("Nobody waits: the table is new." in finding.why for finding in findings_of(chain))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "CREATE INDEX ix_users_age ON ONLY users (age)",
            "the statement blocks writes of users for an instant",
        ),
        (
            "COPY users (age) FROM STDIN",
            "inserting the rows of COPY into users is one long transaction",
        ),
        (
            "INSERT INTO users SELECT * FROM others",
            "inserting the result of a query into users is one long transaction",
        ),
    ],
)
def test_a_message_says_what_this_form_of_a_statement_does(
    chain: Path, draft: Draft, sql: str, message: str
) -> None:
    draft(f'op.execute("{sql}")')
    assert [finding.message for finding in findings_of(chain)] == [message]


def test_a_new_table_that_is_renamed_stays_new(chain: Path, draft: Draft) -> None:
    draft(
        'op.execute("CREATE TABLE teams (id bigint); ALTER TABLE teams RENAME TO groups; "\n'
        '"CREATE INDEX ix_groups ON groups (id)")'
    )
    assert set(rules(chain)) == {"raw-op"}


def test_not_null_after_a_validated_check_is_harmless(chain: Path, draft: Draft) -> None:
    lines = (
        'op.execute("ALTER TABLE users ADD CONSTRAINT c CHECK ({}) NOT VALID")\n'
        "with op.get_context().autocommit_block():\n"
        '    op.execute("ALTER TABLE users VALIDATE CONSTRAINT c")\n'
        'op.alter_column("users", "age", nullable=False)'
    )
    draft(lines.format("age IS NOT NULL"))
    assert "not-null-at-once" not in rules(chain)
    draft(lines.format("age > 3"))
    assert "not-null-at-once" in rules(chain)


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        ('op.drop_column("users", "phone")', 'safely.drop_column("users", "phone")'),
        ('op.drop_table("users")', 'safely.drop_table("users")'),
        ('op.execute("ALTER TABLE users DROP COLUMN a")', 'safely.drop_column("users", "a")'),
        ('op.execute("DELETE FROM users WHERE id = 3")', "safely.nothing_to_undo("),
        ('op.execute("DELETE FROM users u WHERE u.id = 3")', "safely.nothing_to_undo("),
        (
            'op.execute("WITH d AS (SELECT 3 AS v) DELETE FROM users USING d WHERE id = v")',
            "safely.nothing_to_undo(",
        ),
        ('op.execute("TRUNCATE users")', "safely.nothing_to_undo("),
        ('op.execute("UPDATE users SET age = NULL WHERE id = 3")', "safely.nothing_to_undo("),
        ('safely.backfill("users", "age = 1", where="age = 2")', "safely.nothing_to_undo("),
    ],
)
def test_a_downgrade_that_loses_data_is_reported(
    chain: Path, draft: Draft, line: str, safe: str
) -> None:
    draft(INDEX_AGE, line)
    (finding,) = findings_of(chain)
    assert finding.rule == "lossy-downgrade"
    assert (finding.safe or "").startswith(safe)


def test_a_downgrade_that_replaces_nulls_loses_nothing(chain: Path, draft: Draft) -> None:
    draft(INDEX_AGE, 'safely.backfill("users", "age = 1", where="age IS NULL")')
    assert findings_of(chain) == []


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        '"""Nothing."""',
        "return",
        "return None",
        'raise OSError("no way")',
        'print("nothing")',
        'if False:\n    safely.drop_index("idx_users_age", "users")',
    ],
)
def test_a_downgrade_that_does_nothing_is_reported(chain: Path, draft: Draft, body: str) -> None:
    draft(INDEX_AGE, body)
    (finding,) = findings_of(chain)
    assert finding.rule == "empty-downgrade"
    assert finding.safe == (
        'def downgrade() -> None:\n    safely.drop_index("idx_users_age", "users")'
    )


def test_a_missing_downgrade_is_reported(chain: Path, draft: Draft) -> None:
    draft(INDEX_AGE)
    (path,) = (chain / "migrations/versions").glob(f"{NEXT}_*.py")
    path.write_text(path.read_text("utf-8").partition("def downgrade")[0], "utf-8")
    assert rules(chain) == ["empty-downgrade"]


@pytest.mark.parametrize(
    "line",
    [
        "import service.models",
        "from service import models",
        "from service.models import User",
        'import importlib\n    importlib.import_module("service.models")',
    ],
)
def test_importing_the_application_is_reported(chain: Path, draft: Draft, line: str) -> None:
    draft(f"{line.replace('    ', '')}\n{INDEX_AGE}")
    (finding,) = findings_of(chain)
    assert finding.rule == "imports-application"
    assert "service" in source(chain)[finding.line - 1]


ONE_SUBJECT = {
    "a table and its index": (
        'safely.create_table("t", sa.Column("a", sa.Text()))\nsafely.create_index("i", "t", ["a"])'
    ),
    "two tables that refer to each other": (
        'safely.create_table("t", sa.Column("id", sa.Text(), primary_key=True))\n'
        'safely.create_table("s", sa.Column("t", sa.Text(), sa.ForeignKey("t.id")))'
    ),
    "a table and a column that refers to it": (
        'safely.create_table("t", sa.Column("id", sa.Text(), primary_key=True))\n'
        'safely.add_column("users", sa.Column("t", sa.Text()))\n'
        'safely.create_foreign_key("f", "users", "t", ["t"], ["id"])'
    ),
    "a column and its rule": (
        'safely.add_column("users", sa.Column("size", sa.Integer()))\n'
        'rule = "size IS NOT NULL AND size > 3"\n'
        'safely.create_check_constraint("c", "users", rule)'
    ),
    "an index for another": (
        'safely.drop_index("idx_user_email", "users")\nsafely.create_index("i", "users", ["email"])'
    ),
}
TWO_SUBJECTS = {
    "a column and an index on another": f"{ADD_PHONE}\n{INDEX_AGE}",
    "two indexes with the id": (
        'safely.create_index("i", "users", ["age", "id"])\n'
        'safely.create_index("j", "users", ["email", "id"])'
    ),
    "two rules": (
        'safely.create_check_constraint("c", "users", "age IS NOT NULL")\n'
        'safely.create_check_constraint("d", "users", "email IS NOT NULL")'
    ),
    "two new tables": (
        'safely.create_table("t", sa.Column("a", sa.Text()))\n'
        'safely.create_table("s", sa.Column("a", sa.Text()))'
    ),
    "two tables in plain SQL": (
        'op.execute("GRANT SELECT ON users TO app")\n'
        'op.execute("CREATE INDEX CONCURRENTLY i ON users (age)")\n'
        'op.execute("CREATE INDEX CONCURRENTLY j ON idempotency_key (status)")'
    ),
}


@pytest.mark.parametrize("case", ONE_SUBJECT)
def test_one_subject_has_no_finding(chain: Path, draft: Draft, case: str) -> None:
    draft(ONE_SUBJECT[case])
    assert findings_of(chain) == []


@pytest.mark.parametrize("case", TWO_SUBJECTS)
def test_two_subjects_are_reported_with_the_files_to_make_of_them(
    chain: Path, draft: Draft, case: str
) -> None:
    draft(TWO_SUBJECTS[case])
    (finding,) = [f for f in findings_of(chain) if f.rule == "two-subjects"]
    files = [line for line in str(finding.safe).splitlines() if not line.startswith(" ")]
    assert [name[:4] for name in files] == [NEXT, later(2)]


def test_reading_the_connection_is_noted_and_hides_no_other_finding(
    chain: Path, draft: Draft
) -> None:
    draft(
        "bind = op.get_bind()\n"
        'many = bind.execute(sa.text("SELECT count(*) FROM users")).scalar()\n'
        'op.execute("UPDATE users SET age = 18 WHERE age IS NULL")\n'
        'bind.execute(sa.text("ALTER TABLE users DROP COLUMN email"))'
    )
    reading, update, drop = (f for f in findings_of(chain) if f.rule != "two-subjects")
    assert reading.rule == "reads-database"
    assert "count(*)" in source(chain)[reading.line - 1]
    assert update.rule == "backfill-at-once"
    assert drop.rule == "plain-drop"
    assert drop.line == reading.line + 2


def test_a_revision_that_can_not_be_printed_is_reported_with_its_line(
    chain: Path, draft: Draft
) -> None:
    draft('raise NotImplementedError("write what this revision does")')
    (finding,) = findings_of(chain)
    assert finding.rule == "unrendered"
    assert "NotImplementedError: write what this revision does" in finding.message
    assert "raise" in source(chain)[finding.line - 1]


RISKY = 'op.create_index("i", "users", ["age"])'


@pytest.mark.parametrize(
    "lines",
    [
        f"{RISKY}  # lint: plain-index: users are never more than a hundred here",
        f"# lint: plain-index: users are never more than\n# a hundred here\n{RISKY}",
        'op.create_index(\n    "i",  # lint: plain-index: users are few\n    "users", ["age"]\n)',
        f"{RISKY}  # lint: plain-index: users are few (ask: the team)",
        f"# lint: plain-index: users are few\n\n{RISKY}",
        f"{RISKY}  # noqa: E501  # lint: plain-index: users are few",
        f"{RISKY}  # lint: plain-index: users are few  # noqa: E501",
    ],
)
def test_a_reason_suppresses_a_finding(chain: Path, draft: Draft, lines: str) -> None:
    draft(lines)
    assert findings_of(chain) == []


@pytest.mark.parametrize(
    "comment",
    [
        "plain-index",
        "plain-index:",
        "plain-index users are few",
        "plain-index: …!",
        "plain-index:  # noqa: E501",
    ],
)
def test_without_a_reason_nothing_is_suppressed_and_that_is_reported_too(
    chain: Path, draft: Draft, comment: str
) -> None:
    draft(f"{RISKY}  # lint: {comment}")
    assert rules(chain) == ["no-reason", "plain-index"]


@pytest.mark.parametrize("rule", ["plain-index", "no-such-rule"])
def test_a_suppression_that_suppresses_nothing_is_reported(
    chain: Path, draft: Draft, rule: str
) -> None:
    draft(f"{INDEX_AGE}  # lint: {rule}: it was plain once")
    assert rules(chain) == ["unused-suppression"]


def test_no_comment_suppresses_the_finding_of_an_edited_file(chain: Path, draft: Draft) -> None:
    draft(f"{INDEX_AGE}  # lint: edited-file: a word was wrong")
    (finding,) = findings_of(chain)
    assert finding.message == "no comment can suppress edited-file"


def test_several_rules_can_be_suppressed_at_once(chain: Path, draft: Draft) -> None:
    second = "op.add_column('idempotency_key', sa.Column('a', sa.Text()))"
    draft(
        f"op.add_column('users', sa.Column('a', sa.Text()))\n"
        f"{second}  # lint: two-tables, raw-op: nobody is there yet"
    )
    assert rules(chain) == ["unused-suppression"]  # two-tables is reported instead of raw-op


@pytest.mark.only("postgresql")
def test_the_command_shows_the_line_why_it_hurts_and_what_to_write(url: str, clone: Path) -> None:
    copy_into_chain(clone, ROOT / "tests/data/revisions/plain_index.py")
    process = run_migrations(url, "lint", cwd=clone)
    assert process.returncode == 1
    assert process.stderr == ""
    assert process.stdout == (
        "migrations/versions/0010_plain_index.py:15: grave: plain-index: "
        "creating the index idx_users_age blocks writes to users until it is built\n"
        '      15 |     op.create_index("idx_users_age", "users", ["age"])\n'
        "    why:  CREATE INDEX holds SHARE on users until the index is built: every INSERT, UPDATE"
        " and\n"
        "          DELETE waits, and the wait grows with the table. Reads go on.\n"
        '    safe: safely.create_index("idx_users_age", "users", ["age"])\n'
        "\n"
        "1 finding(s) in 1 of 10 revision(s)\n"
        "Each table counts as large, since no sizes are known (--stats live, or --stats FILE)\n"
    )
    process = run_migrations(url, "lint", "head", "--json", cwd=clone)
    assert process.returncode == 1
    (finding,) = json.loads(process.stdout)
    assert list(finding) == ["file", "line", "rule", "message", "why", "safe"]
    assert (finding["file"], finding["line"], finding["rule"]) == (
        "migrations/versions/0010_plain_index.py",
        15,
        "plain-index",
    )


@pytest.mark.only("postgresql")
def test_the_exit_code_tells_whether_there_are_findings(url: str, clone: Path) -> None:
    process = run_migrations(url, "lint", cwd=clone)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"no finding in {len(NUMBERS)} revision(s)\n"
    assert json.loads(run_migrations(url, "lint", "--json", cwd=clone).stdout) == []
    process = run_migrations(url, "lint", "0042", cwd=clone)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "FAILED: Can't locate revision identified by '0042'\n"
    process = run_migrations(url, "lint", "0005:0003", cwd=clone)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("FAILED: 0005:0003 stands for no revision, since nothing")


def test_revisions_are_named_by_number_by_head_and_by_range() -> None:
    directory = ScriptDirectory(str(ROOT / "migrations"))

    def numbers(*names: str) -> list[str]:
        return [script.revision for script in select(directory, list(names))]

    assert numbers() == NUMBERS
    assert numbers("head") == [HEAD]
    assert numbers("0003", "0002") == ["0002", "0003"]
    assert numbers("0003:0005") == ["0004", "0005"]
    assert numbers("base:0002") == numbers(":0002") == ["0001", "0002"]
    assert numbers("0007:") == numbers("0007:head") == NUMBERS[7:]
    with pytest.raises(CommandError, match="Can't locate revision identified by '7'"):
        numbers("0003:7")
    for nothing in ("base", "0005:0003"):
        with pytest.raises(CommandError, match=f"{nothing} (is|stands for) no revision"):
            numbers("0001", nothing)


@pytest.mark.parametrize("broken", ["def upgrade(:", "import no_such_module"])
def test_a_file_that_can_not_be_loaded_is_one_clear_line(clone: Path, broken: str) -> None:
    (clone / f"migrations/versions/{NEXT}_broken.py").write_text(broken, "utf-8")
    with pytest.raises(CommandError, match=r"a revision file can't be loaded: .*\w+Error: "):
        findings_of(clone)


def test_two_files_with_one_number_are_refused(clone: Path) -> None:
    shutil.copy(VERSIONS[-1], clone / f"migrations/versions/{HEAD}_again.py")
    with pytest.raises(CommandError, match=f"Revision {HEAD} is present more than once"):
        findings_of(clone)


def test_without_squawk_one_line_names_the_extra_to_install(tmp_path: Path) -> None:
    """Run a Python elsewhere, which has the same libraries and no programs beside it."""
    python = tmp_path / "python"
    python.symlink_to(Path(sys.executable).resolve())
    libraries = sysconfig.get_paths()["purelib"]
    process = subprocess.run(
        [python, "-m", "migrations", "lint"],
        cwd=ROOT,
        env={"PYTHONPATH": libraries, "PATH": str(tmp_path), "DATABASE_URL": UNREACHABLE_URL},
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr == (
        "FAILED: squawk, which checks the SQL, is not installed: pip install 'safely[lint]'\n"
    )


async def test_an_edited_applied_file_is_reported_by_the_ledger(url: str, clone: Path) -> None:
    path = clone / "migrations/versions" / VERSIONS[2].name
    was = checksum(path)
    path.write_text(path.read_text("utf-8").replace("150", "130"), "utf-8")
    process = run_migrations(url, "lint", "--json", cwd=clone)
    assert process.returncode == 1
    (finding,) = json.loads(process.stdout)
    assert (finding["file"], finding["rule"]) == (f"migrations/versions/{path.name}", "edited-file")
    assert (
        f"applied with checksum {short(was)}, is now {short(checksum(path))}" in finding["message"]
    )
    assert run_migrations(url, "lint", "0004:", cwd=clone).returncode == 0


async def test_without_a_ledger_the_rest_is_linted_and_one_line_says_so(empty_url: str) -> None:
    process = run_migrations(empty_url, "lint")
    assert process.returncode == 0
    assert process.stderr.startswith(NO_LEDGER)


@pytest.mark.parametrize(
    "url", [UNREACHABLE_URL, "postgresql://somebody:secret@127.0.0.1:1/users", ""]
)
def test_without_a_database_the_rest_is_linted_and_no_secret_is_printed(
    clone: Path, url: str
) -> None:
    process = run_migrations(url, "lint", cwd=clone)
    assert process.returncode == 0
    assert process.stderr.startswith(NO_LEDGER)
    assert len(process.stderr.splitlines()) == 1
    assert "secret" not in process.stderr
    assert not (clone / ".data").exists()


def test_an_address_that_env_py_can_not_use_is_one_clear_line(clone: Path) -> None:
    process = run_migrations("nonsense:secret", "lint", cwd=clone)
    assert process.returncode == 2
    assert process.stderr.startswith("FAILED: DATABASE_URL is not a URL")
    assert "secret" not in process.stderr


TEMPLATE = '''\
"""what a revision does

Revision ID: {id}
Revises: {revises}
Create Date: 2024-05-01 10:00:00.000000

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "{id}"
down_revision: Union[str, Sequence[str], None] = {revises!r}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

TABLE: str = "orders"


def upgrade() -> None:
    """Upgrade schema."""
    # ### commands auto generated by Alembic - please adjust! ###
    {up}
    # ### end Alembic commands ###


def downgrade() -> None:
    """Downgrade schema."""
    # ### commands auto generated by Alembic - please adjust! ###
    {down}
    # ### end Alembic commands ###
'''
SHOP = sa.MetaData()
ORDERS = sa.Table("orders", SHOP, sa.Column("id", sa.BigInteger), schema="shop")
FIRST, LEFT, RIGHT, MERGE = "ae1027a6acf1", "1975ea83b712", "ffffffffffff", "00003b5e1c9d"


class Shop(NamedTuple):
    """A project as `alembic init` and `alembic merge` make it, with plain Alembic."""

    directory: Path
    script: ScriptDirectory

    def select(self, *names: str) -> list[str]:
        """Return the ids of the revisions that are named."""
        return [revision.revision for revision in select(self.script, list(names))]

    def findings(self, id_: str) -> list[Finding]:
        """Lint one revision."""
        return lint(self.script, select(self.script, [id_]), SHOP, {})[id_]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Return a project with hashes for ids and a merge, whose files lie in two directories."""
    script_directory, first, others = (tmp_path / name for name in ("db", "old", "db/history"))
    for directory in (script_directory, first, others):
        directory.mkdir()

    def write(directory: Path, id_: str, revises: Any, up: str, down: str) -> None:
        text = TEMPLATE.format(id=id_, revises=revises, up=up, down=down)
        (directory / f"{id_}_revision.py").write_text(text, encoding="utf-8")

    create = 'op.create_table("orders", sa.Column("id", sa.BigInteger()), schema="shop")'
    add = 'op.add_column(TABLE, sa.Column("note", sa.Text()), schema="shop")'
    check = 'op.create_check_constraint("total", "orders", "total > 0", schema="shop")'
    write(first, FIRST, None, create, 'op.drop_table("orders", schema="shop")')
    write(others, LEFT, FIRST, add, 'op.drop_column(TABLE, "note", schema="shop")')
    write(others, RIGHT, FIRST, check, 'op.drop_constraint("total", "orders", schema="shop")')
    write(others, MERGE, (LEFT, RIGHT), "pass", "pass")
    locations = [str(others), str(first)]
    return Shop(tmp_path, ScriptDirectory(str(script_directory), version_locations=locations))


def test_revisions_with_hashes_are_named_as_alembic_names_them(shop: Shop) -> None:
    every = shop.select()
    assert (every[0], every[-1]) == (FIRST, MERGE)
    assert set(every) == {FIRST, LEFT, RIGHT, MERGE}
    assert shop.select("ae10") == [FIRST]
    assert shop.select("head", FIRST) == [FIRST, MERGE]
    assert shop.select("base:1975") == [FIRST, LEFT]
    assert set(shop.select("ae10:head")) == {LEFT, RIGHT, MERGE}
    assert shop.select("1975:head") == [RIGHT, MERGE]  # LEFT has run already
    assert shop.select("1975:ffff") == [RIGHT]
    assert shop.select(f"{MERGE}:") == []
    with pytest.raises(CommandError, match="stands for no revision, since nothing leads up from"):
        shop.select(f"{MERGE}:{LEFT}")
    with pytest.raises(CommandError, match="Can't locate revision identified by 'beef'"):
        shop.select("beef")


def test_without_a_name_the_heads_of_all_branches_are_linted(shop: Shop) -> None:
    (shop.directory / f"db/history/{MERGE}_revision.py").unlink()
    script = ScriptDirectory(shop.script.dir, version_locations=shop.script.version_locations)
    assert {revision.revision for revision in select(script, [])} == {FIRST, LEFT, RIGHT}
    assert {revision.revision for revision in select(script, ["ae10:"])} == {LEFT, RIGHT}
    with pytest.raises(CommandError, match="Multiple head revisions"):
        select(script, ["head"])


def test_a_range_includes_the_dependencies_of_its_revisions(shop: Shop) -> None:
    (shop.directory / f"db/history/{MERGE}_revision.py").unlink()
    path = shop.directory / f"db/history/{RIGHT}_revision.py"
    none, left = "depends_on: Union[str, Sequence[str], None] = ", repr(LEFT)
    path.write_text(path.read_text("utf-8").replace(f"{none}None", none + left), "utf-8")
    script = ScriptDirectory(shop.script.dir, version_locations=shop.script.version_locations)
    assert [revision.revision for revision in select(script, [":ffff"])] == [FIRST, LEFT, RIGHT]


def test_a_merge_of_branches_has_nothing_to_undo(shop: Shop) -> None:
    assert shop.findings(MERGE) == []


def test_a_merge_that_changes_something_needs_a_downgrade(shop: Shop) -> None:
    path = shop.directory / f"db/history/{MERGE}_revision.py"
    text = path.read_text("utf-8").replace("pass", 'op.execute("SELECT 1")', 1)
    path.write_text(text, encoding="utf-8")
    assert [finding.rule for finding in shop.findings(MERGE)] == ["empty-downgrade"]


def test_a_file_of_alembics_own_template_is_read_as_any_other(shop: Shop) -> None:
    assert [(finding.rule, finding.safe) for finding in shop.findings(LEFT)] == [
        ("raw-op", 'safely.add_column(TABLE, sa.Column("note", sa.Text()), schema="shop")'),
        ("lossy-downgrade", 'safely.drop_column(TABLE, "note", schema="shop")'),
    ]


def test_without_a_naming_convention_a_check_keeps_its_name(shop: Shop) -> None:
    finding = shop.findings(RIGHT)[0]
    assert finding.rule == "check-at-once"
    assert finding.safe == (
        'safely.create_check_constraint("total", "orders", "total > 0", schema="shop")'
    )


def test_only_numbered_projects_get_numbers_for_the_revisions_to_write(
    shop: Shop,
) -> None:
    path = shop.directory / f"db/history/{LEFT}_revision.py"
    index = '\n    op.create_index("i", "orders", ["total"])'
    text = path.read_text("utf-8")
    path.write_text(text.replace('schema="shop")', f'schema="shop"){index}', 1), encoding="utf-8")
    (finding,) = [finding for finding in shop.findings(LEFT) if finding.rule == "two-subjects"]
    files = [line for line in str(finding.safe).splitlines() if not line.startswith(" ")]
    assert files == ["…_add_orders_note.py", "…_create_i.py"]


def test_a_file_that_can_not_be_loaded_is_named_in_any_directory(shop: Shop) -> None:
    path = shop.directory / "old/broken_revision.py"
    path.write_text("import no_such_module", encoding="utf-8")
    with pytest.raises(CommandError, match=r"loaded: broken_revision\.py: ModuleNotFoundError"):
        shop.select()


@pytest.mark.parametrize(
    ("current", "shown"),
    [
        (".", ["old", "db/history"]),
        ("db", ["old", "history"]),  # from the parent of the script directory: db/..
        ("db/history", ["old", ""]),
    ],
)
def test_files_are_named_from_the_current_directory_if_they_are_below_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, current: str, shown: list[str]
) -> None:
    monkeypatch.chdir(shop.directory / current)
    paths = [
        path_for_people(revision, shop.script) for revision in select(shop.script, [FIRST, LEFT])
    ]
    assert paths == [
        str(Path(directory, f"{id_}_revision.py"))
        for directory, id_ in zip(shown, (FIRST, LEFT), strict=True)
    ]


def test_a_file_in_another_encoding_is_read_as_python_reads_it(shop: Shop) -> None:
    path = shop.directory / f"db/history/{MERGE}_revision.py"
    text = f"# coding: latin-1\n# für\n{path.read_text('utf-8')}"
    path.write_text(text, encoding="latin-1")
    assert shop.findings(MERGE) == []


def test_only_the_modules_of_the_project_may_not_be_imported(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop.directory / "storefront").mkdir()
    (shop.directory / "storefront/__init__.py").touch()
    (shop.directory / "db/names.py").touch()
    monkeypatch.syspath_prepend(shop.directory)
    path = shop.directory / f"db/history/{MERGE}_revision.py"
    text = path.read_text("utf-8")
    for module in ("json", "sqlalchemy.dialects", "pytest", "db.names"):
        path.write_text(f"import {module}\n{text}", encoding="utf-8")
        assert shop.findings(MERGE) == []
    path.write_text(f"import storefront\n{text}", encoding="utf-8")
    assert [finding.rule for finding in shop.findings(MERGE)] == ["imports-application"]
