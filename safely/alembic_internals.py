"""All that `safely` uses of Alembic beyond its documented interface, in one file.

One name of SQLAlchemy is private as well. Alembic is pinned to one minor version (pyproject.toml).
`missing` names what a newer one lacks, and a test calls it.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from alembic import context, op
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _render_constraint as render_constraint
from alembic.autogenerate.render import _render_server_default as render_server_default
from alembic.autogenerate.render import _repr_type as render_type
from alembic.ddl.impl import ComparisonResult
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep, StampStep
from alembic.script import Script, ScriptDirectory
from alembic.util.sqla_compat import is_expression_index
from sqlalchemy import Dialect, Index, MetaData, Sequence

Step: TypeAlias = RevisionStep | StampStep
Work: TypeAlias = Callable[[Any, MigrationContext], Iterable[Step]]
"""The work of a command: the `fn` that Alembic gives to its EnvironmentContext."""

USED = (  # module, name in it, attribute of that or ""
    ("alembic.util.langhelpers", "ModuleClsProxy", "_proxy"),
    ("alembic.util.langhelpers", "ModuleClsProxy", "_install_proxy"),
    ("alembic.operations.batch", "BatchOperationsImpl", "self.batch.append"),
    ("alembic.ddl.impl", "DefaultImpl", "_exec"),
    ("alembic.runtime.environment", "EnvironmentContext", "context_opts"),
    ("alembic.runtime.environment", "EnvironmentContext", "_migration_context"),
    ("alembic.runtime.migration", "MigrationContext", "_in_external_transaction"),
    ("alembic.runtime.migration", "MigrationContext", "on_version_apply_callbacks"),
    ("alembic.runtime.migration", "MigrationContext", "_version"),
    ("alembic.runtime.migration", "RevisionStep", "migration_fn"),
    ("alembic.runtime.migration", "StampStep", "branch_move"),
    ("alembic.command", "upgrade", "def upgrade(rev, context)"),
    ("alembic.command", "downgrade", "def downgrade(rev, context)"),
    ("alembic.command", "stamp", "def do_stamp(rev, context)"),
    ("alembic.command", "current", "def display_version(rev, context)"),
    ("alembic.command", "history", "def _display_current_history(rev, context)"),
    ("alembic.command", "merge", "def nothing(rev, context)"),
    ("alembic.command", "ensure_version", "def do_ensure_version(rev, context)"),
    ("alembic.command", "revision", "def retrieve_migrations(rev, context)"),
    ("alembic.command", "revision", "revision_context=revision_context"),
    ("alembic.autogenerate.api", "RevisionContext", "command_args"),
    ("alembic.script", "ScriptDirectory", "_version_locations"),
    ("alembic.script", "Script", "_list_py_dir"),
    ("alembic.script", "Script", "_from_path"),
    ("alembic.autogenerate.render", "_render_constraint", ""),
    ("alembic.autogenerate.render", "_render_server_default", ""),
    ("alembic.autogenerate.render", "_repr_type", ""),
    ("alembic.ddl.postgresql", "PostgresqlImpl", "_cleanup_index_expr"),
    ("alembic.ddl.sqlite", "SQLiteImpl", "_compare_identity_default"),
    ("alembic.ddl.impl", "ComparisonResult", ""),
    ("alembic.ddl.sqlite", "SQLiteImpl", "compare_indexes"),
    ("alembic.ddl.sqlite", "SQLiteImpl", "correct_for_autogen_constraints"),
    ("alembic.util.sqla_compat", "is_expression_index", ""),
    ("sqlalchemy", "MetaData", "_sequences"),
)

__all__ = [
    "AutogenContext",
    "EnvironmentContext",
    "MigrationContext",
    "MigrationInfo",
    "RevisionStep",
    "StampStep",
    "Step",
    "Work",
    "compare_indexes_without_collation",
    "current_environment",
    "ignore_identities",
    "is_configured",
    "load_each",
    "missing",
    "nested",
    "operations_kept",
    "render_constraint",
    "render_server_default",
    "render_type",
    "version_table",
    "was_in_transaction",
]


def current_environment() -> EnvironmentContext | None:
    """Return the EnvironmentContext whose env.py is running; None outside of one."""
    return getattr(context, "_proxy", None)


@contextmanager
def nested(inner: EnvironmentContext) -> Iterator[EnvironmentContext]:
    """Yield a context in which `alembic.context` and `op` work, also while an env.py runs.

    Alembic has one at a time, and its own exit would leave none for the env.py that runs.
    """
    outer = current_environment()
    try:
        with inner:
            yield inner
    finally:
        if outer is not None:
            outer.__enter__()


@contextmanager
def operations_kept() -> Iterator[None]:
    """Let `op` go on working afterwards where a block uses an Operations of its own.

    Alembic has one at a time, and the end of an inner one would leave none.
    """
    outer = getattr(op, "_proxy", None)
    try:
        yield
    finally:
        if outer is not None:
            outer._install_proxy()  # noqa: SLF001  # here it is allowed


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


def load_each(script: ScriptDirectory) -> Iterator[tuple[Path, Callable[[], Script | None]]]:
    """Yield the path of each revision file, and a function that loads it.

    That returns None for a file that is no revision, and raises what the file raises.
    """
    for location in script._version_locations:  # noqa: SLF001  # here it is allowed
        if location.exists():
            for path in sorted(Script._list_py_dir(script, location)):  # noqa: SLF001  # likewise
                yield path, partial(Script._from_path, script, path)  # noqa: SLF001  # likewise


def missing(used: Iterable[tuple[str, str, str]] = USED) -> list[str]:
    """Return a sentence for each name of `used` that this version of Alembic lacks."""
    sentences = []
    for module, name, attribute in used:
        there = getattr(import_module(module), name, None)
        if there is None:
            sentences.append(f"{module} has no {name} any more")
        elif attribute and not (hasattr(there, attribute) or attribute in inspect.getsource(there)):
            sentences.append(f"{module}.{name} has no {attribute} any more")
    return sentences


def sequences_alone(context: AutogenContext) -> list[Sequence]:
    """Return the sequences of the models' MetaData that are the default of no column."""
    metadata = context.metadata
    several = [metadata] if isinstance(metadata, MetaData) else list(metadata or ())
    sequences = [s for one in several for s in one._sequences.values()]  # noqa: SLF001  # SQLAlchemy's
    return [sequence for sequence in sequences if sequence.column is None]


