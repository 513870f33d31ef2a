"""The steps of an Alembic command, and what belongs to the transaction of each.

A step's transaction: a row in the ledger, the revision's body, its published version, the row
finished with the schema's snapshot.
"""

import functools
import logging
import re
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import op
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import ArgumentError, DBAPIError

from safely import alembic_internals as alembic
from safely.alembic_internals import (
    MigrationContext,
    MigrationInfo,
    RevisionStep,
    StampStep,
    Step,
)
from safely.errors import first_line, is_about_a_connection, is_migrators
from safely.ledger import ledger
from safely.ledger.ledger import Entry, Half, Work
from safely.lint.formats import one_line
from safely.operations.connection import run
from safely.operations.rebuild import dangling_references
from safely.project import Project
from safely.revisions import refuse_unusable_id, with_ancestors
from safely.run import guard, owned, published
from safely.run.guard import half_of
from safely.run.invariants import invariants_kept
from safely.run.retry import Overtaken

# the search_path, and whether a schema of it exists; names are folded as PostgreSQL folds them
SEARCH_PATH = text("""\
SELECT current_setting('search_path'), EXISTS (
  SELECT FROM unnest(string_to_array(current_setting('search_path'), ',')) AS part
  JOIN pg_namespace ON nspname = CASE WHEN btrim(part, ' "') = '$user' THEN current_user
    WHEN part LIKE '%"%' THEN btrim(part, ' "') ELSE lower(btrim(part)) END)""")
WRONG_ARGUMENT = r"unexpected keyword|required (positional|keyword)|positional arg|Additional arg"

log = logging.getLogger("safely")


def only(planned: Step, project: Project) -> alembic.Work:
    """Return the work of one step, for context.configure(fn=…).

    It raises Overtaken where the database is not any more where the step begins.
    """

    def work(heads: Collection[str], migration: MigrationContext) -> Iterator[Step]:
        refuse_transaction(migration)
        if not is_due(planned, heads, script_of(migration)):
            raise Overtaken
        prepare(migration, project)
        yield recorded(planned, migration)

    return work


def printed(
    fn: alembic.Work, project: Project, lock_timeout: str, *, config: Config, unsafe: str
) -> alembic.Work:
    """Return the work of a command under `--sql`: all of its steps, with the ledger's table.

    Above each step stand its grave findings, which would stop it where it isn't printed. `unsafe`:
    why they are to be run all the same.
    """

    def work(heads: Collection[str], migration: MigrationContext) -> Iterator[Step]:
        if migration.dialect.name not in ledger.SNAPSHOT:
            raise CommandError(
                f"safely migrates PostgreSQL and SQLite, not {migration.dialect.name}"
            )
        prepare(migration, project)
        migration.opts.update(work=None, lock_timeout=lock_timeout)
        if migration.dialect.name == "postgresql":
            migration.impl.static_output(f"SET lock_timeout = '{lock_timeout}';")
        steps = list(fn(heads, migration))
        dialect, script = migration.dialect.name, script_of(migration)
        judge = guard.Guard(config=config, script=script, project=project, dialect=dialect)
        grave = judge.grave(steps)
        with in_schema(migration, project):
            ledger.create(migration)
            owned.create_script_function(migration)
        for step in steps:
            reports = grave.get(half_of(step), []) if isinstance(step, RevisionStep) else []
            for report in reports:
                migration.impl.static_output("-- " + " ".join(one_line(report).split()))
            migration.opts["unsafe"] = guard.note(unsafe, reports) if unsafe and reports else ""
            yield recorded(step, migration)
            if isinstance(step, RevisionStep) and not step.is_upgrade:
                print_withdrawal(step.revision.revision, migration)

    return work


def print_withdrawal(revision: str, migration: MigrationContext) -> None:
    """Print how the published version of a revision that was undone is withdrawn.

    In a transaction of its own, as a command does it.
    """
    if migration.dialect.name == "postgresql":
        with (
            migration.begin_transaction(_per_migration=True),
            in_schema(migration, migration.opts["project"]),
        ):
            withdraw(revision, migration)


