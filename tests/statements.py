"""The statements that are sent to the database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import Engine, Pool, event


class Statement(NamedTuple):
    """What was sent to the database."""

    text: str
    values: Sequence[Any]


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """The statements about users that are executed meanwhile, by SQLAlchemy or by its driver."""
    told: list[Statement] = []

    def tell(statement: Statement) -> None:
        if "users" in statement.text:
            told.append(statement)

    def by_cursor(_: object, __: object, text: str, values: Any, *___: object) -> None:
        tell(Statement(text, values))

    def by_driver(query: asyncpg.connection.LoggedQuery) -> None:
        tell(Statement(query.query, query.args))

    def watch(connection: Any, *_: object) -> None:
        if isinstance(connection.driver_connection, asyncpg.Connection):
            connection.driver_connection.add_query_logger(by_driver)

    with listening(Engine, "before_cursor_execute", by_cursor), listening(Pool, "checkout", watch):
        yield told


@contextmanager
def listening(target: type, name: str, listener: Callable[..., object]) -> Iterator[None]:
    """Hear of an event of SQLAlchemy's meanwhile."""
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)
