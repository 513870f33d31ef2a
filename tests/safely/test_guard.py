"""Grave findings stop `alembic upgrade` and `downgrade` before anything is changed."""

import json
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.lint.rules import RULES, Severity
from tests.chain import HEAD, NEXT, later
from tests.commands import run_alembic, run_migrations
from tests.databases import query, revision_of, table_locked, write
from tests.paths import ROOT
from tests.revisions import FAILS_HALFWAY, write_revision

ADD_USER = "INSERT INTO users (email, full_name) VALUES ('ada@example.org', 'Ada')"
LOSS = 'op.execute("DELETE FROM users")'
INDEX = 'op.create_index("idx_users_age", "users", ["age"])'
KEPT = 'safely.nothing_to_undo("a test")'


def plain(clone: Path, steps: int, up: str, down: str = KEPT) -> Path:
    """Write a revision that imports Alembic's own operations; return its file."""
    imports = "from alembic import op"
    write_revision(clone, steps, f"{imports}\n{up}", f"{imports}\n{down}")
    return clone / f"migrations/versions/{later(steps)}_scratch.py"


async def add_user(engine: AsyncEngine) -> None:
    await write(engine, ADD_USER)


async def test_a_loss_stops_the_upgrade_before_anything_is_changed(
    url: str, clone: Path, engine: AsyncEngine, tmp_path: Path
) -> None:
    await add_user(engine)
    file = plain(clone, 1, LOSS)
    before = await query(engine, "SELECT * FROM migration_log ORDER BY id")
    process = run_alembic(
        url, "-x", f"backup={tmp_path}/kept", "upgrade", "head", check=False, cwd=clone
    )
    assert process.returncode != 0
    line = next(n for n, text in enumerate(file.read_text("utf-8").splitlines(), 1) if LOSS in text)
    assert (
        "1 grave finding(s), so nothing was changed:\n"
        f"  migrations/versions/{file.name}:{line}: grave: delete-at-once: deleting rows of users "
        "loses them, and blocks other writes to them\n"
    ) in process.stdout
    assert 'alembic -x unsafe="REASON" upgrade head' in process.stdout
    assert await revision_of(engine) == HEAD
    assert await query(engine, "SELECT * FROM migration_log ORDER BY id") == before
    assert not (tmp_path / "kept").exists()
    # what lint prints is the same line
    found = run_migrations(url, "lint", NEXT, cwd=clone).stdout.splitlines()
    assert [text for text in found if "grave" in text][0] in process.stdout  # noqa: RUF015

    process = run_alembic(url, "-x", "unsafe=…", "upgrade", "head", check=False, cwd=clone)
    assert 'say why: -x unsafe="REASON"' in process.stdout
    run_alembic(url, "-x", "unsafe=they were tests", "upgrade", "head", cwd=clone)
    rows = json_lines(run_migrations(url, "log", "--json", cwd=clone).stdout)
    (row,) = [row for row in rows if row["direction"] == "unsafe"]
    assert (row["revision"], row["message"]) == (NEXT, "they were tests (delete-at-once)")
    assert "they were tests" in run_migrations(url, "log", cwd=clone).stdout
    assert await query(engine, "SELECT count(*) FROM users") == [(0,)]
    assert run_migrations(url, "drift", cwd=clone).returncode == 0


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.only("sqlite")
async def test_what_is_argued_away_in_the_file_or_in_pyproject_is_run(
    url: str, clone: Path, engine: AsyncEngine
) -> None:
    await add_user(engine)
    plain(clone, 1, f"{LOSS}  # lint: delete-at-once: all of them are tests")
    run_alembic(url, "upgrade", "head", cwd=clone)
    await add_user(engine)
    plain(clone, 2, LOSS)
    setting = '[[tool.safely.lint.rules]]\nrule = "delete-at-once"\nseverity = "error"\n'
    (clone / "pyproject.toml").write_text(setting, encoding="utf-8")
    process = run_alembic(url, "upgrade", "head", check=False, cwd=clone)
    assert "entry 1 (delete-at-once) has no reason" in process.stdout
    (clone / "pyproject.toml").write_text(f'{setting}reason = "tests"\n', encoding="utf-8")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await revision_of(engine) == later(2)


