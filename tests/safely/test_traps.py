"""Mistakes that were made before, and must not come back."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD
from tests.commands import run_alembic
from tests.databases import query, revision_of, write
from tests.paths import ROOT
from tests.revisions import Revision


async def test_an_upgrade_that_reports_success_has_made_its_tables(
    empty_url: str, empty: AsyncEngine
) -> None:
    run_alembic(empty_url, "upgrade", "0001")
    assert await query(empty, "SELECT count(*) FROM users") == [(0,)]


def query_before_configure(clone: Path) -> None:
    """Let env.py run a statement before it configures Alembic's context."""
    env = clone / "migrations/env.py"
    source = env.read_text(encoding="utf-8")
    configure = "    context.configure(connection=connection"
    assert configure in source
    early = f"    connection.exec_driver_sql('SELECT 1')\n{configure}"
    env.write_text(source.replace(configure, early), encoding="utf-8")


async def test_a_statement_before_configure_is_an_error_and_not_a_silent_rollback(
    empty_url: str, clone: Path
) -> None:
    query_before_configure(clone)
    for target in ("0001", "head"):
        process = run_alembic(empty_url, "upgrade", target, cwd=clone, check=False)
        assert process.returncode != 0
        assert "a statement ran before context.configure()" in process.stdout


async def test_success_is_only_reported_when_a_fresh_connection_sees_it(
    empty_url: str, clone: Path
) -> None:
    """A statement runs before context.configure(), and the guard against it is removed."""
    query_before_configure(clone)
    steps = clone / "safely/run/steps.py"
    source = steps.read_text(encoding="utf-8")
    guard = "if alembic.was_in_transaction(migration):"
    assert guard in source
    steps.write_text(source.replace(guard, "if False:"), encoding="utf-8")
    process = run_alembic(empty_url, "upgrade", "0001", cwd=clone, check=False)
    assert process.returncode != 0
    assert "the database is at base instead of 0001: nothing was kept" in process.stdout


async def test_a_revision_that_fails_after_its_first_step_can_be_run_again(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """On PostgreSQL the index is built outside the transaction, so it is there already."""
    revision(
        'safely.rename_column("users", "age", "years")\n'
        'safely.create_index("idx_users_years", "users", ["years"])\n'
        'safely.create_check_constraint("ck_users_adult", "users", "years >= 18")\n'
        'safely.add_column("users", sa.Column("phone", sa.Text()))'
    )
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert await revision_of(engine) == HEAD

    # on SQLite everything was rolled back, the new name too
    years = "age" if engine.dialect.name == "sqlite" else "years"
    await write(engine, f"UPDATE users SET {years} = 20")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT phone, years FROM users") == [(None, 20)]


async def test_what_can_be_one_transaction_is_applied_whole_or_not_at_all(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    """SQLite's driver by itself would commit before each ALTER."""
    revision(
        'safely.add_column("users", sa.Column("phone", sa.Text()))\n'
        'safely.create_table("pets", sa.Column("name", sa.Text()))\n'
        'safely.rename_column("users", "no_such_column", "x")'
    )
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert await revision_of(engine) == HEAD
    with pytest.raises(Exception, match="phone"):
        await query(engine, "SELECT phone FROM users")
    with pytest.raises(Exception, match="pets"):
        await query(engine, "SELECT * FROM pets")


async def test_alembic_in_a_running_event_loop_says_how_to_call_it(
    empty_url: str, empty: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)
    config = Config(ROOT / "alembic.ini")
    with pytest.raises(CommandError, match=r"await asyncio\.to_thread"):
        command.upgrade(config, "head")
    await asyncio.to_thread(command.upgrade, config, "head")
    assert await query(empty, "SELECT count(*) FROM users") == [(0,)]
