"""The chain of revisions, and Alembic's stock commands, as an operator types them."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT, NUMBERS, VERSIONS, later
from tests.commands import run_alembic
from tests.databases import query, revision_of, run_script, write


async def test_every_revision_runs_up_and_down_with_rows_in_the_table(
    empty_url: str, empty: AsyncEngine
) -> None:
    run_alembic(empty_url, "upgrade", "0001")
    await write(empty, "INSERT INTO users (name) VALUES ('Ada'), (NULL)")
    for number in NUMBERS[1:]:
        run_alembic(empty_url, "upgrade", "+1")
        assert await revision_of(empty) == number
        assert await query(empty, "SELECT count(*) FROM users") == [(2,)]
    for number in NUMBERS[-2::-1]:
        run_alembic(empty_url, "downgrade", "-1")
        assert await revision_of(empty) == number
        assert await query(empty, "SELECT count(*) FROM users") == [(2,)]
    names = await query(empty, "SELECT name FROM users ORDER BY id")
    assert names == [("Ada",), ("Unknown",)]
    run_alembic(empty_url, "downgrade", "base")
    assert await revision_of(empty) is None


async def test_nothing_is_lost_on_the_way_up(empty_url: str, empty: AsyncEngine) -> None:
    run_alembic(empty_url, "upgrade", "0003")
    await write(
        empty,
        "INSERT INTO users (name, email, age) VALUES "
        "('Ada', 'ada@example.org', 36), (NULL, NULL, NULL), ('Bob', 'BOB@example.org', 0)",
    )
    run_alembic(empty_url, "upgrade", "head")
    assert await query(empty, "SELECT full_name, email, age FROM users ORDER BY id") == [
        ("Ada", "ada@example.org", 36),
        ("Unknown", None, None),
        ("Bob", "BOB@example.org", 0),
    ]


async def test_a_downgrade_that_undoes_nothing_logs_why(url: str) -> None:
    run_alembic(url, "downgrade", "0004")
    log = run_alembic(url, "downgrade", "-1").stderr
    assert "nothing to undo: users keep the name 'Unknown' that 0004 gave them" in log


async def test_current_history_and_stamp_work(url: str) -> None:
    assert f"{HEAD} (head)" in run_alembic(url, "current").stdout
    history = run_alembic(url, "history").stdout
    assert [line.split(" -> ")[1][:4] for line in history.splitlines()] == NUMBERS[::-1]
    run_alembic(url, "downgrade", "0003")
    assert run_alembic(url, "current").stdout.strip() == "0003"
    run_alembic(url, "stamp", "0005")
    assert run_alembic(url, "current").stdout.strip() == "0005"


async def test_check_finds_no_difference_and_prints_nothing_else(url: str) -> None:
    process = run_alembic(url, "check")
    assert process.stdout.strip() == "No new upgrade operations detected."
    assert process.stderr == ""


async def test_an_upgrade_with_nothing_to_do_succeeds(url: str) -> None:
    run_alembic(url, "upgrade", "head")


@pytest.mark.only("postgresql")
async def test_sql_mode_prints_a_script_that_psql_runs(empty_url: str, empty: AsyncEngine) -> None:
    """Execute the script of the whole chain statement by statement, as psql does."""
    script = run_alembic(empty_url, "upgrade", "head", "--sql").stdout
    assert script.startswith("SET lock_timeout = '100ms';")
    assert await query(empty, "SELECT to_regclass('users')") == [(None,)]
    await run_script(empty, script)
    assert await revision_of(empty) == HEAD
    run_alembic(empty_url, "check")
    await run_script(empty, run_alembic(empty_url, "downgrade", f"{HEAD}:base", "--sql").stdout)
    assert await query(empty, "SELECT to_regclass('users')") == [(None,)]


async def test_a_stretch_of_the_chain_can_be_reviewed_as_sql(url: str) -> None:
    script = run_alembic(url, "upgrade", "0005:0007", "--sql").stdout
    assert "RENAME COLUMN name TO full_name" in script
    assert "INDEX" in script
    assert "'0007'" in script


@pytest.mark.only("sqlite")
async def test_sql_mode_on_sqlite_says_what_it_cannot_print(url: str) -> None:
    process = run_alembic(url, "upgrade", "head", "--sql", check=False)
    assert process.returncode != 0
    assert "run `alembic upgrade` on the file itself" in process.stdout
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.name)
def test_each_revision_says_what_why_which_lock_and_what_older_builds_see(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    docstring = source.split('"""')[1]
    for heading in ("What:", "Why:", "Lock:", "Older builds:", "Undone:"):
        assert re.search(rf"^{heading} +\S", docstring, re.MULTILINE), heading
    assert not re.search(r"^\s+pass$", source, re.MULTILINE)
    assert "service" not in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)


