"""Projects apart from this repository run every command of Alembic and of safely."""

import asyncio
import json
import re
from difflib import ndiff
from pathlib import Path

import pytest

from tests.databases import Databases, engine_for, run_script
from tests.foreign import Project
from tests.foreign_projects import Garden, Library, Shop

REFUSED = 255  # Alembic's exit code for an error that it prints
NOTHING_NEW = "No new upgrade operations detected"

garden = pytest.mark.parametrize("kind_of_project", [Garden], ids=["garden"], indirect=True)


@pytest.mark.only("sqlite")
@garden
def test_safely_is_installed_and_this_repository_is_not_on_the_path(project: Project) -> None:
    place = project.output("python", "-c", "import safely; print(safely.__file__)")
    assert Path(place).is_relative_to(project.programs.parent)
    project.run("python", "-c", "import service", code=1)
    project.run("python", "-c", "import migrations.versions, tests", code=1)


@pytest.mark.only("sqlite")
@garden
def test_ten_lines_take_safely_into_the_env_py_of_the_async_template(
    project: Project, tmp_path: Path
) -> None:
    project.alembic("init", "-t", "async", str(tmp_path / "untouched"))
    before = (tmp_path / "untouched/env.py").read_text("utf-8").splitlines()
    lines = list(ndiff(before, project.env.read_text("utf-8").splitlines()))
    assert len([line for line in lines if line.startswith("+ ")]) <= 10
    assert "                await connection.run_sync(do_run_migrations, step.options)" in [
        line.removeprefix("+ ") for line in lines
    ]


def test_every_row_survives_the_way_down_and_up_again(project: Project) -> None:
    rows = project.rows(project.everything)
    assert len(rows) > 1
    project.alembic("downgrade", project.bottom)
    project.alembic("upgrade", "head")
    assert project.rows(project.everything) == rows
    assert NOTHING_NEW in project.alembic("check")


def test_autogenerate_writes_a_safe_operation_under_an_id_of_alembics_own(
    project: Project,
) -> None:
    project.add_to_model("colour: Mapped[str | None]")
    project.alembic("revision", "--autogenerate", "-m", "add a colour")
    [file] = (project.directory / "migrations/versions").glob("*_add_a_colour.py")
    source = file.read_text("utf-8")
    assert re.fullmatch(r"[0-9a-f]{12}_add_a_colour\.py", file.name)
    assert "import safely\n" in source
    assert f"safely.add_column('{project.table}', sa.Column('colour'" in source
    assert f"safely.drop_column('{project.table}', 'colour'" in source
    project.alembic("upgrade", "head")
    assert NOTHING_NEW in project.alembic("check")


async def test_the_sql_that_is_printed_makes_the_schema_that_is_migrated(
    project: Project, databases: Databases, tmp_path: Path
) -> None:
    # on SQLite a new type can't be printed: the table must be looked at
    last = project.revisions[-2 if isinstance(project, Library) else -1]
    script = project.output("alembic", "upgrade", last, "--sql")
    other = project.moved(tmp_path / "other", await databases.empty())
    other.prepare()
    engine = engine_for(other.url)
    await run_script(engine, script)
    await engine.dispose()
    other.alembic("upgrade", "head")
    assert "no drift" in other.safely("drift")
    assert NOTHING_NEW in other.alembic("check")
    if other.on_postgresql:
        assert f"at_{other.revisions[-1]}" in other.published()


def applied(project: Project) -> list[str]:
    """Return the revisions from the first that safely can undo."""
    revisions = project.revisions
    return revisions[revisions.index(project.bottom) :] if project.bottom != "base" else revisions


def test_what_was_edited_by_hand_is_found_and_refused_until_it_is_accepted(
    project: Project,
) -> None:
    project.execute(f"ALTER TABLE {project.qualified(project.table)} ADD COLUMN by_hand text")
    assert "by_hand" in project.safely("drift", code=1)
    assert "by_hand" in project.alembic("upgrade", "head", code=REFUSED)
    project.alembic("-x", "drift=accept", "upgrade", "head")
    assert "no drift" in project.safely("drift")


