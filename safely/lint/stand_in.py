"""A connection without a server: it knows its dialect, records statements, and answers nothing.

A body asks `op.get_bind()` for it. SQLAlchemy works on it as on any other connection, up to the
cursor: that records each statement, and raises NoAnswer where the body wants to read rows.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from safely.lint.parsing import UNKNOWN

READING = re.compile(r"\s*(?:SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN|FETCH)\b", re.IGNORECASE)
RETURNING = re.compile(r"\bRETURNING\b", re.IGNORECASE)
# a placeholder, or what may contain the same letters: a string, a quoted name, a DO block
PLACEHOLDER = re.compile(
    r"'(?:[^']|'')*'|\"[^\"]*\"|(?P<tag>\$[A-Za-z_]*\$).*?(?P=tag)|\$(?P<number>\d+)", re.DOTALL
)
CATALOGUE = "pg_catalog."  # in the queries of SQLAlchemy's inspector
Record = Callable[[str], None]


class NoAnswer(Exception):  # noqa: N818  # no fault of the body
    """The body reads the database, and there is none."""


class GivenUp(BaseException):
    """The body goes on and on; it must not catch this."""


class Cursor:
    """A cursor that records what it is to execute."""

    rowcount, lastrowid, arraysize = 0, None, 1

    def __init__(self, record: Record) -> None:
        self.record = record
        self.description: list[tuple[str, *tuple[None, ...]]] | None = None
        self.rows: list[tuple[str]] = []

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Record a statement; raise NoAnswer if it returns rows."""
        self.record(with_literals(statement, parameters))
        if is_looking_first(statement):
            self.description = [("name", None, None, None, None, None, None)]
            # a query for several tables returns the names of those that are there
            names = dict.fromkeys(["there", *map(str, parameters)])
            self.rows = [(name,) for name in names] if is_dropping() else []
        elif is_reading(statement):
            raise NoAnswer("there is no database to answer this")

    def executemany(self, statement: str, several: Sequence[Sequence[Any]]) -> None:
        """Record a statement once for each row of parameters."""
        for parameters in several:
            self.execute(statement, parameters)

    def fetchall(self) -> list[tuple[str]]:
        """Return the rows of a query that looks whether something is there."""
        rows, self.rows = self.rows, []
        return rows

    def fetchmany(self, _: int | None = None) -> list[tuple[str]]:
        """Return them, whatever their number."""
        return self.fetchall()

    def fetchone(self) -> tuple[str] | None:
        """Return the first of them."""
        return next(iter(self.fetchall()), None)

    def close(self) -> None:
        """Do nothing."""


class DriverConnection:
    """What SQLAlchemy takes for the connection of a driver."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def cursor(self, *_: Any, **__: Any) -> Cursor:
        """Return a cursor."""
        return Cursor(self.record)

    def commit(self) -> None:
        """Do nothing."""

    rollback = close = commit


class DriverError(Exception):
    """What SQLAlchemy takes for the errors of a driver; none is raised."""


def offline(dialect: sa.Dialect, version: tuple[int, ...], schema: str) -> sa.Dialect:
    """Return a dialect that has what it would otherwise ask the server."""
    dialect.server_version_info = version
    dialect.default_schema_name = schema
    dialect.default_isolation_level = "READ COMMITTED"
    dialect.dbapi = SimpleNamespace(Error=DriverError)  # type: ignore[assignment]  # all it needs
    return dialect


class Dialect(PGDialect):
    """SQLAlchemy's dialect without a driver, which would know how to set an isolation level."""

    supports_statement_cache = True
    # a session would miss the rows that its UPDATE is to change
    supports_sane_rowcount = supports_sane_multi_rowcount = False

    def get_isolation_level_values(self, connection: Any) -> list[Any]:
        """Return the levels, with that of the drivers."""
        levels = super().get_isolation_level_values(connection)  # type: ignore[no-untyped-call]
        return [*levels, "AUTOCOMMIT"]

    def set_isolation_level(self, connection: Any, level: Any) -> None:
        """Do nothing."""


DIALECT = offline(
    Dialect(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]  # SQLAlchemy's
    (18, 0),
    "public",
)


def other_dialect(name: str) -> sa.Dialect:
    """Return a dialect in which a body sees another database, by the name that it compares."""
    dialect = offline(SQLiteDialect(paramstyle="numeric_dollar"), (3, 50, 0), "main")
    dialect.name = name
    return dialect


OTHER_DIALECTS = [*map(other_dialect, ("sqlite", "mysql", "mariadb", "mssql", "oracle"))]


def connection(record: Record, dialect: sa.Dialect = DIALECT) -> sa.Connection:
    """Return a connection that calls `record` with each statement, its parameters as literals."""
    pool = sa.StaticPool(lambda: DriverConnection(record))  # type: ignore[arg-type]  # see there
    return sa.Engine(pool, dialect, sa.make_url(f"{dialect.name}://")).connect()


def is_looking_first(statement: str) -> bool:
    """Return whether SQLAlchemy looks first whether what it is to create or drop is there.

    `--sql` leaves that out, and so does lint: a new table isn't there, an old one is.
    """
    return CATALOGUE in statement and visitor() is not None


def is_dropping() -> bool:
    """Return whether SQLAlchemy is to drop something."""
    return type(visitor()).__name__.endswith("Dropper")


def visitor() -> Any:
    """Return the object of SQLAlchemy that is creating or dropping something; None without one."""
    frame = inspect.currentframe()
    while frame is not None:
        visitor = frame.f_locals.get("self")
        if type(visitor).__name__.endswith(("Generator", "Dropper")):
            return visitor
        frame = frame.f_back
    return None


def is_reading(statement: str) -> bool:
    """Return whether a statement returns rows."""
    return bool(READING.match(statement) or RETURNING.search(statement))


def with_literals(statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return SQL with literals in the place of `$1`, `$2` and so on."""

    def replaced(match: re.Match[str]) -> str:
        if match["number"] is None or int(match["number"]) > len(values):
            return match[0]
        return literal(values[int(match["number"]) - 1])

    values = list(parameters.values() if isinstance(parameters, Mapping) else parameters or ())
    return PLACEHOLDER.sub(replaced, statement)


def literal(value: Any) -> str:
    """Return a value as SQL; a string for any but NULL, numbers and booleans."""
    if value is None:
        return "NULL"
    if value == UNKNOWN:
        return UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, bytes):
        value = rf"\x{value.hex()}"
    if isinstance(value, list | tuple):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        value = json.dumps(value, default=str)
    escaped = str(value).replace("'", "''")
    return f"'{escaped}'"
