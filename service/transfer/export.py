"""Export as one snapshot."""

import csv
import io
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from service import schemas, users
from service.transfer.formats import Format
from service.transfer.staging import take_time

Write = Callable[[bytes], Awaitable[None]]

EXPORTED = 1000  # rows that are encoded at a time (SQLite)

FIELDS = ("id", "full_name", "email", "age")


async def export(
    session: AsyncSession, listing: users.Listing, form: Format, seconds: float, write: Write
) -> None:
    """Hand all users of the list to `write`, as they are at one moment, a piece at a time."""
    connection = await session.connection()
    await take_time(connection, seconds)
    statement = users.all_of(listing)
    if connection.dialect.name == "postgresql":
        await copy_out(connection, statement, form, write)
        return
    encode = csv_lines if form == "csv" else json_lines
    if form == "csv":
        await write(csv_lines([FIELDS]))
    async with connection.stream(statement, execution_options={"yield_per": EXPORTED}) as result:
        async for rows in result.partitions():
            await write(encode(rows))


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """As PostgreSQL writes CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def json_lines(rows: Iterable[users.UserRow]) -> bytes:
    """A JSON object on each line."""
    return b"".join(schemas.encode(users.seen(row)) + b"\n" for row in rows)


async def copy_out(
    connection: AsyncConnection, statement: Select[Any], form: Format, write: Write
) -> None:
    """Let the server write the lines itself."""
    if form == "ndjson":
        row = statement.subquery("u")
        statement = select(func.row_to_json(text("u"))).select_from(row)
    options = connection.sync_connection.get_execution_options()  # type: ignore[union-attr]  # it is open
    compiled = statement.compile(
        dialect=connection.dialect,
        schema_translate_map=options["schema_translate_map"],
        render_schema_translate=True,
    )
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    driver: Any = (await connection.get_raw_connection()).driver_connection

    async def write_json(chunk: bytes) -> None:
        # the text format doubles a backslash, and JSON has nothing else that it would escape
        await write(chunk.replace(b"\\\\", b"\\"))

    if form == "csv":
        await driver.copy_from_query(
            compiled.string, *values, output=write, format="csv", header=True
        )
    else:
        await driver.copy_from_query(compiled.string, *values, output=write_json, format="text")
