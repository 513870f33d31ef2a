"""Takes each pending revision on the copy up, down, and up again."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.rehearsal.application_tables import Column, Table, views_of
from safely.rehearsal.catalogue import catalogue_of
from safely.rehearsal.connection import quoted
from safely.rehearsal.effects import of_catalogue, of_trace, unaccepted
from safely.rehearsal.generated_rows import UNSUITABLE, NoValueError, value
from safely.rehearsal.measuring import lines_of, measure
from safely.rehearsal.observer import Observer
from safely.rehearsal.older_rules import choices, recorded_schemas
from safely.rehearsal.pending import PendingStep, pending_steps
from safely.rehearsal.report import Report, RevisionResult, StepResult
from safely.rehearsal.row_shares import RowShares
from safely.rehearsal.sources import Copy, Source
from safely.rehearsal.traffic import MOST_VERSIONS, PARENTS, FailedQuery, Traffic, Version
from safely.rehearsal.values import (
    AFTER_DOWNGRADE,
    AFTER_SECOND_UPGRADE,
    State,
    count_rows,
    differences,
    schema_differences,
    state_of,
    tables_with_losses,
)
from safely.rehearsal.verdict import problems_of
from safely.revisions import in_order
from safely.run.published import schema_of
from safely.words import count

CALM = 1.0  # seconds before each step, with which it is compared
AFTERWARDS = 0.5  # seconds after a step in which queries may fail because of it
WRITTEN_ROWS = 1_000  # that get values in new columns
PATIENCE = 60  # seconds for which a step is retried
NOTHING_TO_UNDO = re.compile(r"nothing to undo: (.+)")

FILES = """\
SELECT relname, pg_relation_filenode(oid) FROM pg_class
WHERE relkind IN ('r', 'm') AND relpersistence = 'p'
  AND relnamespace = to_regnamespace(quote_ident(current_schema))"""
NUMBERED_COLUMNS = """\
SELECT relname AS table, attnum, attname AS name
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace(quote_ident(current_schema)) AND relkind IN ('r', 'p')
  AND attnum > 0 AND NOT attisdropped"""
# What a generated row may violate. Not: a key whose values the database makes itself.
CONSTRAINTS = """\
WITH made AS (
  SELECT attrelid, array_agg(attnum) AS numbers FROM pg_attribute
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attidentity <> '' OR pg_get_expr(adbin, adrelid) ^@ 'nextval('
  GROUP BY attrelid)
SELECT conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
LEFT JOIN made ON attrelid = conrelid
WHERE connamespace = to_regnamespace(quote_ident(current_schema))
  AND (contype IN ('p', 'u') AND conkey <@ numbers) IS NOT TRUE