def prepare(migration: MigrationContext, project: Project) -> None:
    """Let the callback `end` of every step run first, and tell the ledger who migrates."""
    script = script_of(migration)
    migration.opts.update(
        project=project, build=project.build or ", ".join(script.get_heads()), script=script
    )
    migration.on_version_apply_callbacks = (end, *migration.on_version_apply_callbacks)


def script_of(migration: MigrationContext) -> ScriptDirectory:
    """Return the script directory of the command that runs."""
    assert migration.script is not None  # noqa: S101  # env.py runs for a command only
    return migration.script


@contextmanager
def in_schema(migration: MigrationContext, project: Project) -> Iterator[None]:
    """Look for unqualified names in the project's schema first; connections do so by themselves."""
    needs = migration.as_sql and project.schema and migration.dialect.name == "postgresql"
    if needs:
        quoted = migration.dialect.identifier_preparer.quote_identifier(str(project.schema))
        migration.impl.static_output(f'SET search_path = {quoted}, "$user", public;')
    yield
    if needs:
        migration.impl.static_output("RESET search_path;")


def recorded(step: Step, migration: MigrationContext) -> Step:
    """Return the step with its row in the ledger written before its body runs."""
    if isinstance(step, RevisionStep):
        step.migration_fn = functools.partial(begin, migration, step)
        functools.update_wrapper(step.migration_fn, body_of(step.revision, up=step.is_upgrade))
    return step


def body_of(script: Script, *, up: bool) -> Callable[..., None]:
    """Return `upgrade` or `downgrade` of a revision file."""
    function: Callable[..., None] = script.module.upgrade if up else script.module.downgrade
    return function


def begin(migration: MigrationContext, step: RevisionStep, **arguments: Any) -> None:
    """Write the step's row, and run its body, in its transaction."""
    half = half_of(step)
    refuse_unusable_id(half.revision)
    migration.opts.update(revision=half.revision, is_upgrade=step.is_upgrade)
    if not migration.as_sql and ledger.unfinished(op.get_bind()) == half:
        migration.opts["half"] = "finished"
    with in_schema(migration, migration.opts["project"]), references_checked(migration):
        ledger.begin(migration, step.revision, half.direction, migration.opts["work"])
        if (unsafe := migration.opts.get("unsafe")) and migration.opts.get("half") != "finished":
            ledger.note(migration, Entry("unsafe", half.revision, unsafe), migration.opts["work"])
        with invariants_kept(migration, step.revision):
            run_body(step.revision, up=step.is_upgrade, **arguments)


@contextmanager
def references_checked(migration: MigrationContext) -> Iterator[None]:
    """Raise CommandError where a step on SQLite leaves rows that refer to a missing row.

    PostgreSQL checks that itself; SQLite does not on the migrator's connection, since a table could
    not be copied. Rows of before the step that did so may go on doing so.
    """
    if migration.as_sql or migration.dialect.name != "sqlite":
        yield
        return
    before = Counter(dangling_references())
    yield
    if added := sorted(Counter(dangling_references()) - before):
        tables = ", ".join(dict.fromkeys(str(table) for table, *_ in added))
        raise CommandError(
            f"rows of {tables} would refer to rows that are missing, which a foreign key forbids "
            "(PRAGMA foreign_key_check lists them). Correct what the revision writes"
        )


def run_body(script: Script, *, up: bool, **arguments: Any) -> None:
    """Run `upgrade` or `downgrade` of a revision.

    Raise CommandError for errors of its own files and connections, such as one to another database:
    they tell nothing of the database that is migrated. And for arguments that an operation or a
    construct does not have, and for statements that the database refuses: their stack trace would
    be of the driver.
    """
    try:
        body_of(script, up=up)(**arguments)
    except CommandError:
        raise
    except Exception as error:
        # SQLAlchemy wraps no error of the driver where it changes the isolation level
        is_migrators_own = is_migrators(error) or isinstance(error, AsyncAdapt_asyncpg_dbapi.Error)
        is_own = not is_migrators_own and is_about_a_connection(error)
        if is_own or is_wrong_call(error, script) or is_refused_statement(error):
            raise failed(script, error) from error
        raise


