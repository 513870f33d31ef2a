"""A migration whose database fails says so in one line, and the next run completes it."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from safely.database import Outage, connected
from safely.scratch.embedded import Server
from tests import dying_databases
from tests.commands import run_alembic, run_migrations, start_alembic
from tests.databases import Databases, name_of, path_of, table_locked
from tests.dying_databases import Fault, NoSmallDisk, dying_server, moment, small_disk, wire
from tests.migrated import leftovers, state_of
from tests.paths import ROOT

FAULTS = [
    *(("loss", loss) for loss in ("request", "answer", "backend", "outage")),
    # a full disk, a server that became read-only, one that stops, a cancelled statement, an I/O
    # error, an error of the server's own
    *(("state", state) for state in ("53100", "25006", "57P03", "57014", "58030", "XX000")),
]
ROWS = """\
INSERT INTO users (name)
SELECT CASE WHEN n % 10 > 0 THEN 'Name ' || n END FROM generate_series(1, 300) AS n"""

CANCEL_WAITS = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def last_words(process: subprocess.CompletedProcess[str]) -> str:
    """Return the line that a failed command ends with; fail if there is more or less to read."""
    printed = process.stdout + process.stderr
    assert "Traceback" not in printed, printed
    assert process.returncode != 0, printed
    lines = [line for line in printed.splitlines() if line and not line.startswith("INFO ")]
    assert len(lines) == 1, printed
    assert lines[0].startswith("FAILED: "), printed
    return lines[0]


@pytest.fixture
async def young_url(databases: Databases) -> AsyncIterator[str]:
    """Yield the address of a database at 0001 with 300 users: a template for others."""
    url = await databases.empty()
    run_alembic(url, "upgrade", "0001")
    connection = await asyncpg.connect(url)
    await connection.execute(ROWS)
    await connection.close()
    yield url
    await databases.drop(url)


@pytest.mark.only("postgresql")
async def test_whatever_request_fails_is_told_in_a_line_and_the_next_run_completes(
    databases: Databases, young_url: str, *, full: bool
) -> None:
    """Each request of an upgrade fails in one of ten ways, or a sample of the requests does."""
    seed = time.time_ns() % 10**6
    chance = random.Random(seed)  # noqa: S311  # not a secret
    server, template = databases.server, name_of(young_url)

    async def upgrade(fault: Fault) -> tuple[str, dying_databases.Wire, str]:
        url = await databases.make(template)
        async with wire(server, name_of(url), fault) as proxy:
            process = await asyncio.to_thread(
                run_alembic, proxy.url, "upgrade", "head", check=False
            )
        if fault.at == 0:
            assert process.returncode == 0, process.stdout + process.stderr
        # a fault of the watcher's, or of the last goodbye, is none of the migration
        elif process.returncode != 0:
            words = last_words(process)
            assert "`alembic upgrade head`" in words, words
        return url, proxy, process.stdout

    url, proxy, _ = await upgrade(Fault(0))
    undisturbed = await state_of("postgresql", url)
    numbers = range(1, proxy.requests + 1)
    chosen = numbers if full else sorted(chance.sample(numbers, 3))
    kinds = itertools.cycle(chance.sample(FAULTS, len(FAULTS)))
    for number, (kind, value) in zip(chosen, kinds, strict=False):
        fault = Fault(number, **{kind: value})  # type: ignore[arg-type]  # a loss or a state
        url, proxy, _ = await upgrade(fault)
        at = f"seed {seed}, {fault}: {proxy.failed_request}"
        again = run_alembic(url, "upgrade", "head", check=False)
        assert again.returncode == 0, at + again.stdout + again.stderr
        assert await state_of("postgresql", url) == undisturbed, at
        assert await leftovers("postgresql", url) == [], at
        await databases.drop(url)


@pytest.fixture
def place(directory: Path) -> Iterator[Path]:
    """Yield an empty directory for a server; pytest closes its own to other accounts."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        yield Path(name)


@pytest.fixture
def own_server(place: Path) -> Iterator[Server]:
    """Yield a server that the test may kill."""
    with dying_server(place / "postgresql") as server:
        yield server


