"""Enums: created, set aside, and given other labels while builds of both sides use them."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.chain import HEAD, later
from tests.commands import run_alembic, run_migrations
from tests.databases import run_script
from tests.migrated import leftovers, state_of
from tests.revisions import Revision, write_revision

OLD, NEW = later(1), later(2)
CREATE = """\
safely.create_enum("mood", "sad", "ok", "dull")
safely.create_enum("size", "small", "big")
safely.create_table(
    "pets",
    sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("mood", sa.Enum("sad", "ok", "dull", name="mood"), server_default="ok"),
    sa.Column("size", sa.Enum("small", "big", name="size"), nullable=False),
    sa.Column("moods", sa.ARRAY(sa.Enum("sad", "ok", "dull", name="mood"))),
)"""
DROP = """\
safely.drop_table("pets")
safely.drop_enum("size")
safely.drop_enum("mood")"""
CHANGE = """\
safely.change_enum(
    "mood", "sad", "fine", "happy",
    existing=["sad", "ok", "dull"], columns=[{}],
    renamed={{"ok": "fine", "dull": "sad"}},
)
safely.change_enum(
    "size", "tiny", "small", "big", older_builds_see="small",
    existing=["small", "big"], columns=[("pets", "size")],
)"""
CHANGE_BACK = """\
safely.change_enum(
    "size", "small", "big",
    existing=["tiny", "small", "big"], columns=[("pets", "size")],
)
safely.change_enum(
    "mood", "sad", "ok", "dull",
    existing=["sad", "fine", "happy"], columns=[{}],
    renamed={{"fine": "ok"}},
)"""


class Build:
    """A build of the application: it knows the labels of its revision, and no others."""

    def __init__(self, url: str, revision: str, moods: list[str], sizes: list[str]) -> None:
        self.engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://"),
            connect_args={"server_settings": {"search_path": f"at_{revision}, public"}},
            poolclass=sa.NullPool,
        )
        mood = sa.Enum(*moods, name="mood")
        self.pets = sa.Table(
            "pets",
            sa.MetaData(),
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("mood", mood),
            sa.Column("size", sa.Enum(*sizes, name="size")),
            sa.Column("moods", ARRAY(mood)),
        )

    async def write(self, *rows: dict[str, Any]) -> None:
        async with self.engine.begin() as connection:
            for row in rows:
                await connection.execute(sa.insert(self.pets).values(row))

    async def change(self, key: int, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(
                sa.update(self.pets).where(self.pets.c.id == key).values(values)
            )

    async def rows(self) -> dict[int, tuple[Any, ...]]:
        async with self.engine.connect() as connection:
            result = await connection.execute(sa.select(self.pets))
            return {row[0]: tuple(row[1:]) for row in result}

    async def with_mood(self, mood: str) -> list[int]:
        """Return the rows that a query for a label finds, as a parameter of the type."""
        async with self.engine.connect() as connection:
            pets = self.pets.c
            query = sa.select(pets.id).where(pets.mood == mood).order_by(pets.id)
            return list(await connection.scalars(query))


def old_build(url: str) -> Build:
    return Build(url, OLD, ["sad", "ok", "dull"], ["small", "big"])


def new_build(url: str) -> Build:
    return Build(url, NEW, ["sad", "fine", "happy"], ["tiny", "small", "big"])


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("by", ["alembic", "a script"])
async def test_labels_change_while_builds_of_both_sides_read_and_write(
    url: str, engine: AsyncEngine, clone: Path, by: str
) -> None:
    columns = '("pets", "mood")'
    create, change, back = CREATE, CHANGE, CHANGE_BACK
    if by == "alembic":
        columns += ', ("pets", "moods")'
    else:  # a script knows no arrays
        create = CREATE.replace('sa.ARRAY(sa.Enum("sad", "ok", "dull", name="mood"))', "sa.Text()")
    write_revision(clone, 1, create, DROP)
    write_revision(clone, 2, change.format(columns), back.format(columns))

    async def go(direction: str, start: str, goal: str) -> dict[str, Any]:
        if by == "alembic":
            run_alembic(url, direction, goal, cwd=clone)
        else:
            for _ in range(2):  # a script can be sent again
                sql = run_alembic(url, direction, f"{start}:{goal}", "--sql", cwd=clone).stdout
                await run_script(engine, sql)
        schema: dict[str, Any] = (await state_of("postgresql", url))["schema"]
        # triggers stay while their columns are kept; and a script withdraws no version
        left = ("sync_retyped", f" at_{OLD}", f" at_{NEW}")
        return {name: schema[name] for name in schema if not any(part in name for part in left)}

    assert run_migrations(url, "lint", cwd=clone).returncode == 0
    at_first = await go("upgrade", HEAD, OLD)
    old, new = old_build(url), new_build(url)

    def arrays(*labels: str | None) -> Any:
        return list(labels) if by == "alembic" else None

    await old.write(
        {"id": 1, "mood": "sad", "size": "big", "moods": arrays("sad", "ok")},
        {"id": 2, "mood": "ok", "size": "small", "moods": None},
        {"id": 3, "mood": "dull", "size": "small", "moods": arrays("dull")},
    )
    changed = await go("upgrade", OLD, NEW)
    assert await new.rows() == {
        1: ("sad", "big", arrays("sad", "fine")),
        2: ("fine", "small", None),
        3: ("sad", "small", arrays("sad")),
    }
    await new.write(
        {"id": 4, "mood": "happy", "size": "tiny", "moods": arrays("happy", "fine")},
        {"id": 5, "size": "tiny"},
    )
    await old.write({"id": 6, "mood": "ok", "size": "big"}, {"id": 7, "size": "small"})
    await old.change(1, mood="dull")
    await new.change(2, mood="happy")
    old_rows = {
        1: ("dull", "big", arrays("sad", "ok")),
        2: (None, "small", None),  # happy
        3: ("dull", "small", arrays("dull")),
        4: (None, "small", arrays(None, "ok")),  # happy, tiny
        5: ("ok", "small", None),
        6: ("ok", "big", None),
        7: ("ok", "small", None),
    }
    new_rows = {
        1: ("sad", "big", arrays("sad", "fine")),
        2: ("happy", "small", None),
        3: ("sad", "small", arrays("sad")),
        4: ("happy", "tiny", arrays("happy", "fine")),
        5: ("fine", "tiny", None),
        6: ("fine", "big", None),
        7: ("fine", "small", None),
    }
    assert (await old.rows(), await new.rows()) == (old_rows, new_rows)
    assert await old.with_mood("ok") == [5, 6, 7]
    assert await new.with_mood("happy") == [2, 4]
    for build, label in ((old, "happy"), (new, "ok")):  # labels of the other side
        with pytest.raises(DBAPIError, match="_labels_"):
            await build.write({"id": 9, "mood": label, "size": "big"})

    assert await go("downgrade", NEW, OLD) == at_first
    assert await old.rows() == old_rows
    await old.change(3, mood="sad", size="big")
    assert await go("upgrade", OLD, NEW) == changed
    new_rows[3] = ("sad", "big", arrays("sad"))
    assert await new.rows() == new_rows

    await go("downgrade", NEW, OLD)
    before = await go("downgrade", OLD, HEAD)
    assert not any(name.startswith("type ") for name in before)
    assert await go("upgrade", HEAD, OLD) == at_first
    assert {1, 3, 7} < set(await old.rows())
    assert await leftovers("postgresql", url) == []
    await old.engine.dispose()
    await new.engine.dispose()


PLAIN = {
    "ALTER TYPE mood ADD VALUE 'happy'": 'safely.change_enum("mood", …, "happy")',
    "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'": (
        'safely.change_enum("mood", …, "fine", renamed={"ok": "fine"})'
    ),
    "DROP TYPE mood": 'safely.drop_enum("mood")',
}


@pytest.mark.only("postgresql")
def test_lint_names_the_safe_spelling_of_plain_sql(
    url: str, clone: Path, revision: Revision
) -> None:
    lines = "\n".join(f"op.execute({statement!r})" for statement in PLAIN)
    revision(f"from alembic import op\n{lines}")
    process = run_migrations(url, "lint", cwd=clone)
    assert process.returncode == 1
    for spelling in PLAIN.values():
        assert spelling in process.stdout
