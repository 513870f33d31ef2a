"""Sequences of the models in autogenerate, which Alembic neither compares nor creates.

Each must be in the database already: no operation makes one. SQLite has none, and numbers the rows
of an integer primary key by itself.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import sqlalchemy as sa
from alembic.operations.ops import UpgradeOps
from alembic.runtime.plugins import Plugin
from alembic.util import CommandError, DispatchPriority, PriorityDispatchResult
from sqlalchemy.schema import DefaultClause
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import next_value

from safely.alembic_internals import AutogenContext, sequences_alone

NAME = "safely.sequences"  # of our plugin of Alembic


@cache
def register() -> str:
    """Make our plugin known to Alembic, once; return its name."""
    plugin = Plugin(NAME)
    for qualifier, comparator in (
        ("postgresql", refuse_missing),
        ("sqlite", refuse_on_sqlite),
    ):
        plugin.add_autogenerate_comparator(
            comparator, "schema", qualifier=qualifier, priority=DispatchPriority.FIRST
        )
    return NAME


def refuse_missing(
    context: AutogenContext, _: UpgradeOps, __: set[str | None]
) -> PriorityDispatchResult:
    """Raise CommandError for a sequence of the models that the database lacks (PostgreSQL)."""
    assert context.connection is not None  # noqa: S101  # autogenerate always has one
    inspector = sa.inspect(context.connection)
    for place, sequence in sequences_of_models(context):
        schema = sequence.schema or context.opts["project"].schema
        if not inspector.has_sequence(sequence.name, schema=schema):
            create = str(sa.schema.CreateSequence(sequence).compile(dialect=context.dialect))
            create = create.replace("CREATE SEQUENCE", "CREATE SEQUENCE IF NOT EXISTS", 1)
            raise CommandError(
                f"{place} has the sequence {sequence.name}, which the database lacks, and "
                "autogenerate makes none. Make it in a revision of its own first (alembic "
                f'revision -m "…"): op.execute({create!r}), and leave it there in the downgrade; '
                "or write sa.Identity() for a column that numbers rows"
            )
    return PriorityDispatchResult.CONTINUE


def refuse_on_sqlite(
    context: AutogenContext, _: UpgradeOps, __: set[str | None]
) -> PriorityDispatchResult:
    """Raise CommandError for a column whose values a sequence would give (SQLite)."""
    for table, column in columns_of_models(context):
        if not column.primary_key and next(sequences_of(column), None) is not None:
            raise CommandError(
                f"{table.name}.{column.name} has a sequence, which SQLite lacks: it would be NULL. "
                "Let the application give it a value, or make it the primary key"
            )
    return PriorityDispatchResult.CONTINUE


def sequences_of_models(context: AutogenContext) -> Iterator[tuple[str, sa.Sequence]]:
    """Yield the sequences of the models' columns, and those of no column, each with its place."""
    for table, column in columns_of_models(context):
        for sequence in sequences_of(column):
            yield f"{table.name}.{column.name}", sequence
    for sequence in sequences_alone(context):
        yield "the models' MetaData", sequence


def columns_of_models(
    context: AutogenContext,
) -> Iterator[tuple[sa.Table, sa.Column[Any]]]:
    """Yield the columns of the models' tables that env.py lets autogenerate see."""
    for table in context.sorted_tables:
        if context.run_object_filters(table, table.name, "table", False, None):  # noqa: FBT003  # Alembic's
            for column in table.columns:
                yield table, column


def sequences_of(column: sa.Column[Any]) -> Iterator[sa.Sequence]:
    """Yield the sequences that give a column its values."""
    if isinstance(column.default, sa.Sequence) and not column.default.optional:
        yield column.default
    default = column.server_default
    if isinstance(default, DefaultClause) and isinstance(default.arg, sa.ColumnElement):
        for part in visitors.iterate(default.arg):
            if isinstance(part, next_value):
                yield part.sequence
