"""An export: all users of a list in one format, from one snapshot."""

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, case, func, literal, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service import schemas, user_lists
from service.transfer.copy import copy_connection
from service.transfer.formats import Format
from service.user_lists import Listing
from service.users import USER_COLUMNS

Write = Callable[[bytes], Awaitable[None]]

ENCODED_AT_ONCE = 1000  # rows (SQLite)
HEADER = ("id", "full_name", "email", "age")  # of a CSV
# cells that begin so are formulas to a spreadsheet, the last four in East Asian ones
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Formulas = Literal["raw", "text"]


async def export(
    session: AsyncSession, listing: Listing, form: Format, write: Write, formulas: Formulas = "raw"
) -> None:
    """Pass all users of the list to `write`, a piece at a time.

    The session is one that `Transfers.export_session` yields.
    """
    statement = user_lists.whole_list(listing)
    if formulas == "text":
        statement = without_formulas(statement)
    if session.get_bind().dialect.name == "postgresql":
        await copy_out(session, statement, form, write)
        return
    encode = csv_lines if form == "csv" else json_lines
    if form == "csv":
        await write(csv_lines([HEADER]))
    options = {"yield_per": ENCODED_AT_ONCE}
    result = await session.stream(statement, execution_options=options)
    async for rows in result.partitions():
        await write(encode(rows))


def without_formulas(statement: Select[Any]) -> Select[Any]:
    """Return the statement with an apostrophe before each text that a spreadsheet would run."""
    columns = [
        case((starts_formula(column), literal("'") + column), else_=column).label(column.name)
        if isinstance(column.type, Text)
        else column
        for column in USER_COLUMNS
    ]
    return statement.with_only_columns(*columns)


def starts_formula(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a cell of the column would be run by a spreadsheet."""
    first = func.substr(column, 1, 1)
    return or_(*(first == start for start in FORMULA_STARTS))


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return the rows as CSV, with quotes and line ends as PostgreSQL writes them."""
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(rows)
    return content.getvalue().encode()


def json_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return the rows as NDJSON."""
    return b"".join(schemas.encode(schemas.User(*row)) + b"\n" for row in rows)


async def copy_out(
    session: AsyncSession, statement: Select[Any], form: Format, write: Write
) -> None:
    """Let PostgreSQL write the lines itself, by COPY."""
    if form == "ndjson":
        row = statement.subquery("u")
        statement = select(func.row_to_json(text("u"))).select_from(row)
    bind = session.get_bind()
    compiled = statement.compile(
        dialect=bind.dialect,
        schema_translate_map=bind.get_execution_options()["schema_translate_map"],
        render_schema_translate=True,
    )
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    driver = await copy_connection(session)

    is_writing = False

    async def write_copy(chunk: bytes) -> None:
        nonlocal is_writing
        if form == "ndjson":
            # COPY's text format doubles each backslash, and escapes nothing else that JSON contains
            chunk = chunk.replace(b"\\\\", b"\\")
        is_writing = True
        await write(chunk)
        is_writing = False

    options: dict[str, Any] = {"format": "csv", "header": True} if form == "csv" else {}
    try:
        await driver.copy_from_query(compiled.string, *values, output=write_copy, **options)
    finally:
        if is_writing:
            # `write` has failed. asyncpg cancels the COPY; if that is complete, the next statement
            # would wait for the cancellation for ever
            driver.terminate()
