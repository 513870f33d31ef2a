"""`safely.change_type` on SQLite converts and refuses what PostgreSQL does."""

import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

import safely
from safely.scratch.embedded import Server
from tests.revising import Database

Type = sa.types.TypeEngine[Any]


class Colour(enum.Enum):
    red = 1
    blue = 2


COLOURS = sa.Enum(Colour, name="colour")
DATE = dt.date(2026, 11, 26)
MIDNIGHT = dt.datetime.fromisoformat("2026-11-26")
KEY = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
TOO_LARGE = "9" * 20  # for an integer of 64 bits
VALUES: tuple[tuple[Type, list[Any]], ...] = (
    (sa.Boolean(), [True, False]),
    (sa.SmallInteger(), [0, 1, -(2**15), 7]),
    (sa.Integer(), [0, 1, 2**31 - 1, 40_000]),
    (sa.BigInteger(), [0, 1, 2**63 - 1, -(2**53) - 1]),
    (sa.Float(53), [0.5, 3.0, 0.1 + 0.2, 1e300]),
    (sa.Numeric(10, 2), [Decimal("12.50"), Decimal("-3.00"), Decimal("99999999.99")]),
    (sa.Numeric(5, 1), [Decimal("12.5")]),
    (sa.Text(), ["", "007", "2026-11-26", "true", "1.5", "[1]", str(KEY), "12:30", "red"]),
    (sa.String(3), ["abc", " 7"]),
    (sa.Text(), ["2026-02-30", "2026-11-26 12:30:00.25", TOO_LARGE, "1e3", "a\\b", "ÄÖ", "-5"]),
    (COLOURS, [Colour.red]),
    (sa.Date(), [DATE, dt.date(1, 1, 1)]),
    (
        sa.DateTime(),
        [MIDNIGHT, MIDNIGHT + dt.timedelta(hours=1, microseconds=40)],
    ),
    (sa.Time(), [dt.time(12, 30), dt.time(1, 2, 3, 4)]),
    (sa.JSON(), [{"a": [1, None]}, "text", 5, 1.5]),
    (sa.Uuid(), [KEY, uuid.UUID(int=7)]),
    (sa.LargeBinary(), [b"\x00\xff", b""]),
)
TYPES: list[Type] = [*{repr(type_): type_ for type_, _ in VALUES}.values(), sa.Interval()]
PAIRS = [(old, values, new) for old, values in VALUES for new in TYPES]
REFUSED = object()


@pytest.fixture(scope="module")
def postgresql(server: Server) -> Iterator[Connection]:
    """Yield a connection to PostgreSQL, in a transaction with the type of colours."""
    url = sa.make_url(server.url("postgres")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        COLOURS.create(connection)
        yield connection
    engine.dispose()


def on_postgresql(connection: Connection, old: Type, value: Any, new: Type) -> Any:
    """Return what a value becomes there by the rules of safely, or REFUSED."""
    original = sa.cast(sa.bindparam("value", value, old), old)
    converted = sa.cast(original, new)
    with suppress(DBAPIError), connection.begin_nested():
        if is_text(old) and not is_text(new):
            return connection.scalar(sa.select(converted))
        back = sa.cast(sa.cast(converted, old), sa.Text) == sa.cast(original, sa.Text)
        result, same = connection.execute(sa.select(converted, back)).one()
        if is_text(new) and connection.scalar(
            sa.select(sa.cast(converted, sa.Text) != sa.cast(original, sa.Text))
        ):
            return REFUSED  # was cut off, and reads the same: tru, -3.
        return result if same else REFUSED
    return REFUSED


def is_text(type_: Type) -> bool:
    """Return whether a type is one of texts."""
    return isinstance(type_, sa.String) and not isinstance(type_, sa.Enum)


def expected(old: Type, value: Any, new: Type, there: Any) -> Any:
    """Return what a value becomes on SQLite; `there` is what it becomes on PostgreSQL."""
    classes = {*type(old).__mro__, *type(new).__mro__}
    if isinstance(old, sa.Uuid) and is_text(new):  # a CHAR(32) may also be a text
        return value.hex if new.length is None else REFUSED  # type: ignore[attr-defined]  # a String
    if isinstance(new, sa.JSON) and value == TOO_LARGE:
        return REFUSED  # it would become a float
    if isinstance(new, sa.Interval) or {sa.Integer, sa.LargeBinary} <= classes:
        return REFUSED  # an Interval is stored as a time in 1970; PostgreSQL has the other since 18
    if isinstance(old, sa.Enum) and isinstance(new, sa.LargeBinary):
        return value.name.encode()  # it is a VARCHAR
    if is_text(old) and isinstance(new, sa.Date | sa.Time) and ":00" in value:
        return REFUSED
    return there


@pytest.mark.parametrize("new", TYPES, ids=repr)
def test_a_value_becomes_what_it_does_on_postgresql_or_is_refused_as_there(
    postgresql: Connection, new: Type
) -> None:
    differing = []
    for old, values in VALUES:
        accepted = []
        for value in values:
            wanted = expected(old, value, new, on_postgresql(postgresql, old, value, new))
            if wanted is REFUSED:
                with suppress(safely.Refused):
                    got = retyped(old, [value], new)
                    differing.append((old, value, wanted, got))
            else:
                accepted.append((value, wanted))
        if accepted:
            try:
                got = retyped(old, [value for value, _ in accepted], new)
            except safely.Refused as error:
                got = [error] * len(accepted)
            differing += [
                (old, value, wanted, result)
                for (value, wanted), result in zip(accepted, got, strict=True)
                if result != wanted
            ]
    assert differing == []


def retyped(old: Type, values: list[Any], new: Type) -> list[Any]:
    """Return the values after a retype, which is undone and done again meanwhile."""
    database = Database()
    metadata = sa.MetaData()
    before = sa.Table(
        "t", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", old)
    )
    after = sa.table("t", sa.column("id"), sa.column("v", new))
    with database.engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(before.insert(), [{"v": value} for value in values])
        connection.exec_driver_sql("INSERT INTO t (v) VALUES (NULL)")
    query = sa.select(before.c.v).order_by("id")

    def read(query: sa.Select[Any]) -> list[Any]:
        with database.engine.begin() as connection:
            return list(connection.scalars(query))

    database.revise(lambda: safely.change_type("t", "v", new))
    result = read(sa.select(after.c.v).order_by("id"))
    stored = database.rows("SELECT v, typeof(v) FROM t")
    database.revise(lambda: safely.change_type("t", "v", old), up=False)
    assert read(query) == [*values, None]
    database.revise(lambda: safely.change_type("t", "v", new))
    assert database.rows("SELECT v, typeof(v) FROM t") == stored
    assert result[-1] is None
    return result[:-1]
