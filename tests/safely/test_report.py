"""The report: revisions of any form in any order, read with any role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely import report
from safely.report.contents import SchemaReport
from safely.report.files import RevisionFile, revision_files
from safely.run.set_aside import set_aside_by
from tests.chain import NUMBERS
from tests.commands import run_alembic
from tests.databases import Databases, engine_for, name_of, write

# no order of its own, and underscores: the first id sorts last
IDS = {number: f"{15 - place:x}e10_27a6" for place, number in enumerate(NUMBERS)}
HEAD, PREVIOUS = IDS[NUMBERS[-1]], IDS[NUMBERS[-2]]
FILE = '''\
"""{message}

Revision ID: {revision}
Revises: {revises}
Create Date: 2026-11-26 17:00:00

What: {message}, and more.
"""
from typing import Sequence, Union

# revision identifiers, used by Alembic.
revision: str = {revision!r}
down_revision: Union[str, Sequence[str], None] = {down!r}
branch_labels: Union[str, Sequence[str], None] = None
'''


def write_file(directory: Path, revision: str, down: str | tuple[str, ...] | None) -> None:
    """Write a revision file as Alembic's own template has it."""
    text = FILE.format(message=f"make {revision}", revision=revision, revises=down, down=down)
    (directory / f"{revision}_make.py").write_text(text, encoding="utf-8")


def ids(files: list[RevisionFile]) -> list[str]:
    return [file.revision for file in files]


# --- the order of the files


def test_files_are_in_the_order_of_their_down_revisions(tmp_path: Path) -> None:
    for revision, down in (("ae10", None), ("9c27", "ae10"), ("f001", "9c27"), ("10000", "f001")):
        write_file(tmp_path, revision, down)
    assert ids(revision_files(tmp_path)) == ["ae10", "9c27", "f001", "10000"]


def test_a_merge_comes_after_both_of_its_branches(tmp_path: Path) -> None:
    for revision, down in (("z", None), ("b", "z"), ("c", "b"), ("y", "z"), ("a", ("c", "y"))):
        write_file(tmp_path, revision, down)
    order = ids(revision_files(tmp_path))
    assert (order[0], order[-1], set(order[1:-1])) == ("z", "a", {"b", "c", "y"})
    assert order.index("b") < order.index("c")


def test_the_head_of_a_docstring_is_left_out_where_it_repeats_the_ids(tmp_path: Path) -> None:
    write_file(tmp_path, "ae10", None)
    (file,) = revision_files(tmp_path)
    assert file.message == "make ae10"
    assert [(part.heading, part.text) for part in file.paragraphs] == [
        ("What", "make ae10, and more.")
    ]


def test_a_file_that_is_not_python_keeps_its_place_among_the_others(tmp_path: Path) -> None:
    for revision, down in (("d", None), ("b", "c"), ("a", "b")):
        write_file(tmp_path, revision, down)
    (tmp_path / "c_make.py").write_text("revision = ", encoding="utf-8")
    (tmp_path / "0_draft.py").write_text("revision = ", encoding="utf-8")
    assert ids(revision_files(tmp_path)) == ["d", "c", "b", "a", "0"]


def test_a_file_that_runs_to_tell_its_id_is_not_run(tmp_path: Path) -> None:
    write_file(tmp_path, "ae10", None)
    (tmp_path / "shared.py").write_text("revision = str(1 / 0)\n", encoding="utf-8")
    (tmp_path / "circle.py").write_text("revision = down_revision = 'x'\n", encoding="utf-8")
    assert sorted(ids(revision_files(tmp_path))) == ["ae10", "x"]


@pytest.mark.parametrize(
    ("hidden", "parts"),
    [
        ("_aside_ae10_full_name", ("ae10", "full_name")),
        ("_aside_ae10_27_full_name", ("ae10_27", "full_name")),
        ("_aside_0042_note", ("0042", "note")),
        ("_aside_note", None),
    ],
)
def test_an_id_with_underscores_is_told_from_the_name(
    hidden: str, parts: tuple[str, str] | None
) -> None:
    assert set_aside_by(hidden, {"ae10", "ae10_27"}) == parts