def compare_indexes_without_collation(impl: Any) -> None:
    """Let a context compare index expressions without COLLATE, which PostgreSQL does not return."""
    clean = impl._cleanup_index_expr  # noqa: SLF001  # here it is allowed

    def without_collation(index: Index, expression: str) -> str:
        return str(clean(index, re.sub(r' COLLATE "?\w+"?', "", expression)))

    impl._cleanup_index_expr = without_collation  # noqa: SLF001  # of this context alone


def compare_indexes_on_expressions(
    impl: Any, same: Callable[[Dialect, Index, Index], bool]
) -> None:
    """Let a context of SQLite compare indexes on expressions, by a function, and not skip them."""
    compare = impl.compare_indexes

    def with_expressions(wanted: Index, existing: Index) -> ComparisonResult:
        if not (is_expression_index(wanted) or is_expression_index(existing)):
            return compare(wanted, existing)  # type: ignore[no-any-return]  # Alembic's
        if same(impl.dialect, wanted, existing):
            return ComparisonResult.Equal()
        return ComparisonResult.Different("another expression")

    impl.compare_indexes = with_expressions
    impl.correct_for_autogen_constraints = lambda *_: None


def ignore_identities(impl: Any) -> None:
    """Let a context compare no identity columns: SQLite has AUTOINCREMENT in their place."""
    nothing: tuple[set[str], set[str], bool] = (set(), set(), False)
    impl._compare_identity_default = lambda *_: nothing  # noqa: SLF001  # of this context alone
