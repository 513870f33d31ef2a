"""Migrations under load whose database goes away, or whose ledger is locked."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import asyncpg

from tests.chaos.run import LOADED, Run, fault
from tests.dying_databases import MOMENTS
from tests.paths import ROOT
from tests.revisions import write_revision

ROWS = 100_000
LOAD = "INSERT INTO users (full_name) SELECT $1 || '-' || n FROM generate_series(1, $2) AS n"
COMMITTING = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'migrations' "
    "AND state = 'active' AND query LIKE 'COMMIT%')"
)
MOMENT_TIMEOUT = 60.0  # seconds


@fault(
    "a migration: PostgreSQL restarted within a concurrent index",
    f"`pg_ctl restart -m immediate`, {ROWS:,} rows; `alembic upgrade head` again",
)
async def restarted_within_index(run: Run) -> None:
    await restart_when(run, MOMENTS["an index is built concurrently"])


@fault(
    "a migration: PostgreSQL restarted within a backfill",
    f"`pg_ctl restart -m immediate`, {ROWS:,} rows; `alembic upgrade head` again",
)
async def restarted_within_backfill(run: Run) -> None:
    await restart_when(run, MOMENTS["a backfill has committed a batch"])


@fault(
    "a migration: PostgreSQL restarted within a COMMIT",
    f"`pg_ctl restart -m immediate`, {ROWS:,} rows; `alembic upgrade head` again",
)
async def restarted_within_commit(run: Run) -> None:
    await restart_when(run, COMMITTING)


@fault(
    "a migration: the ledger locked",
    "`LOCK TABLE migration_log IN ACCESS EXCLUSIVE MODE` for 10 s while it runs",
)
async def ledger_locked(run: Run) -> None:
    clone = await prepare(run)
    async with run.administrator() as administrator, administrator.transaction():
        await administrator.execute("LOCK TABLE migration_log IN ACCESS EXCLUSIVE MODE")
        migration = await start_migration(run, clone)
        await run.last(10)
    run.returned()
    await must_succeed(run, migration)


async def restart_when(run: Run, moment: str) -> None:
    """Restart PostgreSQL as soon as a query is true, and run the migration again."""
    clone = await prepare(run)
    async with run.administrator() as administrator:
        migration = await start_migration(run, clone)
        async with asyncio.timeout(MOMENT_TIMEOUT):
            while not await administrator.fetchval(moment):
                if migration.returncode is not None:
                    run.complaints.append("the migration ended before the moment came")
                    return
    run.began()
    await asyncio.to_thread(run.postgresql.stop, "immediate")
    await asyncio.to_thread(run.postgresql.start)
    run.returned()
    output, _ = await migration.communicate()
    if b"Traceback" in output:
        run.complaints.append("the migration ended in a stack trace")
    await must_succeed(run, await start_migration(run, clone))


async def prepare(run: Run) -> Path:
    """Load rows, and make a clone with revisions after the head; return the clone."""
    connection = await asyncpg.connect(run.world.url)
    await connection.execute(LOAD, LOADED, ROWS)
    await connection.close()
    clone = run.service.log.with_suffix("")
    for name in ("service", "migrations", "safely"):
        shutil.copytree(ROOT / name, clone / name)
    shutil.copy(ROOT / "alembic.ini", clone)
    column = 'safely.add_column("users", sa.Column("nickname", sa.Text()))'
    write_revision(clone, 1, column, 'safely.drop_column("users", "nickname")')
    index = 'safely.create_index("idx_users_nickname", "users", ["nickname", "id"])'
    write_revision(clone, 2, index, 'safely.drop_index("idx_users_nickname", "users")')
    filling = """safely.backfill("users", "nickname = full_name", where="nickname IS NULL")"""
    write_revision(clone, 3, filling, 'safely.nothing_to_undo("a test")')
    return clone


async def start_migration(
    run: Run, clone: Path, *command: str, url: str = ""
) -> asyncio.subprocess.Process:
    """Start `alembic upgrade head`, or another module with arguments, in a clone."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *(command or ("alembic", "upgrade", "head")),
        cwd=clone, env={**os.environ, "DATABASE_URL": url or run.world.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def must_succeed(run: Run, migration: asyncio.subprocess.Process) -> None:
    """Complain where a migration fails."""
    output, _ = await migration.communicate()
    if migration.returncode != 0:
        run.complaints.append(f"the migration failed: {output.decode()[-1_000:]}")