def is_wrong_call(error: Exception, script: Script) -> bool:
    """Return whether the revision calls an operation or a construct with wrong arguments.

    A call that a library makes is not the revision's.
    """
    if not isinstance(error, TypeError):
        return isinstance(error, ArgumentError)
    entries = traceback.extract_tb(error.__traceback__)
    inner = [entry.filename for entry in entries if entry.filename != script.path]
    is_own = entries[-1].filename == script.path or "sqlalchemy" in inner[-1]
    return is_own and re.search(WRONG_ARGUMENT, str(error)) is not None


def is_refused_statement(error: Exception) -> bool:
    """Return whether the database refuses a statement for what it says, or for its rows."""
    is_from_migrator = isinstance(error, DBAPIError) and is_migrators(error)
    return is_from_migrator and not is_about_a_connection(error)


def failed(script: Script, error: Exception) -> CommandError:
    """Return the error of a revision's body in one line."""
    name = Path(script.path).name
    entries = traceback.extract_tb(error.__traceback__)
    lines = [entry.lineno for entry in entries if entry.filename == script.path]
    place = f" (line {lines[-1]})" if lines else ""
    words = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, DBAPIError) and is_migrators(error):
        words = f"the database says: {first_line(error.orig or error)}"
    return CommandError(f"{name} failed: {words}{place}")


def end(
    ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]
) -> None:
    """Publish the revision that is reached, and finish the step's row (on_version_apply)."""
    del run_args
    work = ctx.opts["work"]
    # base has none, and below a merge there are several
    reached = next(iter(heads)) if len(heads) == 1 else None
    if step.is_upgrade and not step.is_stamp:
        reached = str(step.up_revision_id)
    with in_schema(ctx, ctx.opts["project"]):
        if reached is not None and ctx.dialect.name == "postgresql":
            publish_due(ctx, reached, stamped=step.is_stamp)
        if step.is_stamp:
            record_stamp(ctx, reached, work)
        else:
            direction = "upgrade" if step.is_upgrade else "downgrade"
            ledger.finish(ctx, Half(str(step.up_revision_id), direction), "done", work)


def publish_due(migration: MigrationContext, revision: str, *, stamped: bool) -> None:
    """Publish a revision if builds may rely on it.

    A stamp says nothing of the columns: only for the head do the models tell them.
    """
    script = script_of(migration)
    if revision in script.get_heads() or (not stamped and is_published(script, revision)):
        published.publish(migration, revision)


def is_published(script: ScriptDirectory, revision: str) -> bool:
    """Return whether a revision gets a published version.

    It does if it uses `safely`, or if the next one does.

    Those from before `safely` was adopted have none: their views would stand in the way of the
    plain operations that follow.
    """
    own = script.get_revision(revision)
    following = [script.get_revision(name) for name in own.nextrev]
    return any(map(uses_safely, (own, *following)))


def uses_safely(script: Script) -> bool:
    """Return whether a revision file imports `safely` or something of it."""
    for value in vars(script.module).values():
        name = getattr(value, "__name__", "") if hasattr(value, "__path__") else ""
        if name == "safely" or str(getattr(value, "__module__", "")).startswith("safely."):
            return True
    return False


def record_stamp(migration: MigrationContext, reached: str | None, work: Work | None) -> None:
    """Write a row for a revision at which somebody says that the database is."""
    script = script_of(migration).get_revision(reached) if reached else None
    ledger.record(migration, Entry("stamp", reached or "base", "said to be there", script), work)


