"""Enums in autogenerate and `alembic check`, which compare no types themselves.

SQLite has no types to compare. What is generated there creates those of new tables and columns, so
that it runs on PostgreSQL as well; it can't tell which labels a column had.
"""

import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from alembic.autogenerate.render import renderers
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    CreateTableOp,
    DropColumnOp,
    DropTableOp,
    MigrateOperation,
    ModifyTableOps,
    UpgradeOps,
)
from alembic.runtime.plugins import Plugin
from alembic.util import CommandError, DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Connection, text
from sqlalchemy.dialects.postgresql import ENUM, dialect

from safely.alembic_internals import AutogenContext
from safely.operations.enum_sql import LABELS, NOTE
from safely.operations.enums import enum_of

NAME = "safely.enums"  # of our plugin of Alembic, which compares only where a command names it
POSTGRESQL = dialect()  # type: ignore[no-untyped-call]  # those of SQLAlchemy have no types

WIDTH = 90  # of a line of a comment, without what stands before it

TYPES = f"""\
SELECT typname, {LABELS.format(oid="t.oid", note=NOTE.format(oid="t.oid"))},
       ARRAY(SELECT ARRAY[relname::text, attname::text, CASE WHEN attnotnull THEN 'NOT NULL' END]
             FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE atttypid IN (t.oid, t.typarray) AND NOT attisdropped AND relkind IN ('r', 'p')
               AND NOT relispartition AND relnamespace = typnamespace
               AND NOT starts_with(attname, '_aside_') ORDER BY relname, attname)
FROM pg_type AS t JOIN pg_namespace ON pg_namespace.oid = typnamespace
WHERE typtype = 'e' AND nspname = coalesce(:schema, current_schema)
  AND ({NOTE.format(oid="t.oid")} ? 'set aside by') IS NOT TRUE
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid
                  AND deptype = 'e')
ORDER BY typname"""


