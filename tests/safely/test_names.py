"""Tables, columns, constraints and indexes of any name go through every operation."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chain import HEAD, NEXT, later
from tests.commands import run_alembic, run_migrations
from tests.databases import query, write
from tests.migrated import state_of
from tests.revisions import write_revision

NAMES = [
    "order", "Mixed Case", "用户", 'quo"te', "per%cent", "user", "camelCase", "é", "😀x",
    "per%(x)s",
    "co:lon", "brace{x}", "semi;colon", "back\\slash", "dol$lar", "apos'trophe", "tab\tx",
    "1digit", "new", "L" * 51, "用" * 17, "x.y", "-- c",
]  # fmt: skip
EVERY = "for name in {names!r}:\n    short = name[:15]\n{body}"
STEPS = [
    (
        """\
    safely.create_table(
        name,
        sa.Column("id", sa.Integer(), sa.Identity(), primary_key=True),
        sa.Column(name, sa.Text()),
    )
    safely.create_index("i " + short, name, [name])
    safely.create_check_constraint("c " + short, name, sa.column(name) != "q")
    safely.create_unique_constraint("u " + short, name, [name, "id"])
    safely.create_foreign_key("f " + short, name, "users", ["id"], ["id"])""",
        """\
    safely.drop_constraint("f " + short, name, "foreignkey")
    safely.drop_constraint("u " + short, name, "unique")
    safely.drop_constraint("c " + short, name, "check")
    safely.drop_index("i " + short, name)
    safely.drop_table(name)""",
    ),
    (
        """\
    safely.rename_column(name, name, name[:-1] + "z")
    safely.add_column(name, sa.Column(name[:-1] + "a", sa.Text()))
    safely.require_column(name, name[:-1] + "a", fill="it's %s: {x}")""",
        """\
    safely.allow_null(name, name[:-1] + "a")
    safely.drop_column(name, name[:-1] + "a")
    safely.rename_column(name, name[:-1] + "z", name)""",
    ),
    (
        '    safely.drop_column(name, name[:-1] + "z")',
        '    safely.add_column(name, sa.Column(name[:-1] + "z", sa.Text()))',
    ),
]


@pytest.mark.only("postgresql")
async def test_every_kind_of_name_goes_through_every_operation(
    url: str, engine: AsyncEngine, clone: Path, *, full: bool
) -> None:
    names = NAMES if full else NAMES[:5]
    for number, bodies in enumerate(STEPS, start=1):
        write_revision(clone, number, *(EVERY.format(names=names, body=body) for body in bodies))
    run_alembic(url, "upgrade", NEXT, cwd=clone)
    await write(engine, "INSERT INTO users (full_name) VALUES ('A')")
    for name in names:
        quoted = '"{}"'.format(name.replace('"', '""').replace(":", r"\:"))
        await write(engine, f"INSERT INTO at_{NEXT}.{quoted} ({quoted}) VALUES ('a')")
    run_alembic(url, "upgrade", "head", cwd=clone)
    up = await state_of("postgresql", url)
    assert len([name for name in up["schema"] if name.startswith(f"view at_{later(3)}.")]) == (
        len(names) + 4
    )
    run_alembic(url, "downgrade", NEXT, cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)
    assert await state_of("postgresql", url) == up
    run_alembic(url, "downgrade", HEAD, cwd=clone)
    assert "no drift" in run_migrations(url, "drift", cwd=clone).stdout
    purged = run_migrations(url, "purge", "--undone", "--yes", cwd=clone)
    assert (purged.returncode, purged.stdout) == (0, f"purged {len(names)}\n")
    assert await query(engine, "SELECT count(*) FROM users") == [(1,)]
