"""A migration's way: the plan, the migration lock, drift, the steps, a fresh look at the result."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from functools import cached_property, partial
from typing import Any, TypeAlias, TypeVar

from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from safely import alembic_internals as alembic
from safely import arguments, autogenerate, database, invocation
from safely.alembic_internals import EnvironmentContext, MigrationContext, RevisionStep
from safely.arguments import Arguments
from safely.environment import Environment
from safely.errors import is_lock_timeout
from safely.history import (
    refuse_merge_of_one,
    refuse_missing_function,
    refuse_several_heads,
)
from safely.ledger import drift, ledger
from safely.lint import statistics
from safely.operations import standby_lag
from safely.operations.standby_lag import LagLimit
from safely.project import Project
from safely.revisions import ahead, refuse_unknown, without_file
from safely.run import guard, published, row_security, steps
from safely.run.aftermath import RELATIVE, Progress
from safely.run.metrics import Run, measured
from safely.run.migration_lock import migration_lock
from safely.run.retry import FIRST_PAUSE, LONGEST_PAUSE, Step, attempt, attempts
from safely.run.trace import Trace

# what Alembic calls the work of its commands
MIGRATING = ("upgrade", "downgrade", "do_stamp")
INDIFFERENT = ("_display_current_history", "nothing", "do_ensure_version")  # to where it is
CURRENT, MERGE = "display_version", "nothing"

Session: TypeAlias = tuple[AsyncConnection, AsyncConnection | None]
"""The connection that holds the migration lock, and one that sees who blocks it."""

Result = TypeVar("Result")

log = logging.getLogger("safely")


class Migrator:
    """Runs one command of Alembic, step by step, through env.py."""

    def __init__(
        self,
        context: EnvironmentContext,
        project: Project,
        engine: AsyncEngine,
        back_up: Callable[[Environment, Arguments], Awaitable[None]],
    ) -> None:
        if context.context_opts.get("purge"):
            raise CommandError(
                "alembic stamp --purge would empty the version table before it is our turn, and "
                "can't be undone: delete its rows by hand, and stamp without --purge"
            )
        self.context = context
        self.back_up = back_up  # before the first step, where `-x backup=DIR` asks for it
        self.project = project
        self.engine = engine  # as env.py made it
        self.script = context.script
        self.fn: alembic.Work = context.context_opts["fn"]
        self.environment = Environment(
            project=project, config=context.config, script=self.script, engine=engine
        )
        self.todo: list[alembic.Step] = []
        self.trace, self.overtaken_at = Trace(""), ""
        self.judged: set[ledger.Half] = set()  # the steps that may be taken
        self.unsafe: dict[ledger.Half, str] = {}  # those with grave findings: why they are taken
        self.is_backed_up = self.is_finished = False
        self.why_left_alone = ""  # a sentence; empty: these files say what is to be done
        self.progress = Progress()

    @property
    def is_migrating(self) -> bool:
        """Whether the command migrates: it has steps, or it is one that may have none to take."""
        return bool(self.todo) or self.work_name in MIGRATING

    @property
    def work_name(self) -> str:
        """The name that Alembic gives the work of the command, such as `upgrade`."""
        return str(getattr(self.fn, "__name__", ""))

    @cached_property
    def arguments(self) -> Arguments:
        """The arguments of `alembic -x`; raise CommandError for a wrong one."""
        return arguments.of(self.context)

    @cached_property
    def lag_limit(self) -> LagLimit | None:
        """How far standbys may be behind; None: nobody waits for any.

        SQLite has none, and neither has a scratch database.
        """
        has_standbys = self.engine.dialect.name == "postgresql"
        is_scratch = bool(invocation.of(self.context.config).address)
        if self.arguments.max_lag is None or is_scratch or not has_standbys:
            return None
        return LagLimit(
            seconds=self.arguments.max_lag,
            is_given=self.arguments.is_max_lag_given,
            ignored=self.arguments.ignore_standbys,
            patience=self.arguments.patience,
            lock_key=self.project.lock_key,
        )

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Yield each step of the command for env.py to run, and do what belongs around them."""
        path = self.project.metrics_textfile if self.is_migrating else ""
        async with measured(lambda: self.environment, path) as run:
            async with aclosing(self.plan()) as tries:
                async for step in tries:
                    yield step
            if self.why_left_alone:
                if half := await self.read(ledger.unfinished_if_any):
                    self.why_left_alone += f", and {half.direction} {half.revision} is begun there"
                await self.leave_alone()
            elif self.is_migrating:
                refuse_several_heads(self.script, numbered=self.project.numbered)
                async with aclosing(self.migrate(run)) as taken:
                    async for step in taken:
                        yield step
        self.is_finished = True

    async def plan(self) -> AsyncGenerator[Step, None]:
        """Yield a step in which the command says what is to be done, seen from where it is now.

        Other commands than those that migrate do their whole work in it.
        """
        self.todo = []
        async with (
            self.engine.execution_options(reading=True).connect() as connection,
            aclosing(self.reading(connection, self.planning)) as tries,
        ):
            async for step in tries:
                yield step
            await connection.commit()  # what `alembic ensure_version` did

    def planning(self, heads: Collection[str], migration: MigrationContext) -> list[alembic.Step]:
        """Collect the command's steps; work of a command, for context.configure(fn=…)."""
        self.learn(migration)
        autogenerate.set_up(migration, self.project)
        self.progress.heads = tuple(heads)
        self.why_left_alone = ""
        if self.work_name == MERGE:
            refuse_merge_of_one(self.script, numbered=self.project.numbered)
        if ahead(heads, self.script) and self.work_name not in INDIFFERENT:
            self.answer_ahead(heads)
            return []
        try:
            self.todo = list(self.fn(heads, migration))
        except AttributeError as error:
            refuse_missing_function(error)
            raise
        return []

    def answer_ahead(self, heads: Collection[str]) -> None:
        """Do what can be done on a database that is ahead of these files.

        `upgrade` leaves it alone, `current` prints where it is. Raise CommandError for the rest.
        """
        options = self.context.config.cmd_opts
        if self.work_name == CURRENT and not getattr(options, "check_heads", False):
            missing = without_file(self.script, heads)
            for head in heads:
                words = f"{head} (not among these files)" if head in missing else head
                self.context.config.print_stdout(words)
            return
        if self.work_name != "upgrade":
            refuse_unknown(heads, self.script)
        target = str(self.context.context_opts["destination_rev"])
        if RELATIVE.fullmatch(target):
            raise CommandError(
                f"{ahead(heads, self.script)}, so {target} can't be counted from there: name a "
                "revision"
            )
        self.script.get_revisions(target)  # raises for an unknown one
        self.why_left_alone = ahead(heads, self.script)

    async def leave_alone(self) -> None:
        """Warn that there is nothing to do, since a newer build has migrated the database.

        Raise CommandError where this build can't work on it, so that nobody starts it: on
        PostgreSQL its version must be published; SQLite has no versions.
        """
        build = self.environment.build
        way_out = "Deploy a build that has it, or undo it with the files of such a build"
        if self.engine.dialect.name == "sqlite":
            raise CommandError(
                f"{self.why_left_alone}. On SQLite builds use the tables as the newest revision "
                f"left them, so this one may fail, or write what that one can't read. {way_out} "
                "(alembic downgrade)"
            )
        published_now = await self.read(published.served)
        if build not in published_now:
            others = f" (published: {', '.join(published_now)})" if published_now else ""
            raise CommandError(
                f"{self.why_left_alone}. The version of this build, {build}, is not published any "
                f"more{others}, so its queries would fail. {way_out} (alembic downgrade)"
            )
        log.warning(  # which is shown also where nothing configures the log
            "%s. Nothing is to be done: the version of this build, %s, is published, and the build "
            "works on it as it is",
            self.why_left_alone,
            build,
        )

    async def probe(self, connection: AsyncConnection) -> AsyncGenerator[Step, None]:
        """Yield a step that only learns how env.py configures Alembic's context."""

        def learn(_: Collection[str], migration: MigrationContext) -> list[alembic.Step]:
            self.learn(migration)
            return []

        async with aclosing(self.reading(connection, learn)) as tries:
            async for step in tries:
                yield step

    def reading(
        self, connection: AsyncConnection, work: alembic.Work
    ) -> AsyncGenerator[Step, None]:
        """Return an attempt at work that only reads."""
        # before the lock is ours Alembic must not make its table: several migrators would collide
        options = {**self.options(), "fn": work, "dont_mutate": True}
        patience = self.arguments.patience
        return attempts(connection, None, options, patience=patience, trace=Trace(""))

    def options(self) -> dict[str, Any]:
        """Return what env.py passes to context.configure() for every step."""
        return {
            "target_metadata": self.project.tables,
            "transaction_per_migration": True,
            "transactional_ddl": True,  # SQLite too: safely.database begins its transactions
            "dont_mutate": False,
        }

    def learn(self, migration: MigrationContext) -> None:
        """Learn from env.py's own context.configure() where the version table is."""
        steps.refuse_transaction(migration)
        connection = migration.connection
        assert connection is not None  # noqa: S101  # the context is not one of --sql
        schema, engine = migration.version_table_schema, self.engine
        steps.require_schemas(connection, self.project.schema, schema)
        if self.project.schema and connection.dialect.name == "postgresql":
            # from here on unqualified names are looked for elsewhere
            schema = schema or connection.scalar(text("SELECT current_schema"))
            schema = schema or self.project.schema
            self.context.context_opts.setdefault("version_table_schema", schema)
            engine = database.engine_for(
                self.engine.url,
                lock_timeout=self.arguments.lock_timeout,
                schema=self.project.schema,
            )
        self.environment = Environment(
            project=self.project,
            config=self.context.config,
            script=self.script,
            engine=engine,
            version_table=migration.version_table,
            version_table_schema=schema,
            lock_timeout=self.arguments.lock_timeout,
        )

    async def migrate(self, run: Run) -> AsyncGenerator[Step, None]:
        """Take the migration lock, and yield the steps that are left by then."""
        given, is_stamp = self.arguments, self.work_name == "do_stamp"
        engine, key = self.environment.engine, self.project.lock_key
        self.trace = Trace(given.trace, self.environment.version_table)
        self.is_backed_up = given.backup is None
        await self.read(published.refuse_unknown_role, self.project.app_role)
        await self.read(row_security.refuse_column_grants, self.project.app_role)
        await self.refuse_grave()
        if self.todo and self.lag_limit is not None:
            await self.read(standby_lag.look_ahead, self.lag_limit)
        async with migration_lock(engine, key, given.patience, given.lock_timeout) as session:
            self.progress.is_ours = True
            refuse_drift = partial(drift.refuse_drift, self.environment, accept=given.accept_drift)
            await self.work(session, ledger.create if is_stamp else refuse_drift)
            while True:
                before = self.todo
                async with aclosing(self.plan()) as tries:
                    async for step in tries:
                        yield step
                if self.overtaken_at and self.todo == before:
                    raise CommandError(
                        f"{self.overtaken_at} can't be taken from where the database is: look "
                        "where it is by `alembic current`"
                    )
                await self.refuse_grave()  # another migrator may have gone back meanwhile
                await self.get_ready(session)
                if self.why_left_alone:
                    await self.leave_alone()
                    return
                async with aclosing(self.take(session, run)) as taken:
                    async for step in taken:
                        yield step
                if not self.overtaken_at:
                    break
            if not self.todo:
                await self.work(session, steps.adopt if is_stamp else steps.complete)
        if self.todo or is_stamp:
            await self.confirm()
        else:
            log.info("nothing to do")

    async def refuse_grave(self) -> None:
        """Raise CommandError where a step that is due has grave findings, unless told to run it.

        A step that a killed run left half done was judged by that run. A scratch database has no
        clients, and nothing to lose.
        """
        if invocation.of(self.context.config).address:
            return
        half = await self.read(ledger.unfinished_if_any)
        due = [
            step
            for step in self.todo
            if isinstance(step, RevisionStep) and guard.half_of(step) not in {*self.judged, half}
        ]
        if not due:
            return
        sizes = await self.read(statistics.read, self.environment.version_table)
        if not sizes.is_empty:  # else nobody has rows to wait for, or to lose
            judge = guard.Guard(
                config=self.context.config,
                script=self.script,
                project=self.project,
                dialect=self.engine.dialect.name,
            )
            # in a thread, since the body of a revision may run an event loop of its own
            grave = await asyncio.to_thread(judge.grave, due, sizes)
            if grave and not self.arguments.unsafe:
                begun = next((step for step in self.todo if half and is_half(step, half)), None)
                raise guard.refusal(grave, self.context.config, begun)
            for step, found in grave.items():
                self.unsafe[step] = guard.note(self.arguments.unsafe, found)
        self.judged |= {guard.half_of(step) for step in due}

    async def get_ready(self, session: Session) -> None:
        """Back up if that was asked, and undo the half of a step that a killed run left."""
        half = await self.read(ledger.unfinished)
        if half and without_file(self.script, [half.revision]):
            sentence = (
                f"{half.direction} {half.revision} was begun and not finished, and these files "
                f"don't have {half.revision}"
            )
            if self.todo or self.work_name != "upgrade":
                raise CommandError(
                    f"{sentence}: finish it, or undo it, with the files of a build that has it "
                    "(alembic upgrade head, or the way back)"
                )
            self.why_left_alone = self.why_left_alone or f"{sentence}: a build that has it goes on"
        if self.why_left_alone:
            return
        if not self.is_backed_up and (self.todo or half):
            await self.back_up(self.environment, self.arguments)
            self.is_backed_up = True
        if half and not (self.todo and is_half(self.todo[0], half)):
            log.info(
                "%s %s was begun and not finished: undoing it first", half.direction, half.revision
            )
            await self.work(session, partial(steps.undo, half))
        await self.protect(session)
        await self.withdraw_undone(session)

    async def take(self, session: Session, run: Run) -> AsyncGenerator[Step, None]:
        """Yield the planned steps, one after the other, until another migrator is ahead."""
        connection, monitor = session
        patience, self.overtaken_at = self.arguments.patience, ""
        self.progress.target = self.todo[-1].to_revisions if self.todo else ()
        for planned in self.todo:
            if isinstance(planned, RevisionStep) and not planned.is_upgrade:
                await self.read(published.refuse_dependents, planned.revision.revision)
        for planned in self.todo:
            self.progress.step = planned
            options = self.options() | {
                "fn": steps.only(planned, self.project),
                "lock_timeout": self.arguments.lock_timeout,
                "lag_limit": self.lag_limit,
                "unsafe": self.unsafe_reason(planned),
            }
            tries = attempts(connection, monitor, options, patience=patience, trace=self.trace)
            with run.timed(planned):
                async with aclosing(tries):
                    async for step in tries:
                        yield step
            if step.is_overtaken:
                self.overtaken_at = f"the step to {', '.join(planned.to_revisions) or 'base'}"
                return
            self.progress.heads, self.progress.step = planned.to_revisions, None
            await self.protect(session)
            await self.withdraw_undone(session)

    def unsafe_reason(self, step: alembic.Step) -> str:
        """Return why a step with grave findings is taken; empty for any other."""
        return self.unsafe.get(guard.half_of(step), "") if isinstance(step, RevisionStep) else ""

    async def work(self, session: Session, action: Callable[[MigrationContext], None]) -> None:
        """Do something beside the steps in its own transaction, until no lock is in its way."""
        connection, monitor = session

        def act(migration: MigrationContext) -> None:
            steps.prepare(migration, self.project)
            action(migration)

        options = {"lock_timeout": self.arguments.lock_timeout, "lag_limit": self.lag_limit}
        acting, patience = partial(self.environment.work, act), self.arguments.patience
        await attempt(connection, monitor, acting, options, patience, self.trace)

    async def read(self, look: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function that only reads finds, as soon as no lock is in its way."""
        deadline, pause = time.monotonic() + self.arguments.patience, FIRST_PAUSE
        while True:
            try:
                return await self.environment.read(look, *arguments)
            except DBAPIError as error:
                if not is_lock_timeout(error) or time.monotonic() > deadline:
                    raise
            log.info("a table that has to be read is locked; trying again")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def protect(self, session: Session) -> None:
        """Make published versions obey the policies of tables, also those that a killed run left.

        In transactions of their own, as `withdraw_undone`: the views are in use.
        """
        for statement in await self.read(row_security.protection, self.project.app_role):
            await self.work(session, partial(steps.protect, statement))

    async def withdraw_undone(self, session: Session) -> None:
        """Withdraw the published versions of revisions that were undone, also by a killed run."""
        for revision in await self.read(published.undone):
            await self.work(session, partial(steps.withdraw, revision))

    async def confirm(self) -> None:
        """Log where a connection of its own sees the database; raise if not where it should be."""

        def look(connection: Connection) -> tuple[str, ...]:
            return self.environment.migration(connection).get_current_heads()

        heads = await self.read(look)
        place = ", ".join(sorted(heads)) or "base"
        if self.todo and not steps.is_reached(self.todo[-1], heads, self.script):
            wanted = ", ".join(self.todo[-1].to_revisions) or "base"
            raise CommandError(f"the database is at {place} instead of {wanted}: nothing was kept")
        log.info("the database is at %s", place)


def is_half(step: alembic.Step, half: ledger.Half) -> bool:
    """Return whether the step is the one of which a killed run did a half."""
    return isinstance(step, RevisionStep) and guard.half_of(step) == half
