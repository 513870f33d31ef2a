"""What must be the same after the way down and the way up again: schema and values."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from safely.ledger import snapshot
from safely.rehearsal.people import Table
from safely.run.published import schema_of

# what keeps both columns of a changed type in step stays until it is purged
KEPT = re.compile(r"(function|trigger) sync_retyped\w*.*: was added")
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
    schema = snapshot.differences(was.schema, now.schema)
    found = [words for words in schema if not KEPT.match(words)]
    for name, (count, checksum_) in was.values.items():
        rows, checksum_now = now.values.get(name, (0, None))
        if rows != count:
            found.append(f"{name} has {rows} of the {count} rows that nobody else touched")
        elif checksum_ != checksum_now and not leaves:
            found.append(f"the values of {name} are not those of before")
    return [f"{when}: {words}" for words in found]
