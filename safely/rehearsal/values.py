"""Whether the schema and the values are the same after a downgrade and another upgrade."""

import json
import re
from typing import NamedTuple

import asyncpg

from safely.ledger import snapshot
from safely.rehearsal.connection import quoted
from safely.rehearsal.row_shares import RowShares, key_text
from safely.rehearsal.traffic import Version

AFTER_DOWNGRADE = "after the downgrade"
AFTER_SECOND_UPGRADE = "after the second upgrade"

# what keeps both columns of a changed type in step stays until it is purged
STAYS = re.compile(
    r"(function|trigger) sync_retyped\w*.*: was added|view \"?at_.*: was .*\b_aside_\w+\"? AS "
)
COLUMNS = """\
SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace($1) AND attnum > 0 AND NOT attisdropped"""

Values = dict[str, tuple[int, str | None]]
"""By `table.column`: how many rows were compared, and the checksum of their values."""


class State(NamedTuple):
    """The schema and the values at some time."""

    schema: dict[str, str]
    values: Values


async def state_of(
    connection: asyncpg.Connection, version: Version | None, shares: RowShares
) -> State:
    """Return the current schema, and the values of untouched rows as a version shows them.

    A column that the version had and that doesn't exist any more is left out.
    """
    schema = json.loads(await connection.fetchval(snapshot.POSTGRESQL) or "{}")  # NULL: it is empty
    values: Values = {}
    if version is None:
        return State(schema, values)
    found = await connection.fetch(COLUMNS, quoted(version.schema))
    existing = {(table, column) for table, column in found}
    for table in version.tables.values():
        untouched = shares.untouched(table)
        names = [column.name for column in table.columns if (table.name, column.name) in existing]
        if untouched is None or not {column.name for column in table.key} <= set(names):
            continue
        sums = ", ".join(checksum(name, key_text(table)) for name in names)
        count, *checksums = await connection.fetchrow(
            f"SELECT count(*), {sums} FROM {version.place(table.name)} WHERE {untouched}"
        )
        for name, one in zip(names, checksums, strict=True):
            values[f"{table.name}.{name}"] = (count, str(one))
    return State(schema, values)


async def count_rows(
    connection: asyncpg.Connection, version: Version, shares: RowShares
) -> dict[str, int]:
    """Return how many untouched rows the tables of a version have, of those that are there."""
    found = await connection.fetch(COLUMNS, quoted(version.schema))
    existing = {(table, column) for table, column in found}
    counts = {}
    for table in version.tables.values():
        untouched = shares.untouched(table)
        if untouched and existing.issuperset((table.name, key.name) for key in table.key):
            query = f"SELECT count(*) FROM {version.place(table.name)} WHERE {untouched}"
            counts[table.name] = await connection.fetchval(query)
    return counts


def checksum(column: str, key: str) -> str:
    """Return SQL for the checksum of a column's values, whatever the order of the rows.

    Each value counts together with the key of its row.
    """
    return (
        f"sum(hashtextextended({key} || coalesce('=' || {quoted(column)}::text, ''), 0)::numeric)"
    )


def differences(when: str, before: State, after: State, leaves: str | None) -> list[str]:
    """Return in words what differs between two states.

    Other values, and what a schema has more, are no surprise where a revision says what it
    `leaves`; missing rows are, and what is gone.
    """
    problems = [
        sentence
        for sentence in schema_differences(before, after)
        if not leaves or ": is gone" in sentence
    ]
    for name, (count, checksum_before) in before.values.items():
        rows, checksum_after = after.values.get(name, (0, None))
        if name not in after.values:
            problems.append(f"{name} is gone, with the values of {count} rows")
        elif rows != count:
            problems.append(f"{name} has {rows} of the {count} rows that no client touched")
        elif checksum_before != checksum_after and not leaves:
            problems.append(f"the values of {name} are not the same as before")
    return [f"{when}: {problem}" for problem in problems]


def schema_differences(before: State, after: State) -> list[str]:
    """Return in words what differs between the schemas of two states, but for what stays."""
    schema = without_new_versions(before.schema, after.schema)
    return [
        sentence
        for sentence in snapshot.differences(before.schema, schema)
        if not STAYS.match(sentence)
    ]


def tables_with_losses(before: State, after: State) -> set[str]:
    """Return the tables that have fewer of the untouched rows than before."""
    return {
        name.rpartition(".")[0]
        for name, (count, _) in before.values.items()
        if after.values.get(name, (0, None))[0] < count
    }


def without_new_versions(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Return the schema `after` without the versions that were not published before.

    A downgrade publishes the version that it reaches, if no step with `safely` led there before.
    """
    prefix = "schema "
    names = [
        name.removeprefix(prefix)
        for name in after.keys() - before.keys()
        if name.startswith(prefix)
    ]
    return {
        name: definition
        for name, definition in after.items()
        if not any(
            word == schema or word.startswith(f"{schema}.")
            for word in name.split()
            for schema in names
        )
    }
