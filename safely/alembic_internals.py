"""All that `safely` uses of Alembic beyond its documented interface, in one file.

Alembic is pinned to one minor version (pyproject.toml). `missing` names what a newer one lacks,
and a test calls it.
"""

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeAlias

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _render_server_default as render_server_default
from alembic.autogenerate.render import _repr_type as render_type
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.ddl.sqlite import SQLiteImpl
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep, StampStep

Step: TypeAlias = RevisionStep | StampStep
Work: TypeAlias = Callable[[Any, MigrationContext], Iterable[Step]]
"""What a command of Alembic gives to its EnvironmentContext as `fn`."""

USED = (  # module, name in it, attribute of that or ""
    ("alembic.util.langhelpers", "ModuleClsProxy", "_proxy"),
    ("alembic.runtime.environment", "EnvironmentContext", "context_opts"),
    ("alembic.runtime.environment", "EnvironmentContext", "_migration_context"),
    ("alembic.runtime.migration", "MigrationContext", "_in_external_transaction"),
    ("alembic.runtime.migration", "MigrationContext", "on_version_apply_callbacks"),
    ("alembic.runtime.migration", "MigrationContext", "_version"),
    ("alembic.runtime.migration", "RevisionStep", "migration_fn"),
    ("alembic.autogenerate.render", "_render_server_default", ""),
    ("alembic.autogenerate.render", "_repr_type", ""),
    ("alembic.ddl.postgresql", "PostgresqlImpl", "_cleanup_index_expr"),
    ("alembic.ddl.sqlite", "SQLiteImpl", "_compare_identity_default"),
)

__all__ = [
    "AutogenContext",
    "EnvironmentContext",
    "MigrationContext",
    "MigrationInfo",
    "PostgresqlImpl",
    "RevisionStep",
    "SQLiteImpl",
    "StampStep",
    "Step",
    "Work",
    "current_environment",
    "is_configured",
    "missing",
    "render_server_default",
    "render_type",
    "version_table",
    "was_in_transaction",
]


def current_environment() -> EnvironmentContext | None:
    """Return the EnvironmentContext whose env.py is running; None outside of one."""
    return getattr(context, "_proxy", None)


def is_configured(environment: EnvironmentContext) -> bool:
    """Return whether env.py has called context.configure()."""
    return environment._migration_context is not None  # noqa: SLF001  # here it is allowed


def was_in_transaction(migration: MigrationContext) -> bool:
    """Return whether context.configure() got a connection whose transaction had begun already."""
    return bool(migration._in_external_transaction)  # noqa: SLF001  # here it is allowed


def version_table(migration: MigrationContext) -> str:
    """Return the version table's name as SQL, with its schema where env.py names one."""
    preparer = migration.dialect.identifier_preparer
    return str(preparer.format_table(migration._version))  # noqa: SLF001  # here it is allowed


def missing() -> list[str]:
    """Return a sentence for each name of USED that this version of Alembic lacks."""
    sentences = []
    for module, name, attribute in USED:
        there = getattr(import_module(module), name, None)
        if there is None:
            sentences.append(f"{module} has no {name} any more")
        elif attribute and not (hasattr(there, attribute) or attribute in inspect.getsource(there)):
            sentences.append(f"{module}.{name} has no {attribute} any more")
    return sentences
