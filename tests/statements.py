"""Record the statements that are sent to the database."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Engine, event


class Statement(NamedTuple):
    """A statement and its parameters."""

    text: str
    values: Sequence[Any]


@contextmanager
def recorded_statements() -> Iterator[list[Statement]]:
    """Record the statements about users that are executed inside the block."""
    recorded: list[Statement] = []

    def record(_: object, __: object, text: str, values: Any, *___: object) -> None:
        if "users" in text:
            recorded.append(Statement(text, values))

    with listening(Engine, "before_cursor_execute", record):
        yield recorded


@contextmanager
def listening(target: type, name: str, listener: Callable[..., object]) -> Iterator[None]:
    """Listen to an event of SQLAlchemy inside the block."""
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)
