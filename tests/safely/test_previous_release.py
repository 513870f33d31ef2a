"""A database that the release before this engine was a package of its own has migrated."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD
from tests.commands import run_alembic, run_migrations
from tests.databases import query, revision_of, write
from tests.paths import ROOT

PREVIOUS_RELEASE = "ab65880"  # the last commit with the engine in migrations/


@pytest.fixture
def previous_tree(tmp_path: Path) -> Path:
    """Return a directory with the files of the previous release, from git."""
    archive = ["git", "archive", PREVIOUS_RELEASE, "service", "migrations", "alembic.ini"]
    process = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if process.returncode:
        pytest.skip("this clone has no history")
    with tarfile.open(fileobj=BytesIO(process.stdout)) as tree:
        tree.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.mark.parametrize("reached", ["0004", HEAD])
async def test_it_is_migrated_on_by_this_one(
    empty_url: str, empty: AsyncEngine, previous_tree: Path, reached: str, *, full: bool
) -> None:
    if not full and (empty.dialect.name, reached) != ("postgresql", "0004"):
        pytest.skip("needs --full")
    run_alembic(empty_url, "upgrade", reached, cwd=previous_tree)
    name = "name" if reached == "0004" else "full_name"
    await write(empty, f"INSERT INTO users ({name}, email) VALUES ('Ada', 'ada@example.org')")

    run_alembic(empty_url, "upgrade", "head")
    assert await revision_of(empty) == HEAD
    assert run_migrations(empty_url, "drift").stdout.startswith("no drift")
    assert run_migrations(empty_url, "drift", "--against-replay").returncode == 0
    run_alembic(empty_url, "check")
    run_alembic(empty_url, "downgrade", "0001")
    run_alembic(empty_url, "upgrade", "head")
    assert await query(empty, "SELECT full_name, email FROM users") == [("Ada", "ada@example.org")]


@pytest.mark.only("postgresql")
async def test_its_versions_go_on_being_served(
    empty_url: str, empty: AsyncEngine, previous_tree: Path
) -> None:
    run_alembic(empty_url, "upgrade", "0004", cwd=previous_tree)
    run_alembic(empty_url, "upgrade", "head")
    await write(empty, "INSERT INTO at_0004.users (name, email) VALUES ('Ada', 'a@example.org')")
    assert await query(empty, f"SELECT full_name FROM at_{HEAD}.users") == [("Ada",)]


async def test_a_step_that_it_left_half_done_is_finished(
    empty_url: str, empty: AsyncEngine, previous_tree: Path
) -> None:
    """Killed between two transactions, it leaves a row in the state `started`."""
    run_alembic(empty_url, "upgrade", "0006", cwd=previous_tree)
    await write(
        empty,
        "INSERT INTO migration_log (revision, direction, state, message, started, build, checksum) "
        "VALUES ('0007', 'upgrade', 'started', 'index full_name', CURRENT_TIMESTAMP, '0009', 'x')",
    )
    run_alembic(empty_url, "upgrade", "head")
    assert await query(empty, "SELECT count(*) FROM migration_log WHERE state <> 'done'") == [(0,)]
