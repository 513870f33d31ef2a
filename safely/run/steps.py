"""The steps that an Alembic command plans, and what belongs to each of them."""

import functools
import logging
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep, StampStep
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SAWarning

from safely.ledger import ledger
from safely.ledger.ledger import Entry, Half, Work
from safely.run import published

log = logging.getLogger("migrations")

Step = RevisionStep | StampStep
Command = Callable[[Any, MigrationContext], Iterable[Step]]


class Overtaken(Exception):  # noqa: N818  # nothing is wrong
    """Another migrator has taken the step in the meantime; plan again."""


def command() -> Command:
    """What Alembic was called to do; to be asked first, since configuring a step overwrites it."""
    context.configure(dialect_name="sqlite")  # any will do
    fn: Command = context.get_context().opts["fn"]
    return fn


def plan(connection: Connection, fn: Command, options: dict[str, Any]) -> list[Step]:
    """What the command wants done now; commands that do their work while planning do it here."""
    steps: list[Step] = []

    def planned(heads: Any, migration: MigrationContext) -> list[Step]:
        refuse_blind(connection)
        refuse_unknown(heads)
        steps.extend(fn(heads, migration))
        return []

    # Alembic would make its table already here, before it is our turn, and eight would collide
    configure(connection, {**options, "fn": planned, "dont_mutate": True})
    run()
    connection.rollback()  # planning reads; who reads on would be an old transaction to outwait
    return steps


def refuse_blind(connection: Connection) -> None:
    """Refuse a role that sees nothing, to which every database looks empty."""
    if connection.dialect.name != "postgresql":
        return
    if connection.scalar(text("SELECT current_schema")) is None:
        raise CommandError(
            "this role may not migrate (it may use no schema): use the one that owns the tables"
        )


def refuse_unknown(heads: Collection[str]) -> None:
    """Refuse a database that is ahead of these files, in words."""
    known = {script.revision for script in context.script.walk_revisions()}
    if unknown := sorted(set(heads) - known):
        raise CommandError(
            f"the database is at {', '.join(unknown)}, which these files don't have: it is ahead "
            f"of this build, which knows {max(known, default='none')}. There is nothing to "
            "migrate; a service of this build is ready on it as it is"
        )


def noted(fn: Command) -> Command:
    """The same steps, each noted in the ledger before its body runs, and known to `safely`."""

    def steps(heads: Any, migration: MigrationContext) -> Iterator[Step]:
        for step in fn(heads, migration):
            if isinstance(step, RevisionStep):
                step.migration_fn = functools.partial(begin, migration, step)
                functools.update_wrapper(step.migration_fn, body(step))
            yield step

    return steps


def body(step: RevisionStep) -> Callable[..., None]:
    """The function of the revision file."""
    module = step.revision.module
    function: Callable[..., None] = module.upgrade if step.is_upgrade else module.downgrade
    return function


def begin(migration: MigrationContext, step: RevisionStep, **arguments: Any) -> None:
    """Run a step's body, in its transaction."""
    half = half_of(step)
    migration.opts.update(revision=half.revision, is_upgrade=step.is_upgrade)
    ledger.begin(migration, step.revision, half.direction, migration.opts["work"])
    body(step)(**arguments)


def half_of(step: RevisionStep) -> Half:
    """What the ledger calls the step."""
    return Half(step.revision.revision, "upgrade" if step.is_upgrade else "downgrade")


def end(
    ctx: MigrationContext, step: MigrationInfo, heads: set[str], run_args: dict[str, Any]
) -> None:
    """What belongs to every step's transaction, after its body (Alembic's on_version_apply)."""
    del run_args
    reached, work = min(heads, default=None), ctx.opts["work"]
    if reached is not None and ctx.dialect.name == "postgresql":
        if step.is_stamp:
            publish_newest(ctx, reached)
        else:
            published.publish(reached, ctx.opts["app_role"])
    if step.is_stamp:
        stamped(ctx, reached, work)
    else:
        direction = "upgrade" if step.is_upgrade else "downgrade"
        ledger.finish(ctx, Half(str(step.up_revision_id), direction), "done", work)


