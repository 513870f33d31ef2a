"""What the rules of a published version allow its builds to write, as the ledger has recorded them.

The rules of today may be narrower: a column that is required now may have been NULL, an enum or a
CHECK may have had other values. What the engine does for builds of that time is tried this way.
"""

import json
import re
from collections.abc import Collection

import asyncpg

from safely.rehearsal.application_tables import Column, Table

NULL = "NULL"
DEFAULT = "DEFAULT"  # for a column that is left out, which no literal can say
RECORDED = """\
SELECT DISTINCT ON (revision) revision, snapshot FROM migration_log
WHERE state = 'done' AND direction IN ('upgrade', 'stamp', 'accept') AND snapshot IS NOT NULL
ORDER BY revision, id DESC"""
LITERAL = re.compile(r"'(?:[^']|'')*'")
ONE_OF = r"""^CHECK \(\(\(?"?{column}"?\)?(?:::[\w ]+)? = ANY \(\(?ARRAY\[(.*?)\]"""

Choices = dict[tuple[str, str], list[str]]
"""By table and column: the values that a version allows, as SQL literals, with NULL."""


async def recorded_schemas(connection: asyncpg.Connection) -> dict[str, dict[str, str]]:
    """Return the schema of each revision as the ledger has it, with names out of their quotes."""
    if not await connection.fetchval("SELECT to_regclass('migration_log')"):
        return {}
    return {
        revision: {
            name.replace('"', ""): definition for name, definition in json.loads(snapshot).items()
        }
        for revision, snapshot in await connection.fetch(RECORDED)
    }


def choices(schema: dict[str, str], tables: Collection[Table]) -> Choices:
    """Return the values that a recorded schema allows in columns of these tables.

    Of a column whose rules say no more than its type, that is NULL, or nothing.
    """
    found: Choices = {}
    for table in tables:
        for column in table.writable:
            definition = schema.get(f"column {table.name}.{column.name}")
            if definition is None:
                continue
            literals = [] if column.is_unique else labels(schema, column, definition)
            if not re.search(r"\bNOT NULL\b", definition):
                literals.append(NULL)
            if literals:
                found[table.name, column.name] = literals
    return found


def labels(schema: dict[str, str], column: Column, definition: str) -> list[str]:
    """Return the values of an enum's column, or of one with a CHECK that lists its values."""
    kind = schema.get(f"type {definition.partition(' ')[0]}", "")
    if kind.startswith("ENUM"):
        return LITERAL.findall(kind)
    one_of = re.compile(ONE_OF.format(column=re.escape(column.name)))
    for name, rule in schema.items():
        if name.startswith("constraint ") and name.endswith(f" on {column.table}"):
            match = one_of.search(rule)
            if match:
                return LITERAL.findall(match[1])
    return []