class CreateEnumOp(MigrateOperation):
    """A new enum type."""

    def __init__(self, name: str, labels: Sequence[str], schema: str | None) -> None:
        self.name = name
        self.labels = labels
        self.schema = schema

    def reverse(self) -> "DropEnumOp":
        """Return the opposite."""
        return DropEnumOp(self.name, self.labels, self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return how `alembic check` names the difference."""
        return ("add_enum", self.name, list(self.labels))


class DropEnumOp(CreateEnumOp):
    """An enum type that no model has any more."""

    def reverse(self) -> CreateEnumOp:  # type: ignore[override]  # the opposite of a subclass
        """Return the opposite."""
        return CreateEnumOp(self.name, self.labels, self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return how `alembic check` names the difference."""
        return ("remove_enum", self.name, list(self.labels))


class ChangeEnumOp(MigrateOperation):
    """An enum type with other labels."""

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        existing: Sequence[str],
        columns: Sequence[tuple[str, str, str | None]],
        schema: str | None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.existing = existing
        self.columns = columns  # table, column, and whether it is NOT NULL
        self.schema = schema
        self.refusal: str | None = None  # why upgrade would refuse it as it stands

    def reverse(self) -> "ChangeEnumOp":
        """Return the opposite."""
        return ChangeEnumOp(self.name, self.existing, self.labels, self.columns, self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return how `alembic check` names the difference."""
        return ("modify_enum", self.name, list(self.existing), list(self.labels))


@cache
def register() -> str:
    """Make our operations and our plugin known to Alembic, once; return the plugin's name."""
    renderers.dispatch_for(CreateEnumOp)(render_create)
    renderers.dispatch_for(DropEnumOp)(render_drop)
    renderers.dispatch_for(ChangeEnumOp)(render_change)
    plugin = Plugin(NAME)
    for qualifier, comparator in (("postgresql", compare_enums), ("sqlite", add_new_enums)):
        plugin.add_autogenerate_comparator(
            comparator, "schema", qualifier=qualifier, priority=DispatchPriority.LAST
        )
    return NAME


def compare_enums(
    context: AutogenContext, operations: UpgradeOps, _: set[str | None]
) -> PriorityDispatchResult:
    """Add the operations that give the database the enum types of the models."""
    schema = context.opts["project"].schema
    assert context.connection is not None  # noqa: S101  # autogenerate always has one
    wanted = enums_of_models(context, schema)
    existing = enums_of_database(context.connection, schema)
    first: list[MigrateOperation] = []
    for name, labels in wanted.items():
        if name not in existing:
            first.append(CreateEnumOp(name, labels, schema))
            continue
        before, columns = existing[name]
        if before != labels:
            refuse_other_order(name, before, labels)
            refuse_leaving(name, columns, operations.ops)
            first.append(ChangeEnumOp(name, labels, before, columns, schema))
    leaving = set(columns_leaving(operations.ops))
    last = [
        DropEnumOp(name, labels, schema)
        for name, (labels, columns) in existing.items()
        if name not in wanted
        and all(leaving & {(table, column), (table, None)} for table, column, _ in columns)
    ]
    operations.ops[:] = [*first, *operations.ops, *last]
    return PriorityDispatchResult.CONTINUE


def add_new_enums(
    context: AutogenContext, operations: UpgradeOps, _: set[str | None]
) -> PriorityDispatchResult:
    """Add the operations that create the types which only new tables and columns have (SQLite)."""
    added = set(columns_added(operations.ops))
    old = {
        str(enum.name)
        for column, enum in columns_of_models(context)
        if not added & {(column.table.name, column.name), (column.table.name, None)}
    }
    wanted = enums_of_models(context, None)
    new = [CreateEnumOp(name, wanted[name], None) for name in wanted if name not in old]
    operations.ops[:] = [*new, *operations.ops]
    return PriorityDispatchResult.CONTINUE


def columns_of_models(context: AutogenContext) -> Iterator[tuple[Column[Any], ENUM]]:
    """Yield the columns of the models that have an enum type on PostgreSQL, with the type."""
    for table in context.sorted_tables:
        if context.run_object_filters(table, table.name, "table", False, None):  # noqa: FBT003  # Alembic's
            for column in table.columns:
                if (enum := enum_of(column.type, POSTGRESQL)) is None:
                    continue
                if enum.name is None and context.dialect.name == "sqlite":
                    continue
                if enum.name is None:
                    raise CommandError(
                        f"the Enum of {table.name}.{column.name} has no name, and PostgreSQL needs "
                        "one: write Enum(…, name=…)"
                    )
                yield column, enum


def enums_of_models(context: AutogenContext, schema: str | None) -> dict[str, list[str]]:
    """Return the labels of each enum type that the models have in the project's schema.

    Raise CommandError where two models give one type different labels.
    """
    enums: dict[str, list[str]] = {}
    own = {None, schema or context.dialect.default_schema_name}
    for column, enum in columns_of_models(context):
        if enum.schema not in own:
            continue
        labels = enums.setdefault(str(enum.name), list(enum.enums))
        if labels != list(enum.enums):
            raise CommandError(
                f"the models give the type {enum.name} the labels {', '.join(labels)}, and in "
                f"{column.table.name}.{column.name} {', '.join(enum.enums)}: write one Enum, and "
                "use it for all columns"
            )
    return enums


def enums_of_database(
    connection: Connection, schema: str | None
) -> dict[str, tuple[list[str], list[tuple[str, str, str | None]]]]:
    """Return labels and columns of each enum type that is not set aside, nor an extension's."""
    query = text(TYPES.replace("::", r"\:\:"))
    return {
        name: (list(labels), [tuple(column) for column in columns])
        for name, labels, columns in connection.execute(query, {"schema": schema})
    }


def refuse_other_order(name: str, before: Sequence[str], after: Sequence[str]) -> None:
    """Raise CommandError for labels in another order, which `safely.change_enum` refuses."""
    if [label for label in before if label in after] != [
        label for label in after if label in before
    ]:
        raise CommandError(
            f"the type {name} has its labels in the order {', '.join(before)}, which PostgreSQL "
            f"can't change: write them so in the model, and new ones where you like"
        )


def refuse_leaving(
    name: str,
    columns: Sequence[tuple[str, str, str | None]],
    operations: Sequence[MigrateOperation],
) -> None:
    """Raise CommandError where a column whose labels change is dropped or retyped, too.

    Both would set it aside, and it can't be aside twice under one name.
    """
    for place in {(table, column) for table, column, _ in columns} & set(
        columns_leaving(operations)
    ):
        raise CommandError(
            f"the labels of {name} change, and {'.'.join(map(str, place))}, which has them, is "
            "dropped or gets another type: take two revisions. Put the labels in the model back, "
            "generate the one, and then the other"
        )


def columns_leaving(
    operations: Sequence[MigrateOperation],
) -> Iterator[tuple[str, str | None]]:
    """Yield table and column of what is dropped or gets another type; None: all columns."""
    for operation in operations:
        if isinstance(operation, ModifyTableOps):
            yield from columns_leaving(operation.ops)
        elif isinstance(operation, DropTableOp):
            yield operation.table_name, None
        elif isinstance(operation, DropColumnOp) or (
            isinstance(operation, AlterColumnOp) and operation.modify_type is not None
        ):
            yield operation.table_name, operation.column_name


def columns_added(operations: Sequence[MigrateOperation]) -> Iterator[tuple[str, str | None]]:
    """Yield table and column of what is added; None: all columns."""
    for operation in operations:
        if isinstance(operation, ModifyTableOps):
            yield from columns_added(operation.ops)
        elif isinstance(operation, CreateTableOp):
            yield operation.table_name, None
        elif isinstance(operation, AddColumnOp):
            yield operation.table_name, operation.column.name


def call(function: str, operation: Any, *arguments: str) -> str:
    """Return the code of a call of `safely`."""
    schema = [f"schema={operation.schema!r}"] if operation.schema else []
    return f"safely.{function}({', '.join([repr(operation.name), *arguments, *schema])})"


def as_note(refusal: str | None) -> list[str]:
    """Return the lines of a comment that tells why upgrade refuses a call; none for None."""
    if refusal is None:
        return []
    text = f"upgrade refuses this as it stands: {refusal}"
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH, break_long_words=False)]


def render_create(_: AutogenContext, operation: CreateEnumOp) -> str:
    """Return the code that creates a type."""
    return call("create_enum", operation, *map(repr, operation.labels))


def render_drop(_: AutogenContext, operation: DropEnumOp) -> str:
    """Return the code that sets a type aside."""
    return call("drop_enum", operation)


def render_change(_: AutogenContext, operation: ChangeEnumOp) -> list[str]:
    """Return the code that gives a type other labels, with what only the author knows."""
    gone = [label for label in operation.existing if label not in operation.labels]
    comments = as_note(operation.refusal)
    if gone:
        comments.append(f"# if a label was only renamed, write renamed={{{gone[0]!r}: ...}}")
    is_required = any(required for _, _, required in operation.columns)
    if is_required and set(operation.labels) - set(operation.existing):
        comments.append(
            f"# older builds read NULL for a label that they lack: "
            f"older_builds_see={operation.existing[0]!r}"
        )
    code = call(
        "change_enum",
        operation,
        *map(repr, operation.labels),
        f"existing={list(operation.existing)!r}",
        f"columns={[(table, column) for table, column, _ in operation.columns]!r}",
    )
    return [*comments, code]