# --- a database whose revisions have such ids


@pytest.fixture
def files(tmp_path: Path) -> list[RevisionFile]:
    """Return the files of a history as long as ours, with other ids."""
    down = None
    for revision in IDS.values():
        write_file(tmp_path, revision, down)
        down = revision
    return revision_files(tmp_path)


@pytest.fixture
async def renamed(url: str, engine: AsyncEngine) -> str:
    """Return the URL of a database at the head, whose revisions got other ids."""
    for number, revision in IDS.items():
        for column in ("revision", "build"):
            change = f"UPDATE migration_log SET {column} = '{revision}' WHERE {column} = '{number}'"
            await write(engine, change)
        if engine.dialect.name == "postgresql":
            await write(engine, f'ALTER SCHEMA "at_{number}" RENAME TO "at_{revision}"')
    await write(engine, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    return url


async def look(url: str, files: list[RevisionFile], **options: Any) -> SchemaReport:
    """Return the report on a database."""
    engine = engine_for(url)
    options = {"project": "shop", "build": HEAD, **options}
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda connection: report.look(connection, files=files, **options)
            )
    finally:
        await engine.dispose()


def states(found: SchemaReport) -> list[str]:
    return [one.state for one in found.revisions]


async def test_revisions_are_applied_pending_or_ahead_by_their_files(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    found = await look(renamed, files)
    assert (found.database.revision, found.database.standing) == (HEAD, "current")
    assert [one.revision for one in found.revisions] == list(IDS.values())
    assert set(states(found)) == {"applied"}
    if engine.dialect.name == "postgresql":
        assert found.published == list(IDS.values())

    older = files[:-1]
    found = await look(renamed, older, build=PREVIOUS)
    assert found.database.standing == "ahead"
    assert [(one.revision, one.has_file) for one in found.revisions[-2:]] == [
        (PREVIOUS, True),
        (HEAD, False),
    ]
    assert set(states(found)) == {"applied"}

    await write(engine, f"UPDATE alembic_version SET version_num = '{PREVIOUS}'")
    found = await look(renamed, files)
    assert found.database.standing == "behind"
    assert states(found) == ["applied"] * (len(IDS) - 1) + ["pending"]
    found = await look(renamed, older, build=PREVIOUS)
    assert (found.database.standing, len(found.revisions)) == ("current", len(IDS) - 1)


async def test_revisions_whose_files_are_gone_stay_where_the_ledger_has_them(
    renamed: str, files: list[RevisionFile]
) -> None:
    squashed = [files[2]._replace(down_revisions=()), *files[3:]]
    found = await look(renamed, squashed)
    assert found.database.standing == "current"
    assert [one.revision for one in found.revisions] == list(IDS.values())
    assert [one.has_file for one in found.revisions[:3]] == [False, False, True]
    assert set(states(found)) == {"applied"}


async def test_a_database_on_two_branches_is_behind_the_merge(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    branch = files[-1]._replace(revision="branch", down_revisions=(PREVIOUS,))
    merge = files[-1]._replace(revision="a_merge", down_revisions=(HEAD, "branch"))
    await write(engine, "INSERT INTO alembic_version VALUES ('branch')")
    found = await look(renamed, [*files, branch, merge], build="a_merge")
    assert found.database.standing == "behind"
    assert [one.revision for one in found.revisions if one.state == "pending"] == ["a_merge"]


async def test_an_edited_file_is_found_by_its_revision(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    for file in files:
        change = f"SET checksum = '{file.checksum}' WHERE revision = '{file.revision}'"
        await write(engine, f"UPDATE migration_log {change}")
    assert (await look(renamed, files)).drift.edited_files == []
    edited = [files[0]._replace(checksum="f" * 64), *files[1:-1]]
    edited.append(files[-1]._replace(checksum="e" * 64))
    await write(engine, f"UPDATE alembic_version SET version_num = '{PREVIOUS}'")
    (sentence,) = (await look(renamed, edited)).drift.edited_files
    assert sentence.startswith(f"{files[0].name}: applied with checksum")


async def test_what_is_set_aside_is_listed_with_its_revision(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    await write(engine, f'ALTER TABLE users ADD COLUMN "_aside_{HEAD}_full_note" text')
    if engine.dialect.name == "postgresql":
        await write(engine, f'CREATE SCHEMA "aside_{PREVIOUS}"')
        await write(engine, f'CREATE TABLE "aside_{PREVIOUS}".old_notes (id int)')
    else:
        await write(engine, f'CREATE TABLE "_aside_{PREVIOUS}_old_notes" (id int)')
    found = await look(renamed, files)
    assert [(one.kind, one.revision, one.name) for one in found.set_aside] == [
        ("column", HEAD, "users.full_note"),
        ("table", PREVIOUS, "old_notes"),
    ]


async def test_the_version_table_may_have_another_name(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    await write(engine, "ALTER TABLE alembic_version RENAME TO shop_version")
    found = await look(renamed, files, version_table="shop_version")
    assert found.database.standing == "current"


@pytest.mark.only("postgresql")
async def test_the_version_table_may_be_in_another_schema(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    await write(engine, "CREATE SCHEMA tools")
    await write(engine, "ALTER TABLE alembic_version SET SCHEMA tools")
    found = await look(renamed, files, version_table_schema="tools")
    assert found.database.standing == "current"


@asynccontextmanager
async def connected(url: str, *names: str) -> AsyncIterator[None]:
    """Keep a connection open under each of the names."""
    connections = [
        await asyncpg.connect(url, server_settings={"application_name": name}) for name in names
    ]
    yield
    for connection in connections:
        await connection.close()


@pytest.mark.only("postgresql")
async def test_builds_are_those_of_the_project_and_wait_or_fail_without_their_version(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    await write(engine, f"UPDATE alembic_version SET version_num = '{PREVIOUS}'")
    oldest = IDS[NUMBERS[0]]
    for revision in (HEAD, oldest):
        await write(engine, f'DROP SCHEMA "at_{revision}" CASCADE')
    names = [f"shop@{revision}" for revision in ("0new", HEAD, PREVIOUS, oldest)]
    async with connected(renamed, *names, f"users@{HEAD}", "shop"):
        found = await look(renamed, files)
    assert found.builds is not None
    assert [(build.revision, build.is_published) for build in found.builds] == [
        (oldest, False),
        (PREVIOUS, True),
        (HEAD, False),
        ("0new", False),
    ]
    failing = [sentence for sentence in found.advice if "its queries fail" in sentence]
    assert [sentence.split()[0] for sentence in failing] == [f"shop@{oldest}"]


@pytest.mark.only("postgresql")
async def test_a_schema_of_somebody_else_is_no_published_version(
    renamed: str, engine: AsyncEngine, files: list[RevisionFile]
) -> None:
    await write(engine, "CREATE SCHEMA at_work")
    await write(engine, "CREATE TABLE at_work.desks (id int)")
    assert (await look(renamed, files)).published == list(IDS.values())


@pytest.fixture
async def as_app(databases: Databases, url: str, engine: AsyncEngine) -> AsyncIterator[str]:
    """Yield the database's URL for a role that may use the published versions and no more."""
    role = f"reader_of_{name_of(url)}"
    await databases.execute(f"CREATE ROLE {role} LOGIN")
    await write(engine, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    run_alembic(url, "-x", "drift=accept", "upgrade", "head", APP_ROLE=role)
    yield url.replace("postgres@", f"{role}@")
    await write(engine, f"DROP OWNED BY {role}")
    await databases.execute(f"DROP ROLE {role}")


@pytest.mark.only("postgresql")
async def test_the_applications_role_gets_the_same_report_as_the_owner(
    as_app: str, renamed: str, files: list[RevisionFile]
) -> None:
    owners, applications = await look(renamed, files), await look(as_app, files)
    assert applications.database.standing == "current"
    assert applications.rows
    assert replace(applications, made=owners.made) == owners
