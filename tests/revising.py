"""Operations of safely on a database, without the files of a project."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine

from safely.database import LOCK_TIMEOUT, begin_sqlite, prepare_sqlite
from safely.ledger.ledger import Work

Operation = Callable[[], object]


class Database:
    """An SQLite database that takes operations as a revision does: in one transaction."""

    def __init__(self, address: str = "sqlite://") -> None:
        self.engine = engine_for(address)

    def revise(self, *operations: Operation, up: bool = True, revision: str = "0001") -> None:
        """Run operations as the body of a revision; undo all of them where one is refused."""
        with self.engine.begin() as connection, revising(connection, up=up, revision=revision):
            for operation in operations:
                operation()

    def execute(self, *statements: str) -> None:
        """Execute statements and commit."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def schema(self) -> dict[str, str]:
        """Return the SQL of all that is in the schema, by name."""
        return dict(self.rows("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def engine_for(address: str) -> Engine:
    """Return an engine with the transactions and the settings of the one of safely."""
    engine = sa.create_engine(address, poolclass=sa.StaticPool)
    sa.event.listen(engine, "connect", prepare_sqlite)
    sa.event.listen(engine, "begin", begin_sqlite)
    return engine


@contextmanager
def revising(connection: Connection, *, up: bool = True, revision: str = "0001") -> Iterator[None]:
    """Let operations run on the connection, as in a revision's body."""
    options = {"transaction_per_migration": True, "transactional_ddl": True}
    migration = MigrationContext.configure(connection, opts=options)
    migration.opts.update(revision=revision, is_upgrade=up, lock_timeout=LOCK_TIMEOUT, work=Work())
    with migration.begin_transaction(_per_migration=True), Operations.context(migration):
        yield