NICKNAME = "    nickname: Mapped[str | None] = mapped_column(Text)\n"
TEAM = """\
from sqlalchemy import ForeignKey  # which the next edit wants


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True, index=True)


class User(Base):"""
ROLE = """\
from sqlalchemy import Enum

role = Enum("reader", "writer", name="role")


class Member(Base):
    __tablename__ = "members"
    id: Mapped[int] = mapped_column(primary_key=True)
    former: Mapped[str] = mapped_column(role)
    role: Mapped[str | None] = mapped_column(role)


class User(Base):"""
EDITS = {  # in this order: each edits the result of the one before
    "a column": ("    age: Mapped", NICKNAME + "    age: Mapped"),
    "a required column with a default": (
        "    age: Mapped",
        '    status: Mapped[str] = mapped_column(Text, server_default="new")\n    age: Mapped',
    ),
    "an index": ('Index("idx_user_email"', 'Index("idx_user_age", "age"), Index("idx_user_email"'),
    "an index without regard to case": (
        'Index("idx_user_email"',
        'Index("idx_user_nickname", folded(nickname)), Index("idx_user_email"',
    ),
    "a requirement": ("email: Mapped[str | None]", "email: Mapped[str]"),
    "a wider type": ("Integer, CheckConstraint", "BigInteger, CheckConstraint"),
    "a default": ('name="age")\n', 'name="age"), server_default="7"\n'),
    "a rule": (
        'Index("idx_user_email"',
        'CheckConstraint("length(email) > 3", name="email_length"), Index("idx_user_email"',
    ),
    "a table": ("class User(Base):", TEAM),
    "a reference": (
        "    age: Mapped",
        '    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))\n    age: Mapped',
    ),
    "an enum": ("class User(Base):", ROLE),
    "labels": ('"reader", "writer"', '"reader", "auditor", "editor"'),
    "a column less": (NICKNAME, ""),
}


def edit(clone: Path, before: str, after: str) -> None:
    """Replace text in the models of a clone."""
    model = clone / "service/models.py"
    source = model.read_text(encoding="utf-8")
    assert before in source
    source = source.replace(before, after, 1).replace(
        'Index("idx_user_nickname", folded(nickname)),' if not after else "\0", ""
    )
    model.write_text(source, "utf-8")


async def test_what_autogenerate_writes_runs_up_and_down_unedited(
    all_databases: dict[str, Any], databases: Any, url: str, engine: AsyncEngine, clone: Path
) -> None:
    """Revisions are generated on one kind of database, and run on both."""
    await write(engine, "INSERT INTO users (full_name, email, age) VALUES ('A', 'a@b.cd', 5)")
    edits = dict(EDITS)
    if databases.kind == "sqlite":  # Alembic sees no indexes on expressions there
        del edits["an index without regard to case"]
        del edits["labels"]  # nothing tells there what they were
    for number, (what, change) in enumerate(edits.items(), start=1):
        edit(clone, *change)
        run_alembic(url, "revision", "--autogenerate", "-m", what, cwd=clone)
        path = clone / f"migrations/versions/{later(number)}_{what.replace(' ', '_')}.py"
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(op\.|pass$|raise)", source, re.MULTILINE), source
        run_alembic(url, "upgrade", "head", cwd=clone)
    run_alembic(url, "check", cwd=clone)
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    run_alembic(url, "check")
    assert await query(engine, "SELECT full_name, email, age FROM users") == [("A", "a@b.cd", 5)]

    (other,) = (one for one in all_databases.values() if one is not databases)
    for database in (url, await other.at_head()):
        run_alembic(database, "upgrade", "head", cwd=clone)
        run_alembic(database, "check", cwd=clone)
        run_alembic(database, "downgrade", HEAD, cwd=clone)
        run_alembic(database, "check")


async def test_autogenerate_refuses_a_required_column_that_no_row_has_a_value_for(
    url: str, clone: Path
) -> None:
    edit(clone, "age: Mapped", "nickname: Mapped[str] = mapped_column(Text)\n    age: Mapped")
    process = run_alembic(url, "revision", "--autogenerate", "-m", "x", cwd=clone, check=False)
    assert process.returncode != 0
    assert "users.nickname is NOT NULL without a server_default" in process.stdout
    assert not list((clone / "migrations/versions").glob(f"{NEXT}*"))


async def test_a_revision_written_by_hand_gets_the_next_number_too(url: str, clone: Path) -> None:
    run_alembic(url, "revision", "-m", "by hand", cwd=clone)
    (path,) = (clone / "migrations/versions").glob(f"{NEXT}_by_hand.py")
    assert f'down_revision = "{HEAD}"' in path.read_text(encoding="utf-8").replace("'", '"')
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert "write what this revision does" in process.stderr


async def test_two_files_with_one_number_are_refused_in_words(url: str, clone: Path) -> None:
    versions = clone / "migrations/versions"
    shutil.copy(versions / "0008_emails_are_unique.py", versions / "0008_another.py")
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert "two revision files have the number 0008" in process.stdout


async def test_two_heads_are_refused_in_words(url: str, clone: Path) -> None:
    versions = clone / "migrations/versions"
    source = VERSIONS[-1].read_text(encoding="utf-8")
    another = source.replace(f'revision = "{HEAD}"', f'revision = "{NEXT}"')
    (versions / f"{NEXT}_another.py").write_text(another, "utf-8")
    process = run_alembic(url, "upgrade", "head", cwd=clone, check=False)
    assert process.returncode != 0
    assert f"the history has 2 heads, {HEAD}, {NEXT}" in process.stdout


@pytest.mark.parametrize("revision", ["0042", "nonsense"])
async def test_an_unknown_revision_is_one_clear_line(url: str, revision: str) -> None:
    process = run_alembic(url, "upgrade", revision, check=False)
    assert process.returncode != 0
    assert revision in process.stdout
    assert "Traceback" not in process.stderr
