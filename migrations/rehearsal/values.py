"""What must be the same after the way down and the way up again: schema and values."""

import json
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from migrations import snapshot
from migrations.published import schema_of
from migrations.rehearsal.people import Table

Values = dict[str, tuple[int, str | None]]  # by column: how many rows, and their checksum


class Remembered(NamedTuple):
    """What there was at some time."""

    schema: dict[str, str]
    values: Values


async def remembered(
    connection: asyncpg.Connection,
    revision: str,
    known: list[Table],
    quiet: Callable[[Table], str | None],
) -> Remembered:
    """What there is now: the schema, and the values of quiet rows as a version shows them.

    `quiet` gives the condition of a table's rows that nobody touches.
    """
    schema = json.loads(await connection.fetchval(snapshot.POSTGRESQL))
    values: Values = {}
    for table in known:
        if table.key and table.numbered and (untouched := quiet(table)):
            sums = ", ".join(checksum(column.name, table.key.name) for column in table.columns)
            count, *found = await connection.fetchrow(
                f'SELECT count(*), {sums} FROM {schema_of(revision)}."{table.name}" '
                f"WHERE {untouched}"
            )
            names = (f"{table.name}.{column.name}" for column in table.columns)
            values |= {name: (count, str(one)) for name, one in zip(names, found, strict=True)}
    return Remembered(schema, values)


def checksum(column: str, key: str) -> str:
    """Of a column's values, each with its row's number, in whatever order they come."""
    return (
        f"sum(hashtextextended(\"{key}\" || coalesce('=' || \"{column}\"::text, ''), 0)::numeric)"
    )


def differences(when: str, was: Remembered, now: Remembered, leaves: str | None) -> list[str]:
    """What is not as it was, in words; values that a revision says it leaves are no surprise."""
    found = [f"{when}: {words}" for words in snapshot.differences(was.schema, now.schema)]
    if not leaves:
        found += [
            f"{when}: the values of {name} are not those of before"
            for name in was.values
            if was.values[name] != now.values.get(name)
        ]
    return found
