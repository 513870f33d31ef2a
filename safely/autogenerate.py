"""What `alembic revision --autogenerate` writes: the next number, and the safe spellings.

Alembic renders every operation with the prefix `safely.` (env.py sets it); here is what a
prefix can't do.
"""

import re
from collections.abc import Iterable, Sequence

from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import (  # the pieces of the rendering that we replace
    _render_server_default,
    _repr_type,
    renderers,
)
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.ddl.sqlite import SQLiteImpl
from alembic.operations.ops import AddColumnOp, AlterColumnOp, MigrationScript, ModifyTableOps
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Index
from sqlalchemy.schema import SchemaItem

from safely.ledger.ledger import LOG
from safely.operations.aside import PREFIX
from safely.operations.columns import refuse_without_value

DIGITS = 4


class CollatedPostgresqlImpl(PostgresqlImpl):
    """Compares index expressions without COLLATE, which PostgreSQL doesn't tell back with them."""

    __dialect__ = "postgresql"  # takes the place of Alembic's own

    def _cleanup_index_expr(self, index: Index, expr: str) -> str:
        return super()._cleanup_index_expr(index, re.sub(r' COLLATE "?\w+"?', "", expr))


class IdentitylessSQLiteImpl(SQLiteImpl):
    """Asks for no identity columns where there are none; AUTOINCREMENT does their work."""

    __dialect__ = "sqlite"  # takes the place of Alembic's own

    def _compare_identity_default(self, *_: object) -> tuple[set[str], set[str], bool]:
        return set(), set(), False


def is_ours(item: SchemaItem, name: str | None, *_: object) -> bool:
    """Whether autogenerate and `alembic check` see it: not what is set aside, nor the ledger.

    On SQLite a CHECK keeps its name while its column is aside.
    """
    if isinstance(item, CheckConstraint) and PREFIX in str(item.sqltext):
        return False
    return name is None or not (name.startswith(PREFIX) or name == LOG.name)


def number_the_revision(
    context: MigrationContext, _: Sequence[str | None], scripts: list[MigrationScript]
) -> None:
    """Give a new file the number after the last, and refuse what could not be run as it stands."""
    script = context.script
    assert script is not None  # noqa: S101  # Alembic always has one here
    for directive in scripts:
        directive.rev_id = f"{last_number(script) + 1:0{DIGITS}}"
        if directive.upgrade_ops is not None:
            refuse_columns_without_value(directive.upgrade_ops.ops)


def last_number(script: ScriptDirectory) -> int:
    """The highest number among the revisions; 0 when there are none."""
    return max((int(revision.revision) for revision in script.walk_revisions()), default=0)


def refuse_columns_without_value(operations: Iterable[object]) -> None:
    """Refuse to write what `safely.add_column` would refuse to run."""
    for operation in operations:
        if isinstance(operation, ModifyTableOps):
            refuse_columns_without_value(operation.ops)
        elif isinstance(operation, AddColumnOp):
            refuse_without_value(operation.table_name, operation.column)


@renderers.dispatch_for(AlterColumnOp, replace=True)
def render_alter_column(context: AutogenContext, operation: AlterColumnOp) -> list[str]:
    """One line for each thing that changes, by its safe name."""
    column = f"{operation.table_name!r}, {operation.column_name!r}"
    lines = []
    if operation.modify_type is not None:
        lines.append(f"safely.change_type({column}, {_repr_type(operation.modify_type, context)})")
    if operation.modify_server_default is not False:
        default = _render_server_default(operation.modify_server_default, context)
        lines.append(f"safely.change_default({column}, {default})")
    if operation.modify_nullable is False:
        lines.append(f"safely.require_column({column})")
    elif operation.modify_nullable:
        lines.append(f"safely.allow_null({column})")
    return lines
