"""Files that are older or other than the database, and files that make no history."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.report.files import revision_files
from tests.app import serving
from tests.chain import HEAD, NEXT, NUMBERS, PREVIOUS, VERSIONS, later
from tests.commands import run_alembic, run_migrations, start_alembic
from tests.databases import query, revision_of, write
from tests.paths import ROOT
from tests.revisions import FAILS_HALFWAY, Revision

PHONE = 'safely.add_column("users", sa.Column("phone", sa.Text()))'
NO_PHONE = 'safely.drop_column("users", "phone")'
STATES = "SELECT revision, direction, state FROM migration_log ORDER BY id"


def refused(url: str, *arguments: str, cwd: Path = ROOT) -> str:
    """Run alembic, which must refuse; return the line that says why."""
    process = run_alembic(url, *arguments, cwd=cwd, check=False)
    assert process.returncode == 255, process.stdout + process.stderr
    return only_line(process.stdout + process.stderr)


def only_line(printed: str) -> str:
    """Return the line of a refusal, and fail if there is another one but those of the log."""
    [line] = [line for line in printed.splitlines() if not line.startswith("INFO ")]
    return line.strip()


AHEAD = f"the database is at {NEXT}, which these files don't have: it is ahead of them"


async def test_a_build_that_is_rolled_back_starts_where_its_version_is_published(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision, tmp_path: Path
) -> None:
    revision(PHONE, NO_PHONE)
    run_alembic(url, "upgrade", "head", cwd=clone)
    ledger = await query(engine, STATES)
    on_postgresql = engine.dialect.name == "postgresql"

    textfile = str(tmp_path / "migrations.prom")
    for target in ("head", "heads", HEAD, PREVIOUS):
        if on_postgresql:
            log = run_alembic(url, "upgrade", target, METRICS_TEXTFILE=textfile).stderr
            assert f"{AHEAD} (they end at {HEAD}). Nothing is to be done" in log
            assert f"the version of this build, {HEAD}, is published" in log
        else:
            assert f"{AHEAD} (they end at {HEAD}). On SQLite" in refused(url, "upgrade", target)
    assert "so +1 can't be counted from there" in refused(url, "upgrade", "+1")
    assert NEXT in refused(url, "upgrade", NEXT)
    for command in (
        ("downgrade", "-1"), ("downgrade", PREVIOUS), ("stamp", "head"), ("check",),
        ("current", "--check-heads"), ("revision", "-m", "x"),
        ("revision", "--autogenerate", "-m", "x"),
    ):  # fmt: skip
        assert AHEAD in refused(url, *command)
    assert f"{NEXT} (not among these files)" in run_alembic(url, "current").stdout
    assert HEAD in run_alembic(url, "history").stdout
    assert HEAD in run_alembic(url, "history", "-i").stdout

    assert NEXT in run_migrations(url, "log").stdout
    process = run_migrations(url, "drift")
    assert (process.returncode, process.stderr) == (0, "")
    assert "no drift since" in process.stdout
    process = run_migrations(url, "lint", "head")
    assert (process.returncode, process.stderr) == (0, "")
    for arguments in (("purge", "--before", "head", "--yes"), ("drift", "--against-replay")):
        process = run_migrations(url, *arguments)
        assert process.returncode == 2
        assert f"the database is at {NEXT}, which these files don't have" in only_line(
            process.stdout + process.stderr
        )
    async with serving(database_url=url) as client:
        ready = await client.get("/health/ready")
        if engine.dialect.name == "postgresql":
            assert ready.json()["database"] == NEXT
        else:  # nothing is published there
            assert ready.status_code == 503
            assert "SQLite has no published versions" in ready.json()["detail"]
        assert (await client.get("/users")).status_code == 200
        page = await client.get("/evolution")
        assert page.status_code == 200
        assert f"It is ahead of this build, users@{HEAD}" in page.text
    assert await query(engine, STATES) == ledger
    assert await revision_of(engine) == NEXT

    await write(engine, "CREATE INDEX surprise ON users (age)")
    process = run_migrations(url, "drift")
    assert process.returncode == 1
    assert "index surprise" in process.stdout


@pytest.mark.only("postgresql")
async def test_a_build_whose_version_was_purged_is_not_started(
    url: str, clone: Path, revision: Revision
) -> None:
    revision(PHONE, NO_PHONE)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert run_migrations(url, "purge", "--before", NEXT, "--yes", cwd=clone).returncode == 0
    line = refused(url, "upgrade", "head")
    assert f"{AHEAD} (they end at {HEAD}). The version of this build, {HEAD}, is not" in line
    assert f"(published: {NEXT})" in line


@pytest.mark.only("postgresql")
async def test_a_build_that_waits_while_a_newer_one_migrates_starts_afterwards(
    url: str, engine: AsyncEngine, driver: Any
) -> None:
    await driver.execute("SELECT pg_advisory_lock(1970496882)")
    process = await start_alembic(url, "upgrade", "head")
    while b"another migrator is at work" not in await process.stdout.readline():
        pass
    await write(engine, f"UPDATE alembic_version SET version_num = '{NEXT}'")
    await driver.execute("SELECT pg_advisory_unlock(1970496882)")
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert f"{AHEAD} (they end at {HEAD}). Nothing is to be done" in output.decode()


@pytest.mark.only("postgresql")
async def test_the_half_of_a_step_waits_for_a_build_that_has_its_file(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    revision(
        FAILS_HALFWAY,
        'safely.drop_constraint("ck_users_adult", "users", "check")\n'
        f'safely.drop_index("idx_users_phone", "users")\n{NO_PHONE}',
    )
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    ways_out = (
        f"upgrade {NEXT} is begun: what it committed is kept. When that is mended, run `alembic "
        "upgrade head` again: it goes on from there. Or undo the half of it: `alembic upgrade "
        f"{HEAD}`"
    )
    assert ways_out in process.stdout + process.stderr

    half = f"upgrade {NEXT} was begun and not finished, and these files don't have {NEXT}"
    log = run_alembic(url, "upgrade", "head").stderr
    assert f"{half}: a build that has it goes on. Nothing is to be done" in log
    for command in (("downgrade", "-1"), ("stamp", "head")):
        assert f"{half}: finish it, or undo it" in refused(url, *command)
    assert (await query(engine, STATES))[-1] == (NEXT, "upgrade", "started")

    run_alembic(url, "upgrade", HEAD, cwd=clone)
    assert (await query(engine, STATES))[-1] == (NEXT, "upgrade", "undone")
    assert run_migrations(url, "drift").returncode == 0


@pytest.mark.only("postgresql")
async def test_the_half_of_a_downgrade_is_left_alone_too_and_can_be_turned_round(
    url: str, engine: AsyncEngine, clone: Path, revision: Revision
) -> None:
    await write(engine, "INSERT INTO users (full_name, age) VALUES ('A', 5)")
    revision(
        'safely.drop_index("idx_users_phone", "users")\n'
        'safely.nothing_to_undo("the way down comes first")',
        'safely.create_index("idx_users_phone", "users", ["age"])\n'
        'safely.create_check_constraint("ck_users_adult", "users", "age >= 18")',
    )
    await write(engine, "CREATE INDEX idx_users_phone ON users (age)")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)
    process = run_alembic(url, "downgrade", "-1", cwd=clone, check=False)
    assert f"Or undo the half of it: `alembic upgrade {NEXT}`" in process.stdout
    log = run_alembic(url, "upgrade", "head").stderr
    assert f"{AHEAD} (they end at {HEAD}), and downgrade {NEXT} is begun there. Nothing" in log
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    assert (await query(engine, STATES))[-1] == (NEXT, "downgrade", "undone")


def write_file(clone: Path, number: str, before: str, column: str) -> Path:
    """Write the file of a revision that adds a column, by hand; return its path."""
    path = clone / f"migrations/versions/{number}_{column}.py"
    up, down = PHONE.replace("phone", column), NO_PHONE.replace("phone", column)
    path.write_text(
        f'"""Add {column}."""\n\nimport sqlalchemy as sa\nimport safely\n\n'
        f'revision = "{number}"\ndown_revision = "{before}"\n\n\n'
        f"def upgrade() -> None:\n    {up}\n\n\ndef downgrade() -> None:\n    {down}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("own_file", ["renumbered", "gone"])
async def test_the_file_of_a_colleague_is_never_taken_for_the_one_that_was_applied(
    url: str, engine: AsyncEngine, clone: Path, own_file: str
) -> None:
    own = write_file(clone, NEXT, HEAD, "phone")
    source = own.read_text(encoding="utf-8")
    run_alembic(url, "upgrade", "head", cwd=clone)
    write_file(clone, NEXT, HEAD, "fax")
    line = refused(url, "upgrade", "head", cwd=clone)
    assert f"two revision files have the number {NEXT}: {NEXT}_fax.py and {NEXT}_phone.py" in line
    assert f"alembic downgrade {HEAD}" in line

    own.unlink()
    renumbered = later(2)
    if own_file == "renumbered":
        write_file(clone, renumbered, NEXT, "phone")
    for command in (
        ("upgrade", "head"), ("-x", "drift=accept", "upgrade", "head"),
        ("-x", "drift=accept", "downgrade", "-1"),
    ):  # fmt: skip
        line = refused(url, *command, cwd=clone)
        assert f"{NEXT}_fax.py is not the {NEXT} that was applied here (Add phone" in line
        assert (f"and is now {renumbered}_phone.py" in line) is (own_file == "renumbered")
        assert f"alembic downgrade {HEAD}" in line
    assert (await query(engine, STATES))[-1] == (NEXT, "upgrade", "done")

    # the way out that the line tells
    taken = {path: path.read_text("utf-8") for path in own.parent.glob("*_fax.py")}
    taken |= {path: path.read_text("utf-8") for path in own.parent.glob(f"{renumbered}_*.py")}
    for path in taken:
        path.unlink()
    own.write_text(source, encoding="utf-8")
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    own.unlink()
    for path, text in taken.items():
        path.write_text(text, encoding="utf-8")
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await query(engine, "SELECT fax FROM users") == []


async def test_a_file_put_before_an_applied_one_is_not_skipped(
    url: str, engine: AsyncEngine, clone: Path
) -> None:
    """Both have followed the head; the one that was applied is made to follow the other."""
    last = later(2)
    own = write_file(clone, last, HEAD, "phone")
    run_alembic(url, "upgrade", "head", cwd=clone)
    write_file(clone, NEXT, HEAD, "fax")
    assert f"the history has 2 heads, {NEXT}, {last}" in refused(url, "upgrade", "head", cwd=clone)
    source = own.read_text("utf-8")
    own.write_text(
        source.replace(f'down_revision = "{HEAD}"', f'down_revision = "{NEXT}"'), "utf-8"
    )
    for command in (("upgrade", "head"), ("-x", "drift=accept", "upgrade", "head")):
        line = refused(url, *command, cwd=clone)
        assert f"{NEXT}_fax.py counts as applied ({last} builds on it now)" in line
        assert f"alembic downgrade {HEAD}" in line
        assert f"alembic stamp {last}" in line
    run_alembic(url, "stamp", last, cwd=clone)
    await write(engine, "ALTER TABLE users ADD fax text")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", cwd=clone)


UNLOADABLE = {  # by what is wrong: the text of a revision file, and words of the line about it
    "syntax": ("def upgrade(:\n", "SyntaxError"),
    "module": ("import no_such_module\n", "No module named 'no_such_module'"),
    "null byte": ("revision = '\0'\n", "null byte"),
    "raises": (f"revision = {NEXT!r}\ndown_revision = {HEAD!r}\n1 / 0\n", "ZeroDivisionError"),
    "environment": ("import os\nos.environ['NO_SUCH_NAME']\n", "KeyError"),
    "number": (f"revision = 10\ndown_revision = {HEAD!r}\n", "its `revision` must be a text"),
    "none": (f"revision = None\ndown_revision = {HEAD!r}\n", "its `revision` must be a text"),
    "list": (f"revision = [{NEXT!r}]\ndown_revision = {HEAD!r}\n", "its `revision` must be a text"),
    "no down_revision": (f"revision = {NEXT!r}\n", "down_revision"),
    "a number before": (f"revision = {NEXT!r}\ndown_revision = 9\n", "its `down_revision` must"),
    "unknown": (f"revision = {NEXT!r}\ndown_revision = '0099'\n", "names 0099, of which there is"),
    "unknown dependency": (
        f"revision = {NEXT!r}\ndown_revision = {HEAD!r}\ndepends_on = '0099'\n", "0099",
    ),
    "itself": (f"revision = {NEXT!r}\ndown_revision = {NEXT!r}\n", NEXT),
    "another base": (f"revision = {NEXT!r}\ndown_revision = None\n", "has 2 heads"),
    "two heads": (f"revision = {NEXT!r}\ndown_revision = {PREVIOUS!r}\n", "has 2 heads"),
    "no number": (f"revision = 'abc'\ndown_revision = {HEAD!r}\n", "the revision abc"),
    "no upgrade": (f"revision = {NEXT!r}\ndown_revision = {HEAD!r}\n", "has no function upgrade()"),
    "a character": (f"revision = 'a-b'\ndown_revision = {HEAD!r}\n", "a-b"),
}  # fmt: skip


@pytest.mark.only("sqlite")
async def test_files_that_make_no_history_are_refused_in_a_line_that_names_them(
    url: str, clone: Path
) -> None:
    for what, (source, words) in UNLOADABLE.items():
        path = clone / f"migrations/versions/{NEXT}_bad.py"
        path.write_text(source, encoding="utf-8")
        line = refused(url, "upgrade", "head", cwd=clone)
        assert words in line, what
        if "heads" not in words:
            assert path.name in line or NEXT in line, what
        process = run_migrations(url, "drift", cwd=clone)
        assert process.returncode == (0 if what == "no upgrade" else 2), what
        assert "Traceback" not in process.stderr
        assert revision_files(path.parent)[0].revision == NUMBERS[0], what
        path.unlink()

    files = clone / "migrations/versions"
    first, second = files / VERSIONS[0].name, files / VERSIONS[1].name
    text = first.read_text(encoding="utf-8")
    first.write_text(re.sub(r"down_revision = None", 'down_revision = "0002"', text), "utf-8")
    assert "ycle" in refused(url, "upgrade", "head", cwd=clone)
    first.write_text(text, encoding="utf-8")
    second.unlink()
    assert "0003_" in refused(url, "upgrade", "head", cwd=clone)


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("revision", "--rev-id", "abc"), f"the next is {NEXT}"),
        (("revision", "--rev-id", HEAD), f"the next is {NEXT}"),
        (("revision", "--splice", "--head", PREVIOUS), "--splice"),
        (("revision", "--head", PREVIOUS), "--head"),
        (("revision", "--branch-label", "left"), "--branch-label"),
        (("revision", "--depends-on", PREVIOUS), "--depends-on"),
        (("merge", "heads"), "the history has one head"),
        (("merge", HEAD), "the history has one head"),
    ],
)
def test_options_that_would_make_branches_are_refused_and_write_no_file(
    url: str, clone: Path, command: Sequence[str], words: str
) -> None:
    assert words in refused(url, *command, "-m", "x", cwd=clone)
    names = {path.name for path in (clone / "migrations/versions").glob("*.py")}
    assert names == {path.name for path in VERSIONS}