def test_a_replay_finds_what_was_edited_and_nothing_else(project: Project) -> None:
    project.execute(f"ALTER TABLE {project.qualified(project.table)} ADD COLUMN by_hand text")
    drift = ["python", "-m", "safely", "drift", "--against-replay"]
    [difference] = project.output(*drift, code=1).splitlines()
    assert "by_hand" in difference


def test_log_lists_each_revision_that_safely_has_run(project: Project) -> None:
    printed = project.output("python", "-m", "safely", "log", "--json")
    entries = [json.loads(line) for line in printed.splitlines()]
    assert [entry["revision"] for entry in entries] == applied(project)
    assert {entry["state"] for entry in entries} == {"done"}


def test_lint_finds_no_harm_in_revisions_of_safely_and_a_lock_in_a_plain_one(
    project: Project,
) -> None:
    found = project.safely("lint", f"{project.bottom}:head")  # which exits with 0
    assert not {": error: ", ": grave: "} & set(re.findall(r": \w+: ", found))
    before, (column, _) = project.revisions[-1], project.column
    project.add_file(
        "abcdef",
        before,
        f'op.create_index("idx_plain", "{project.table}", ["{column}"])',
        f'op.drop_index("idx_plain", "{project.table}")',
        imports="from alembic import op",
    )
    assert "plain-index" in project.safely("lint", "abcdef", code=1)


@pytest.mark.only("postgresql")
def test_rehearse_runs_the_last_revision_under_traffic(project: Project, *, full: bool) -> None:
    if not full and project.name != "library":
        pytest.skip("only with --full")
    before, last = project.revisions[-2:]
    # where others take the processor, a wait for it counts as one for the lock
    printed = project.safely("rehearse", "--rows", "200", "--from", before, "--max-wait", "5s")
    assert "YES" in printed
    assert last in printed


@pytest.mark.only("sqlite")
@garden
def test_rehearse_takes_a_project_on_sqlite_to_postgresql(project: Project, *, full: bool) -> None:
    if not full:
        pytest.skip("only with --full")
    revision = project.add_revision(
        'safely.create_index("idx_height", "plants", ["height"])',
        'safely.drop_index("idx_height", "plants")',
    )
    printed = project.safely("rehearse", "--rows", "200", "--max-wait", "5s")
    assert "YES" in printed
    assert revision in printed


def test_a_backup_brings_back_every_row(project: Project) -> None:
    rows = project.rows(project.everything)
    assert "verified" in project.safely("backup", "kept", "--verify")
    [file] = (project.directory / "kept").iterdir()
    project.execute(f"DELETE FROM {project.qualified(project.table)}")
    project.safely("restore", str(file), "--replace")
    assert project.rows(project.everything) == rows
    assert "no drift" in project.safely("drift")


def test_purge_drops_what_was_set_aside_and_the_versions_of_older_builds(
    project: Project,
) -> None:
    column, type_ = project.column
    revision = project.add_revision(
        f'safely.drop_column("{project.table}", "{column}")',
        f'safely.add_column("{project.table}", sa.Column("{column}", {type_}))',
    )
    project.alembic("upgrade", "head")
    aside = f"_aside_{revision}_{column}"
    assert aside in project.columns()
    project.safely("purge", "--before", revision, code=1)
    assert aside in project.columns()
    assert "purged" in project.safely("purge", "--before", revision, "--yes")
    assert not [name for name in project.columns() if name.startswith("_aside_")]
    assert project.published() <= {f"at_{revision}"}
    assert "no drift" in project.safely("drift")


async def test_an_upgrade_that_was_killed_is_completed_by_the_next(project: Project) -> None:
    revision = add_two_columns_and_an_index(project)
    gate = project.directory / "gate"
    gate.touch()
    process = await project.start("upgrade", "head")
    async with asyncio.timeout(60):
        while gate.exists():
            await asyncio.sleep(0.02)
    process.kill()
    await process.communicate()
    project.alembic("upgrade", "head")
    assert finished(project, revision) == [("upgrade", "done")]
    assert {"note", "remark"} <= set(project.columns())
    assert "no drift" in project.safely("drift")


