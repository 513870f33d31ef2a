"""All that `safely` uses of Alembic beyond its documented interface, in one file.

Alembic is pinned to one minor version (pyproject.toml). `missing()` names what a newer one lacks,
and a test calls it.
"""

from collections.abc import Callable, Iterable
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
    ("alembic.context", "_proxy", ""),
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
    "render_server_default",
    "render_type",
]


def current_environment() -> EnvironmentContext | None:
    """Return the EnvironmentContext whose env.py is running; None outside of one."""
    return getattr(context, "_proxy", None)