DEATHS = {  # the moment: the revision to begin at, what is told
    "an index is built concurrently": ("0006", "It was last seen at 0006, and whether the step"),
    "a backfill has committed a batch": ("0003", "It was last seen at 0003, and whether the step"),
    "a step commits": ("0001", "It was last seen at 0001, and whether the step to 0002 was comm"),
}


@pytest.mark.parametrize("name", DEATHS)
async def test_a_server_that_is_killed_midway_is_told_in_a_line_and_the_next_run_completes(
    own_server: Server, name: str, *, full: bool
) -> None:
    begin, words = DEATHS[name]
    if not full and name != "a step commits":
        pytest.skip("only with --full")
    url = own_server.url("postgres")
    run_alembic(url, "upgrade", "0001")
    connection = await asyncpg.connect(url)
    await connection.execute(ROWS.replace("300", "100000"))
    run_alembic(url, "upgrade", begin)
    if name == "a step commits":
        await dying_databases.hold_commits(connection)
    upgrade = await start_alembic(url, "upgrade", "head")
    await moment(url, name)
    dying_databases.kill(own_server)
    printed, _ = await upgrade.communicate()
    assert b"Traceback" not in printed
    *_, line = printed.decode().splitlines()
    assert "the connection was lost" in line
    assert words in line
    assert "Run `alembic upgrade head` when" in line
    dying_databases.restart(own_server)
    if name == "a step commits":  # it had, as a look at the revision tells
        assert run_alembic(url, "current").stdout.strip() == "0002"
    run_alembic(url, "upgrade", "head")
    run_alembic(url, "check")
    assert await leftovers("postgresql", url) == []


async def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_not_told_as_done(
    own_server: Server,
) -> None:
    url = own_server.url("postgres")
    superuser = await asyncpg.connect(url)
    await superuser.execute("ALTER ROLE postgres SET client_min_messages = 'error'")
    await dying_databases.hold_commits(superuser)
    upgrade = await start_alembic(url, "upgrade", "0001")
    await moment(url, "a step commits")
    await superuser.execute(CANCEL_WAITS)
    printed, _ = await upgrade.communicate()
    assert upgrade.returncode != 0
    assert b"Traceback" not in printed
    *_, line = printed.decode().splitlines()
    assert "stored a COMMIT on the primary alone" in line
    assert "Run `alembic upgrade 0001` when that is mended: it goes on from there" in line
    await superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
    await superuser.execute("SELECT pg_reload_conf()")
    await superuser.close()
    run_alembic(url, "upgrade", "0001")
    assert run_alembic(url, "current").stdout.strip().startswith("0001")
    assert await leftovers("postgresql", url) == []


async def test_a_statement_outside_of_transactions_needs_the_standby_too(
    own_server: Server,
) -> None:
    url = own_server.url("postgres")
    superuser = await asyncpg.connect(url)
    await superuser.execute("CREATE TABLE notes (id int)")
    await dying_databases.hold_commits(superuser)

    async def build() -> None:
        async with connected(url) as engine, engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("CREATE INDEX CONCURRENTLY notes_id ON notes (id)"))

    building = asyncio.create_task(build())
    while not building.done():
        await superuser.execute(CANCEL_WAITS)
        await asyncio.sleep(0.01)
    with pytest.raises(Outage, match="stored a COMMIT on the primary alone"):
        await building
    await superuser.close()


async def test_a_full_disk_of_the_server_is_told_in_a_line_and_the_next_run_completes(
    place: Path, *, full: bool
) -> None:
    if not full:
        pytest.skip("only with --full")
    try:
        with small_disk(place / "disk", 100) as disk, dying_server(disk / "data") as server:
            url = server.url("postgres")
            run_alembic(url, "upgrade", "0001")
            connection = await asyncpg.connect(url)
            await connection.execute(ROWS.replace("300", "10000"))
            await connection.close()
            filler = dying_databases.fill(disk)
            line = last_words(run_alembic(url, "upgrade", "head", check=False))
            assert "no room left on its disk" in line or "can't reach" in line
            filler.unlink()
            dying_databases.start_again(server)  # it stops where its log has no room
            run_alembic(url, "upgrade", "head")
            run_alembic(url, "check")
            assert await leftovers("postgresql", url) == []
    except NoSmallDisk as reason:
        pytest.skip(str(reason))


