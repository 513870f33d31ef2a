"""Run an operation of safely without alembic, on a connection of the test."""

from collections.abc import Callable
from types import SimpleNamespace

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations


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
