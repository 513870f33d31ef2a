"""The dangerous and the harmless revisions of tests/data, rehearsed: each gets its verdict."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver
from tests.dangers import DANGERS, HARMLESS, Danger, dangers, rehearsed
from tests.paths import ROOT

ROWS = 12_000  # so that a tenth of them is many
SAMPLE = {"grant_to_public"}  # is rehearsed without --full as well
ENV = """\
import asyncio

from alembic import context

from safely.env import Project, create_engine, guarded
from tests.dangers import MODELS

project = Project(name="shop", metadata=MODELS)


def run_migrations(connection, options):
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_engine("sqlite+aiosqlite:///none.sqlite")
    async with guarded(project, engine) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(run_migrations, step.options)
    await engine.dispose()


asyncio.run(main())
"""
INI = """\
[alembic]
script_location = migrations
prepend_sys_path = {}
"""  # where the models are
ROLES = '''\
"""Create the roles that the dangers name, with what they lose."""

from alembic import op

import safely

revision = "roles"
down_revision = "schema"


def upgrade() -> None:
    for role in ("app", "app_owner", "reporting", "retired"):
        op.execute(f"CREATE ROLE {role}")
    op.execute("GRANT USAGE ON SCHEMA public TO app")
    op.execute("GRANT INSERT, UPDATE ON orders TO app")
    op.execute("ALTER TABLE archive.letters OWNER TO reporting")


def downgrade() -> None:
    safely.nothing_to_undo("the dangers need the roles")
'''


def write_project(directory: Path, revision: Path) -> None:
    """Make a project of the tables in use, the roles, and one revision."""
    versions = directory / "migrations/versions"
    versions.mkdir(parents=True)
    text = revision.read_text(encoding="utf-8")
    for path, content in {
        directory / "alembic.ini": INI.format(ROOT),
        directory / "migrations/env.py": ENV,
        versions / "schema.py": (DANGERS / "schema.py").read_text(encoding="utf-8"),
        versions / "roles.py": ROLES,
        versions / revision.name: text.replace('"schema"', '"roles"'),
    }.items():
        path.write_text(content, encoding="utf-8")


def rehearse(directory: Path, revision: Path) -> dict[str, Any]:
    """Return the report of a rehearsal of one revision."""
    write_project(directory, revision)
    process = forkserver.run(
        "safely",
        ("rehearse", "--rows", str(ROWS), "--from", "roles", "--max-wait", "5s", "--json"),
        cwd=directory,
        environment={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout, process.stderr
    report: dict[str, Any] = json.loads(process.stdout)
    return report


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its files: all of them with --full, else a sample."""
    cases: dict[str, dict[str, Any]] = {
        "danger": {danger.revision: danger for danger in dangers()},
        "harmless": {path.stem: path for path in sorted(HARMLESS.glob("*.py"))},
    }
    names = [name for name in cases if name in metafunc.fixturenames]
    full = metafunc.config.getoption("--full")
    for name in names:
        chosen = {key: one for key, one in cases[name].items() if full or key in SAMPLE}
        metafunc.parametrize(name, chosen.values(), ids=chosen)


def test_a_danger_gets_the_verdict_that_its_file_argues(danger: Danger, tmp_path: Path) -> None:
    report = rehearse(tmp_path, danger.path)
    assert danger.verdict is not None
    assert danger.verdict.fits(report["problems"]), report["problems"]
    if danger.verdict.word == "cannot run":
        assert not report["revisions"][0]["up"]["ok"]


def test_what_does_no_harm_passes(harmless: Path, tmp_path: Path) -> None:
    """Except where a file says otherwise: it lacks something, or can't be taken a second time."""
    verdict = rehearsed(harmless.read_text(encoding="utf-8"))
    problems = rehearse(tmp_path, harmless)["problems"]
    assert verdict.fits(problems) if verdict else problems == []