@pytest.mark.only("postgresql")
async def test_only_the_direction_that_is_taken_is_judged(
    url: str, clone: Path, engine: AsyncEngine
) -> None:
    up, down = "CREATE TABLE IF NOT EXISTS plants (id int)", "DELETE FROM plants"
    plain(clone, 1, f'op.execute("{up}")', f'op.execute("{down}")')
    run_alembic(url, "upgrade", "head", cwd=clone)
    await write(engine, "INSERT INTO plants VALUES (1)")
    process = run_alembic(url, "downgrade", "-1", check=False, cwd=clone)
    assert "grave: lossy-downgrade: the downgrade loses rows of plants for good" in process.stdout
    assert 'alembic -x unsafe="REASON" downgrade -1' in process.stdout
    await add_user(engine)  # so the database is in use
    async with table_locked(url, "plants"):  # which is judged without a wait, as if it had rows
        process = run_alembic(url, "downgrade", "-1", check=False, cwd=clone)
    assert "grave: lossy-downgrade: " in process.stdout
    await write(engine, "DELETE FROM plants")
    run_alembic(url, "downgrade", "-1", cwd=clone)
    assert await revision_of(engine) == HEAD
    plain(clone, 2, LOSS)
    run_alembic(url, "stamp", "head", cwd=clone)  # a stamp runs nothing
    run_alembic(url, "downgrade", "-1", cwd=clone)


@pytest.mark.only("postgresql")
async def test_what_a_run_left_half_done_is_finished_without_asking_again(
    url: str, clone: Path, engine: AsyncEngine
) -> None:
    await write(
        engine, ADD_USER.replace("full_name)", "full_name, age)").replace("da')", "da', 3)")
    )
    plain(clone, 1, f"{FAILS_HALFWAY}\n{LOSS}")
    process = run_alembic(url, "-x", "unsafe=x", "upgrade", "head", check=False, cwd=clone)
    assert f"upgrade {NEXT} is begun" in process.stdout
    await write(engine, "UPDATE users SET age = 30")
    plain(clone, 2, LOSS)
    process = run_alembic(url, "upgrade", "head", check=False, cwd=clone)
    assert f"versions/{later(2)}_scratch.py:" in process.stdout
    assert f"versions/{NEXT}_scratch.py:" not in process.stdout
    assert f"`alembic upgrade {NEXT}` goes on with it, and ends there" in process.stdout
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)  # nobody is left in the table
    rows = json_lines(run_migrations(url, "log", "--json", cwd=clone).stdout)
    assert [row["message"] for row in rows if row["direction"] == "unsafe"] == [
        "x (delete-at-once)"
    ]


@pytest.mark.only("postgresql")
async def test_an_empty_database_is_no_danger_whatever_its_history_does(
    empty_url: str, clone: Path
) -> None:
    plain(clone, 1, f"{INDEX}\n{LOSS}")
    run_alembic(empty_url, "upgrade", NEXT, cwd=clone)


@pytest.mark.only("postgresql")
async def test_the_size_of_the_table_decides_and_a_new_name_does_not_hide_it(
    url: str, clone: Path, engine: AsyncEngine
) -> None:
    await add_user(engine)
    await write(engine, "CREATE TABLE beds AS SELECT n FROM generate_series(1, 200000) AS n")
    await write(engine, "CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS n WITH NO DATA")
    plain(clone, 1, INDEX)  # on one row
    plain(clone, 2, 'op.rename_table("beds", "plots")', 'op.rename_table("plots", "beds")')
    run_alembic(url, "-x", "drift=accept", "upgrade", NEXT, cwd=clone)
    plain(clone, 3, 'op.create_index("i", "plots", ["n"])', 'op.drop_index("i")')
    process = run_alembic(url, "upgrade", "head", check=False, cwd=clone)
    assert "1 grave finding(s), so nothing was changed" in process.stdout
    assert "grave: plain-index: creating the index i blocks writes to plots" in process.stdout
    assert await revision_of(engine) == NEXT


async def test_a_script_has_the_findings_as_comments(clone: Path) -> None:
    plain(clone, 1, LOSS)
    url = "postgresql://127.0.0.1:1/none"
    script = run_alembic(url, "upgrade", f"{HEAD}:head", "--sql", cwd=clone).stdout
    comment, statement = "-- migrations/versions/", "DELETE FROM users;"
    assert script.index(f"{comment}{NEXT}_scratch.py:") < script.index(statement)
    assert ": grave: delete-at-once: deleting rows of users loses them" in script
    assert "they were tests" not in script
    reasoned = run_alembic(
        url, "-x", "unsafe=they were tests", "upgrade", f"{HEAD}:head", "--sql", cwd=clone
    ).stdout
    assert "'they were tests (delete-at-once)'" in reasoned
    assert ": grave: " not in run_alembic(url, "upgrade", "head", "--sql").stdout


def test_the_documentation_lists_the_grave_rules() -> None:
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    (listed,) = (line for line in text.splitlines() if line.startswith("Grave are "))
    assert set(listed.split("`")[1::2]) == {
        name for name, rule in RULES.items() if rule.severity is Severity.GRAVE
    }
    (losing,) = (line for line in text.splitlines() if line.startswith("On SQLite only losses"))
    assert set(losing.split("`")[1::2]) == {name for name, rule in RULES.items() if rule.loses}
