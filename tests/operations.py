"""Run an operation of safely without alembic, on a connection of the test, and kill it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


def operate(
    connection: sa.Connection, revision: str, operation: Callable[[], object], *, up: bool = True
) -> None:
    """Run an operation in the context and with the options that a step gives to Alembic."""
    options = {
        "lock_timeout": "100ms",
        "revision": revision,
        "is_upgrade": up,
        "transactional_ddl": True,
        "work": SimpleNamespace(rows=0),
    }
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context), context.begin_transaction():
        operation()


class KilledError(BaseException):
    """The process was killed: nothing that handles errors handles it."""


@contextmanager
def killed_before(engine: AsyncEngine, statement: int) -> Iterator[None]:
    """Kill whatever runs inside before it has sent so many statements; end it where it runs."""
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent >= statement:
            raise KilledError

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", count)