def is_due(step: Step, heads: Collection[str], script: ScriptDirectory) -> bool:
    """Return whether the database is where the step begins."""
    if not isinstance(step, RevisionStep):
        return is_stamp_due(step, set(heads), script)
    applied = with_ancestors(script, *heads)
    if step.is_upgrade:
        return step.revision.revision not in applied and applied >= set(step.from_revisions)
    return step.revision.revision in heads


def is_stamp_due(step: StampStep, heads: set[str], script: ScriptDirectory) -> bool:
    """Return whether the version table is where a stamp begins.

    A stamp of one branch leaves the rows of the others.
    """
    before, after = set(step.from_revisions), set(step.to_revisions)
    if not step.branch_move:
        return heads == before
    if before:
        return heads >= before
    return not heads & with_ancestors(script, *after) and not after & with_ancestors(script, *heads)


def is_reached(step: Step, heads: Collection[str], script: ScriptDirectory) -> bool:
    """Return whether the database is where the step ends."""
    if not isinstance(step, RevisionStep):
        return set(heads) >= set(step.to_revisions)
    return (step.revision.revision in with_ancestors(script, *heads)) == step.is_upgrade


def undo(half: Half, migration: MigrationContext) -> None:
    """Undo the half of a step that was begun, by the step's opposite; its file is here."""
    script = script_of(migration).get_revision(half.revision)
    forwards = half.direction == "downgrade"
    migration.opts.update(revision=half.revision, is_upgrade=forwards, half="undone")
    with references_checked(migration), invariants_kept(migration, script):
        run_body(script, up=forwards)
    ledger.finish(migration, half, "undone", migration.opts["work"])


def adopt(migration: MigrationContext) -> None:
    """Record a stamp on the revision at which the database is already."""
    reached = min(migration.get_current_heads(), default=None)
    if reached is not None and migration.dialect.name == "postgresql":
        publish_due(migration, reached, stamped=True)
    record_stamp(migration, reached, migration.opts["work"])


def complete(migration: MigrationContext) -> None:
    """Add what earlier releases did not publish to the version where the database is."""
    heads = migration.get_current_heads()
    if len(heads) == 1 and published.lacks_something(migration, heads[0]):
        published.publish(migration, heads[0])
        ledger.renew_snapshot(migration)
        log.info("completed the published version %s", heads[0])


def withdraw(revision: str, migration: MigrationContext) -> None:
    """Withdraw the published version of a revision that was undone."""
    published.withdraw(revision)
    ledger.renew_snapshot(migration)


def protect(statement: str, migration: MigrationContext) -> None:
    """Make published versions obey the policies of a table, by a statement of `protection`."""
    run(statement)
    ledger.renew_snapshot(migration)


def refuse_transaction(migration: MigrationContext) -> None:
    """Raise CommandError where a statement ran on the connection before context.configure()."""
    if alembic.was_in_transaction(migration):
        raise CommandError(
            "a statement ran before context.configure(): Alembic would take its transaction for "
            "somebody else's, and roll everything back at the end"
        )


def require_schemas(connection: Connection, tables: str | None, version_table: str | None) -> None:
    """Raise CommandError for a schema that is missing, or that the role may not use.

    Without it every table looks missing, and the ledger would be made elsewhere. None is the
    current schema.
    """
    if connection.dialect.name != "postgresql":
        return
    exists = text("SELECT to_regnamespace(quote_ident(:name))")
    for name in filter(None, (tables, version_table)):
        if not connection.scalar(exists, {"name": name}):
            raise CommandError(
                f"there is no schema {name}: create it first (CREATE SCHEMA), since the ledger and "
                "the version table are made before the first revision runs"
            )
    if tables is None and connection.scalar(text("SELECT current_schema")) is None:
        path, has_schema = connection.execute(SEARCH_PATH).one()
        if not has_schema:
            raise CommandError(
                f"there is no schema to migrate: none of the search_path ({path or 'empty'}) "
                "exists. Create it (CREATE SCHEMA), or set another search_path"
            )
        raise CommandError(
            "this role may not migrate (it may use no schema): use the one that owns the tables"
        )
