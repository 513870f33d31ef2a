"""What `alembic revision --autogenerate` writes: numbers, safe operations, `import safely`.

Nothing global of Alembic is changed: `set_up` prepares the context of one command.
"""

from collections.abc import Callable, Iterable
from typing import Any

from alembic.autogenerate.render import renderers
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    MigrateOperation,
    MigrationScript,
    ModifyTableOps,
)
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import CheckConstraint

from safely.alembic_internals import (
    AutogenContext,
    MigrationContext,
    compare_indexes_without_collation,
    ignore_identities,
    render_server_default,
    render_type,
)
from safely.ledger.ledger import LOG
from safely.operations.aside import PREFIX
from safely.operations.columns import refuse_without_value
from safely.project import Project

DIGITS = 4
PREFIXES = {"op.": "safely."}  # Alembic's own prefix of operations, and ours


def set_up(migration: MigrationContext, project: Project) -> None:
    """Let the command that compares and writes revisions do it our way, after the hooks of env.py.

    Left out of the comparison: what is set aside, and the ledger.
    """
    options = migration.opts
    options["alembic_module_prefix"] = PREFIXES.get(
        options["alembic_module_prefix"], options["alembic_module_prefix"]
    )
    options["include_object"] = both(options.get("include_object"))
    hook = options.get("process_revision_directives")

    def directives(
        context: MigrationContext, revision: Any, scripts: list[MigrationScript]
    ) -> None:
        if hook:
            hook(context, revision, scripts)
        process(context, scripts, project)

    options["process_revision_directives"] = directives
    compare_as_the_database_does(migration.impl)


def both(filter_of_env: Callable[..., bool] | None) -> Callable[..., bool]:
    """Return a filter of objects that lets pass what ours and that of env.py do."""

    def include(item: Any, name: str | None, *others: Any) -> bool:
        return is_ours(item, name) and (filter_of_env is None or filter_of_env(item, name, *others))

    return include


def is_ours(item: Any, name: str | None) -> bool:
    """Return whether autogenerate and `alembic check` see an object.

    On SQLite a CHECK keeps its name while its column is aside.
    """
    if isinstance(item, CheckConstraint) and PREFIX in str(item.sqltext):
        return False
    return name is None or not (name.startswith(PREFIX) or name == LOG.name)


def compare_as_the_database_does(impl: Any) -> None:
    """Let this context compare what the database does not return as it was written."""
    if impl.__dialect__ == "postgresql":
        compare_indexes_without_collation(impl)
    elif impl.__dialect__ == "sqlite":
        ignore_identities(impl)


def process(context: MigrationContext, scripts: list[MigrationScript], project: Project) -> None:
    """Number new files if the project does, and refuse what could not be run as it stands."""
    script = context.script
    assert script is not None  # noqa: S101  # Alembic always has one here
    renderers.dispatch_for(SafeAlterColumn, replace=True)(render_alter_column)
    for directive in scripts:
        if project.numbered:
            directive.rev_id = f"{last_number(script) + 1:0{DIGITS}}"
        directive.imports.add("import safely")
        for operations in (*directive.upgrade_ops_list, *directive.downgrade_ops_list):
            operations.ops = spelled(operations.ops)
        for operations in directive.upgrade_ops_list:
            refuse_columns_without_value(operations.ops)


def last_number(script: ScriptDirectory) -> int:
    """Return the highest number among the revisions; 0 where there are none.

    Raise CommandError for an id that is no number.
    """
    ids = [revision.revision for revision in script.walk_revisions()]
    if strange := [revision for revision in ids if not revision.isdecimal()]:
        raise CommandError(
            f"the revision {strange[0]} has no number, and this project numbers its revisions "
            "(Project(numbered=True) in env.py): rename it, or leave numbering out"
        )
    return max(map(int, ids), default=0)


def refuse_columns_without_value(operations: Iterable[object]) -> None:
    """Refuse to write what `safely.add_column` would refuse to run."""
    for operation in operations:
        if isinstance(operation, ModifyTableOps):
            refuse_columns_without_value(operation.ops)
        elif isinstance(operation, AddColumnOp):
            refuse_without_value(operation.table_name, operation.column)


class SafeAlterColumn(AlterColumnOp):
    """Changes of a column, rendered as one line for each thing that changes, by its safe name."""


def spelled(operations: Iterable[MigrateOperation]) -> list[MigrateOperation]:
    """Return the operations with those on columns as SafeAlterColumn."""
    result: list[MigrateOperation] = []
    for operation in operations:
        if isinstance(operation, ModifyTableOps):
            operation.ops = spelled(operation.ops)
            result.append(operation)
        elif type(operation) is AlterColumnOp:
            safe = SafeAlterColumn.__new__(SafeAlterColumn)
            vars(safe).update(vars(operation))
            result.append(safe)
        else:
            result.append(operation)
    return result


def render_alter_column(context: AutogenContext, operation: SafeAlterColumn) -> list[str]:
    """Return one line for each thing that changes, by its safe name."""
    column = f"{operation.table_name!r}, {operation.column_name!r}"
    schema = f", schema={operation.schema!r}" if operation.schema else ""
    lines = []
    if operation.modify_type is not None:
        type_ = render_type(operation.modify_type, context)
        lines.append(f"safely.change_type({column}, {type_}{schema})")
    if operation.modify_server_default is not False:
        default = render_server_default(operation.modify_server_default, context)
        lines.append(f"safely.change_default({column}, {default}{schema})")
    if operation.modify_nullable is False:
        lines.append(f"safely.require_column({column}{schema})")
    elif operation.modify_nullable:
        lines.append(f"safely.allow_null({column}{schema})")
    return lines