UNION ALL SELECT relname, pg_get_indexdef(pg_class.oid)
FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid LEFT JOIN made ON attrelid = indrelid
WHERE indisunique AND (indkey::int2[] <@ numbers) IS NOT TRUE
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"""
PUBLISHED_VIEWS = """\
SELECT substr(nspname, 4), relname FROM pg_namespace
JOIN pg_class ON relnamespace = pg_namespace.oid
WHERE starts_with(nspname, 'at_') AND relkind = 'v' ORDER BY 1, 2"""
ESTIMATES = """\
SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class
WHERE relkind IN ('r', 'p', 'm') AND relnamespace = to_regnamespace(quote_ident(current_schema))
  AND relname <> ALL ($1::text[])"""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname = ANY ($1::text[])"
NO_KEY = "it has no primary key: its rows are read and inserted, but not changed and not compared"

Progress = Callable[[Report, str], None]
"""Is called with the report so far and what is being done now."""


@dataclass
class Rehearsal:
    """A copy with its traffic and its observer; `connection` leads to the copy."""

    copy: Copy
    connection: asyncpg.Connection
    script: ScriptDirectory
    traffic: Traffic
    observer: Observer
    report: Report
    progress: Progress
    judged: int = 0  # queries that had failed when this step began
    judged_before: int = 0  # when the step before began
    has_rows: bool = False
    versions: dict[str, Version] = field(default_factory=dict)  # by revision, without clients
    columns: set[tuple[str, int]] = field(default_factory=set)  # table and number, before the step

    async def run(self, source: Source, to: str) -> None:
        """Take one step after the other, until one fails."""
        steps = pending_steps(self.script, await self.copy.revision(), to)
        self.has_rows = bool(await self.copy.tables(self.connection))
        if self.has_rows:
            await self.prepare(source)
        for step in steps:
            result = RevisionResult(step.revision, step.message, not_undone=step.not_undone)
            self.report.revisions.append(result)
            before = await self.state(step.before)
            self.columns = await self.number_columns()
            result.up = await self.take(step, "upgrade", result)
            if not result.up.ok:
                break
            if not self.has_rows and (tables := await self.copy.tables(self.connection)):
                self.has_rows = bool(tables)
                await self.prepare(source)
            result.problems += await self.rows_missing(step, before)
            if step.not_undone is None:
                after = await self.undo_and_redo(step, result, before)
                if after is None:
                    break
                if lost := tables_with_losses(after, await self.state(step.revision)):
                    await self.replace_lost_rows(source, step, lost)
            self.progress(self.report, f"{step.revision} is done")

    async def prepare(self, source: Source) -> None:
        """Generate rows where the source says so, and let clients use what is published.

        Before the first revision with `safely` nothing is published: the clients use the tables
        themselves. They stop when a revision makes their queries fail, after it was judged.
        """
        if source.generates_rows:
            self.progress(self.report, f"generating {count(source.rows, 'row')} per table")
            for table, reason in (await self.copy.populate(source.rows)).items():
                self.report.left_out[table] = f"no rows were generated: {reason}"
        await self.connection.execute("ANALYZE")
        tables = await self.copy.tables(self.connection)
        plain = await self.unpublished("", tables)
        await self.traffic.shares.divide(self.connection, tables, plain.place)
        self.report.rows = dict(await self.connection.fetch(ESTIMATES, self.copy.bookkeeping))
        await self.start_clients(tables)

    async def start_clients(self, tables: list[Table]) -> None:
        """Start clients of the newest published versions, or of the tables if there is none."""
        names = {schema_of(revision): revision for revision in in_order(self.script)}
        existing = {name for (name,) in await self.connection.fetch(SCHEMAS, list(names))}
        recorded = await recorded_schemas(self.connection)
        for schema, revision in names.items():
            if schema in existing and revision not in self.versions:
                views = await views_of(self.connection, quoted(schema), tables)
                self.versions[revision] = Version(revision, schema, views, is_published=True)
                self.versions[revision].choices = choices(recorded.get(revision, {}), views)
        published = [revision for schema, revision in names.items() if schema in existing]
        for revision in published[-MOST_VERSIONS:]:
            await self.traffic.start(self.versions[revision].without_clients())
        if not published:
            reached = await self.copy.revision()
            await self.traffic.start(await self.unpublished(reached or "", tables))

    async def unpublished(self, revision: str, tables: list[Table]) -> Version:
        """Return the tables themselves as a version."""
        for table in tables:
            if not table.key and table.name not in self.report.left_out:
                self.report.left_out[table.name] = NO_KEY
        schema = await self.connection.fetchval("SELECT current_schema")
        return Version(revision, schema, tables, is_published=False)

    async def version(self, revision: str) -> Version:
        """Return the version of a revision that the copy is at: the tables if none is published."""
        if revision not in self.versions:
            tables = await self.copy.tables(self.connection)
            version, schema = await self.unpublished(revision, tables), schema_of(revision)
            if await self.connection.fetch(SCHEMAS, [schema]):
                version = Version(revision, schema, tables, is_published=True)
                recorded = await recorded_schemas(self.connection)
                version.choices = choices(recorded.get(revision, {}), tables)
            self.versions[revision] = version
        return self.versions[revision]

    async def state(self, revision: str | None) -> State:
        """Return the current schema, and the values as the version of a revision shows them."""
        version = await self.version(revision) if revision else None
        return await state_of(self.connection, version, self.traffic.shares)

    async def rows_missing(self, step: PendingStep, before: State) -> list[str]:
        """Return a sentence for each table that has fewer of the untouched rows after a step."""
        if step.before is None:
            return []
        version = self.versions[step.before]
        rows = await count_rows(self.connection, version, self.traffic.shares)
        counted = {name.rpartition(".")[0]: count for name, (count, _) in before.values.items()}
        return [
            f"upgrade: {table} has {rows[table]} of the {number} rows that no client touched"
            for table, number in counted.items()
            if rows.get(table, number) < number
        ]

    async def replace_lost_rows(self, source: Source, step: PendingStep, tables: set[str]) -> None:
        """Generate all rows anew, or compare those tables no more where rows are not generated.

        The loss was reported, and must not be blamed on the next revisions.
        """
        for revision in list(self.traffic.versions):
            await self.traffic.stop(revision)
        if source.generates_rows:
            schema = await self.connection.fetchval("SELECT current_schema")
            names = [table.name for table in await self.copy.tables(self.connection)]
            places = ", ".join(quoted(schema, name) for name in names)
            await self.connection.execute(f"TRUNCATE {places} RESTART IDENTITY")
            self.traffic.inserted.clear()
            self.traffic.shares = RowShares()
            await self.prepare(source)
        else:
            for table in tables:
                self.traffic.shares.forget(table)
                self.report.left_out[table] = f"not compared after {step.revision}, which lost rows"
            await self.start_clients(await self.copy.tables(self.connection))

    async def undo_and_redo(
        self, step: PendingStep, result: RevisionResult, before: State
    ) -> State | None:
        """Undo a step and take it again; return the state between, or None where that failed."""
        await self.write_new_columns(step)
        after = await self.state(step.revision)
        result.compared = max((rows for rows, _ in after.values.values()), default=0)
        for version in list(self.traffic.versions.values()):
            # a build of this revision would be stopped before; no published version is withdrawn,
            # which would tell its clients to stop
            if not version.is_published and version.revision in step.names:
                await self.traffic.stop(version.revision)
        result.down = await self.take(step, "downgrade", result)
        if not result.down.ok:
            return None
        undone = await self.state(step.before)
        result.problems += differences(AFTER_DOWNGRADE, before, undone, result.leaves)
        if result.leaves:
            result.leaves = "; ".join([result.leaves, *schema_differences(before, undone)])
        result.again = await self.take(step, "upgrade", result)
        if not result.again.ok:
            return None
        again = await self.state(step.revision)
        result.problems += differences(AFTER_SECOND_UPGRADE, after, again, None)
        return after

    async def write_new_columns(self, step: PendingStep) -> None:
        """Give some untouched rows values in the step's new columns: they must come back, too."""
        if step.before is None:
            return
        before, version = self.versions[step.before], self.versions[step.revision]
        for table in version.tables.values():
            older = before.tables.get(table.name)
            untouched = self.traffic.shares.untouched(table)
            if older is None or untouched is None:
                continue
            known = {column.name for column in older.columns}
            known |= {name for place, name in await self.old_columns() if place == table.name}
            for column in table.writable:
                if column.is_nullable and column.name not in known:
                    await self.write_column(version, table, column, untouched)

    async def old_columns(self) -> set[tuple[str, str]]:
        """Return table and name of the columns from before the step, under the names of now."""
        rows = await self.connection.fetch(NUMBERED_COLUMNS)
        return {(place, name) for place, number, name in rows if (place, number) in self.columns}

    async def number_columns(self) -> set[tuple[str, int]]:
        """Return table and number of all columns: a rename changes neither."""
        rows = await self.connection.fetch(NUMBERED_COLUMNS)
        return {(place, number) for place, number, _ in rows}

    async def write_column(
        self, version: Version, table: Table, column: Column, untouched: str
    ) -> None:
        """Give some untouched rows a value in one column, if a generated one suits it."""
        with suppress(*UNSUITABLE, NoValueError):
            # a row is known by its place: keys are of any type, and nobody else moves these rows
            place = quoted(await self.connection.fetchval("SELECT current_schema"), table.name)
            sql = value(column._replace(is_nullable=False), version.place, PARENTS)
            await self.connection.execute(
                f"UPDATE {place} AS target SET {quoted(column.name)} = {sql} "
                f"FROM (SELECT tableoid, ctid, row_number() OVER () AS n "
                f"FROM {place} WHERE {untouched} LIMIT {WRITTEN_ROWS}) AS generated "
                "WHERE (target.tableoid, target.ctid) = (generated.tableoid, generated.ctid)"
            )

    async def take(self, step: PendingStep, direction: str, result: RevisionResult) -> StepResult:
        """Take a step in one direction, measure it, and note its problems."""
        self.progress(self.report, f"{direction} {step.revision}")
        began, first = time.time(), len(self.traffic.served)
        self.observer.held_locks.clear()  # of earlier steps: less to search
        await asyncio.sleep(CALM)
        files = dict(await self.connection.fetch(FILES))
        constraints = set(await self.connection.fetch(CONSTRAINTS))
        views = await self.connection.fetch(PUBLISHED_VIEWS)
        catalogue = await catalogue_of(self.connection, self.copy.bookkeeping)
        known = self.failed_before()
        target = step.revision if direction == "upgrade" else step.before or "base"
        with TemporaryDirectory() as directory:
            trace = Path(directory) / "trace"
            arguments = ("-x", f"trace={trace}", "-x", f"patience={PATIENCE}", direction, target)
            failure, output = None, ""
            try:
                output = await self.copy.alembic(*arguments)
            except CommandError as error:
                failure = str(error)
            await asyncio.sleep(AFTERWARDS)
            await self.traffic.try_choices()
            now = dict(await self.connection.fetch(FILES))
            rewritten = [name for name in files if name in now and now[name] != files[name]]
            lines = lines_of(trace)
            effects = [
                *of_trace(lines, self.report.rows, self.copy.bookkeeping),
                *of_catalogue(
                    catalogue, await catalogue_of(self.connection, self.copy.bookkeeping)
                ),
            ]
            unchanged = constraints & set(await self.connection.fetch(CONSTRAINTS))
            failed = self.failed_since(known, {name for name, _ in unchanged})
            outcome = measure(
                direction, lines, self.observer,
                served=self.traffic.served[first:], failed=failed, since=began,
                rewritten=rewritten, effects=[effect.sentence for effect in effects],
                rows=self.report.rows,
            )  # fmt: skip
        if leaves := NOTHING_TO_UNDO.search(output):
            result.leaves = leaves[1]
        gone = step.names if direction == "downgrade" else ()
        lost = lost_versions(
            [view for view in views if view[0] not in gone],
            await self.connection.fetch(PUBLISHED_VIEWS),
        )
        rows = {name: self.report.rows.get(name, 0) for name in rewritten}
        result.problems += problems_of(outcome, self.report.budgets, failure, rows)
        result.problems += [f"{direction}: {sentence}" for sentence in lost]
        if result.up is None:  # what follows takes it back, and does it again
            result.problems += unaccepted(effects, step.revisions)
        outcome.ok = failure is None and not lost
        if outcome.ok:
            await self.let_clients_follow(step, direction, failed)
        return outcome

    def failed_before(self) -> set[tuple[str, str]]:
        """Return version and error of the queries that failed in the step before, and since."""
        failed = self.traffic.failed[self.judged_before :]
        self.judged = len(self.traffic.failed)
        return {(query.version, query.error) for query in failed}

    def failed_since(self, known: set[tuple[str, str]], constraints: set[str]) -> list[FailedQuery]:
        """Return the queries that failed since `failed_before`, and that the step is to blame for.

        It isn't for errors that are `known` from before, nor where a row violates one of the
        `constraints` from before: the generated row was unsuitable.
        """
        failed = self.traffic.failed[self.judged :]
        self.judged_before = self.judged
        return [
            query
            for query in failed
            if query.constraint not in constraints and (query.version, query.error) not in known
        ]

    async def let_clients_follow(
        self, step: PendingStep, direction: str, failed: list[FailedQuery]
    ) -> None:
        """Start clients of a version that was published, and stop those of one that is gone."""
        for version in list(self.traffic.versions.values()):
            if not version.is_published and str(version) in {query.version for query in failed}:
                await self.traffic.stop(version.revision)
        if direction == "downgrade":
            for revision in step.names:
                await self.traffic.stop(revision)
            return
        version = await self.version(step.revision)
        if self.has_rows:  # earlier, clients would take the numbers of the rows to come
            await self.traffic.start(version.without_clients())


def lost_versions(before: Iterable[Sequence[str]], after: Iterable[Sequence[str]]) -> list[str]:
    """Return a sentence for each published version that is gone, or that has lost views.

    A view is given as its version and its name.
    """
    left: dict[str, set[str]] = {}
    for version, view in after:
        left.setdefault(version, set()).add(view)
    lost: dict[str, list[str]] = {}
    for version, view in before:
        if view not in left.get(version, ()):
            lost.setdefault(version, []).append(view)
    return [
        f"the published version {version} has lost {', '.join(views)}: its builds fail"
        if version in left
        else f"the published version {version} is gone: its builds fail"
        for version, views in lost.items()
    ]