@garden
async def test_an_operator_sees_what_an_upgrade_waits_for(project: Project) -> None:
    """The logging of alembic.ini is the one that `alembic init` wrote."""
    add_two_columns_and_an_index(project)
    with project.connection() as connection:
        if project.on_postgresql:
            connection.exec_driver_sql("LOCK TABLE plants IN SHARE MODE")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        process = await project.start("upgrade", "head")
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                while b"trying again" not in await process.stdout.readline():
                    assert not process.stdout.at_eof()
        except TimeoutError:
            process.kill()
    await process.communicate()
    assert process.returncode == 0


async def test_two_upgrades_at_once_run_each_revision_once(project: Project) -> None:
    revision = add_two_columns_and_an_index(project)
    processes = [await project.start("upgrade", "head") for _ in range(2)]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert finished(project, revision) == [("upgrade", "done")]
    assert "no drift" in project.safely("drift")


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("kind_of_project", [Shop], ids=["shop"], indirect=True)
def test_a_synchronous_release_works_in_its_published_version(project: Project) -> None:
    sell = ["env", f"SHOP_REVISION={project.revisions[-1]}", "python", "-m", "shop.sell"]
    project.add_revision(
        'safely.rename_column("products", "name", "title")',
        'safely.rename_column("products", "title", "name")',
    )
    project.alembic("upgrade", "head")
    project.run("python", "-m", "shop.sell", "figs", code=1)
    project.run(*sell, "salt")
    assert ("salt",) in project.rows("SELECT title FROM shop.products")


def add_two_columns_and_an_index(project: Project) -> str:
    """Write a revision of several transactions; return its id.

    Where there is a file `gate`, it is removed halfway, and the revision goes no further.
    """
    return project.add_revision(
        f'safely.add_column("{project.table}", sa.Column("note", sa.Text()))\n'
        f'safely.create_index("idx_note", "{project.table}", ["note"])\n'
        "if gate.exists():\n"
        "    gate.unlink()\n"
        "    time.sleep(60)\n"
        f'safely.add_column("{project.table}", sa.Column("remark", sa.Text()))',
        f'safely.drop_column("{project.table}", "remark")\n'
        f'safely.drop_index("idx_note", "{project.table}")\n'
        f'safely.drop_column("{project.table}", "note")',
        'import pathlib\nimport safely\nimport time\n\ngate = pathlib.Path("gate")',
    )


def finished(project: Project, revision: str) -> list[tuple[str, str]]:
    """Return direction and state of the ledger's rows of a revision."""
    log = project.qualified("migration_log")
    query = f"SELECT direction, state FROM {log} WHERE revision = '{revision}' ORDER BY id"
    return [(direction, state) for direction, state in project.rows(query)]


@pytest.mark.parametrize("kind_of_project", [Shop], ids=["shop"], indirect=True)
def test_a_release_that_is_rolled_back_starts_where_its_version_is_published(
    project: Project,
) -> None:
    newer = project.add_revision(
        f'safely.add_column("{project.table}", sa.Column("note", sa.Text()))',
        f'safely.drop_column("{project.table}", "note")',
    )
    project.alembic("upgrade", "head")
    [removed] = (project.directory / "migrations/versions").glob(f"{newer}_*.py")
    removed.unlink()
    if project.on_postgresql:
        assert "Nothing is to be done" in project.alembic("upgrade", "head")
    else:
        assert "On SQLite" in project.alembic("upgrade", "head", code=255)
    assert f"{newer} (not among these files)" in project.alembic("current")
    assert "no drift" in project.safely("drift")
    if not project.on_postgresql:  # where it takes no time
        backup = Path(project.safely("backup").partition(",")[0])
        project.safely("restore", str(backup), "--replace")
        assert f"{newer} (not among these files)" in project.alembic("current")