def publish_newest(migration: MigrationContext, reached: str) -> None:
    """Publish what was stamped if it is the newest: only there do the files tell the columns."""
    if reached == context.script.get_current_head():
        published.publish(reached, migration.opts["app_role"])


def stamped(migration: MigrationContext, reached: str | None, work: Work | None) -> None:
    """Note where somebody says that the database is."""
    script = context.script.get_revision(reached) if reached else None
    entry = Entry("stamp", reached or "base", "said to be there", script)
    ledger.record(migration, entry, work)


def perform(step: Step, connection: Connection, options: dict[str, Any]) -> None:
    """Take one step, in its transaction."""

    def only_this(heads: Collection[str], _: MigrationContext) -> list[Step]:
        if set(heads) != set(step.from_revisions):
            raise Overtaken
        return [step]

    configure(connection, {**options, "fn": noted(only_this), "dont_mutate": False})
    run()


def undo(half: Half, connection: Connection, options: dict[str, Any]) -> None:
    """Undo the half of a step that was begun, by the step's opposite."""
    script = context.script.get_revision(half.revision)
    forwards = half.direction == "downgrade"

    def opposite(_: Collection[str], migration: MigrationContext) -> None:
        migration.opts.update(revision=half.revision, is_upgrade=forwards)
        (script.module.upgrade if forwards else script.module.downgrade)()
        ledger.finish(migration, half, "undone", migration.opts["work"])

    beside_steps(connection, opposite, options)


def adopt(connection: Connection, options: dict[str, Any]) -> None:
    """Note a stamp on the revision at which the database is already."""

    def as_it_is(heads: Collection[str], migration: MigrationContext) -> None:
        reached = min(heads, default=None)
        if reached is not None and migration.dialect.name == "postgresql":
            publish_newest(migration, reached)
        stamped(migration, reached, migration.opts["work"])

    beside_steps(connection, as_it_is, options)


def complete(connection: Connection, options: dict[str, Any]) -> None:
    """Add what earlier releases did not publish to the version where the database is."""

    def completed(heads: Collection[str], migration: MigrationContext) -> None:
        reached, app_role = min(heads, default=None), options["app_role"]
        if reached and published.lacks_something(connection, reached, app_role):
            published.publish(reached, app_role)
            ledger.look_again(migration)
            log.info("completed the published version %s", reached)

    beside_steps(connection, completed, options)


def withdraw(revision: str, connection: Connection, options: dict[str, Any]) -> None:
    """Take back the published version of a revision that was undone."""

    def taken_back(_: Collection[str], migration: MigrationContext) -> None:
        published.withdraw(revision)
        ledger.look_again(migration)

    beside_steps(connection, taken_back, options)


def beside_steps(
    connection: Connection,
    work: Callable[[Collection[str], MigrationContext], None],
    options: dict[str, Any],
) -> None:
    """Do something in a transaction of its own where `op` works, without going anywhere."""

    def no_steps(heads: Collection[str], migration: MigrationContext) -> list[Step]:
        with migration.begin_transaction(_per_migration=True):
            work(heads, migration)
        return []

    configure(connection, {**options, "fn": no_steps, "dont_mutate": True})
    run()


def configure(connection: Connection, options: dict[str, Any]) -> None:
    """Set Alembic up on a connection that has no transaction yet."""
    if connection.in_transaction():
        raise CommandError(
            "a statement ran before context.configure(): Alembic would take its transaction for "
            "somebody else's, and roll everything back at the end"
        )
    context.configure(connection=connection, **options)


def run() -> None:
    """Run what is configured."""
    with warnings.catch_warnings():
        # SQLite's expression indexes can't be reflected; Alembic leaves them alone, and says so
        warnings.filterwarnings("ignore", "Skipped unsupported reflection", SAWarning)
        warnings.filterwarnings("ignore", "autogenerate skipping .* expression-based", UserWarning)
        with context.begin_transaction():
            context.run_migrations()
