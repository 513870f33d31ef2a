"""Record the statements that are sent to the database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import Engine, Pool, event


class Statement(NamedTuple):
    """A statement and its parameters."""

    text: str
    values: Sequence[Any]


@contextmanager
def recorded_statements() -> Iterator[list[Statement]]:
    """Record the statements about users, executed by SQLAlchemy or by its driver."""
    recorded: list[Statement] = []

    def record(statement: Statement) -> None:
        if "users" in statement.text:
            recorded.append(statement)

    def by_cursor(_: object, __: object, text: str, values: Any, *___: object) -> None:
        record(Statement(text, values))

    def by_driver(query: asyncpg.connection.LoggedQuery) -> None:
        record(Statement(query.query, query.args))

    def watch(connection: Any, *_: object) -> None:
        if isinstance(connection.driver_connection, asyncpg.Connection):
            connection.driver_connection.add_query_logger(by_driver)

    with listening(Engine, "before_cursor_execute", by_cursor), listening(Pool, "checkout", watch):
        yield recorded


@contextmanager
def listening(target: type, name: str, listener: Callable[..., object]) -> Iterator[None]:
    """Listen to an event of SQLAlchemy inside the block."""
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)