@pytest.mark.only("sqlite")
async def test_a_full_disk_under_sqlite_is_told_in_a_line_and_the_next_run_completes(
    databases: Databases, empty_url: str
) -> None:
    """No file may grow beyond a limit, as on a disk without room."""
    run_alembic(empty_url, "upgrade", "0001")
    blocks = (path_of(empty_url).stat().st_size + 2**16) // 512  # of sh
    limited = f"ulimit -f {blocks}; exec {sys.executable} -m alembic upgrade head"
    process = await asyncio.to_thread(
        subprocess.run,
        ["/bin/sh", "-c", limited],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": empty_url},
        capture_output=True,
        text=True,
        check=False,
    )
    line = last_words(process)
    assert f"{path_of(empty_url)}" in line
    assert "The database is at 000" in line
    run_alembic(empty_url, "upgrade", "head")
    run_alembic(empty_url, "check")
    assert await leftovers(databases.kind, empty_url) == []


@pytest.mark.only("postgresql")
async def test_ctrl_c_while_waiting_for_another_migrator_is_one_line(url: str) -> None:
    driver = await asyncpg.connect(url)
    await driver.execute("SELECT pg_advisory_lock(1970496882)")
    upgrade = await start_alembic(url, "downgrade", "-1")
    assert b"another migrator is at work" in await upgrade.stdout.readline()
    os.kill(upgrade.process.pid or 0, signal.SIGINT)
    printed, _ = await upgrade.communicate()
    await driver.close()
    assert printed.decode() == (
        "FAILED: interrupted. Nothing was changed. Run `alembic downgrade -1` again when you like\n"
    )


@pytest.mark.only("postgresql")
@pytest.mark.parametrize(
    "arguments",
    [
        ("current",),
        ("check",),
        ("stamp", "head"),
        ("downgrade", "-1"),
        ("revision", "--autogenerate", "-m", "never written"),
    ],
    ids=" ".join,
)
async def test_every_command_of_alembic_tells_an_outage_in_a_line(
    databases: Databases, url: str, arguments: tuple[str, ...]
) -> None:
    async with wire(databases.server, name_of(url), Fault(9, "outage")) as proxy:
        process = await asyncio.to_thread(run_alembic, proxy.url, *arguments, check=False)
    assert "can't reach postgresql+asyncpg://127.0.0.1:" in (line := last_words(process))
    assert "Nothing was changed. Run" in line


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("command", ["drift", "log", "purge --before 0006 --yes", "backup"])
async def test_every_command_of_safely_tells_an_outage_in_a_line(
    databases: Databases, url: str, tmp_path: Path, command: str
) -> None:
    arguments = [*command.split(), *([str(tmp_path)] if command == "backup" else [])]
    async with wire(databases.server, name_of(url), Fault(9, "outage")) as proxy:
        process = await asyncio.to_thread(run_migrations, proxy.url, *arguments)
    line = last_words(process)
    assert "Run the same command again when that is mended" in line


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("is_released", [True, False])
async def test_a_locked_ledger_is_outlasted_or_told_in_a_line(
    url: str, *, is_released: bool
) -> None:
    arguments = ("-x", f"patience={20 if is_released else 0.3}", "downgrade", "-1")
    async with table_locked(url, "migration_log"):
        downgrade = await start_alembic(url, *arguments)
        line = (await downgrade.stdout.readline()).decode()
        rest = b"" if is_released else (await downgrade.communicate())[0]
    if is_released:
        assert line.endswith("; trying again\n")
        rest, _ = await downgrade.communicate()
        assert downgrade.returncode == 0, rest
    else:
        *_, last = (line + rest.decode()).splitlines()
        assert "a lock" in last
        assert last.startswith("FAILED: ")
    assert b"Traceback" not in rest
    run_alembic(url, "upgrade", "head")
