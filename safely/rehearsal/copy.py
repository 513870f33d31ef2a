"""The copy while it is rehearsed on: each revision up, down, and up again."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from safely.rehearsal.copies import Source
from safely.rehearsal.measuring import measure
from safely.rehearsal.people import MADE_UP_BADLY, Table, tables, value, views
from safely.rehearsal.report import Rehearsed, Report, Way
from safely.rehearsal.traffic import Failed, Traffic, Version
from safely.rehearsal.values import Remembered, differences, remembered
from safely.rehearsal.verdict import judge
from safely.rehearsal.witness import Witness
from safely.run.published import PUBLISHED
from safely.scratch import databases as scratch

CALM = 1.0  # seconds before each step, and until it says something: to compare with
AFTERWARDS = 0.5  # seconds of traffic that may fail for what the step has done
SOME = 1_000  # rows
PATIENCE = 60  # seconds that a step is tried
NOTHING_TO_UNDO = re.compile(r"nothing to undo: (.+)")

FILES = """\
SELECT oid::regclass::text, pg_relation_filenode(oid) FROM pg_class
WHERE relkind = 'r' AND relpersistence = 'p' AND relnamespace = current_schema::regnamespace"""
RULES = """\
SELECT conname FROM pg_constraint WHERE connamespace = current_schema::regnamespace
UNION SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid WHERE indisunique"""
ESTIMATES = """\
SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class
WHERE relkind IN ('r', 'p') AND relnamespace = current_schema::regnamespace
  AND relname NOT IN ('alembic_version', 'migration_log')"""

Progress = Callable[[Report, str], None]


@dataclass
class Copy:
    """A copy with its traffic and its witness."""

    connection: asyncpg.Connection
    url: str
    script: ScriptDirectory
    traffic: Traffic
    witness: Witness
    report: Report
    progress: Progress
    app_role: str
    failures: int = 0  # that were told of already
    is_filled: bool = False  # the tables have the rows that are to be there
    published: dict[str, list[Table]] = field(default_factory=dict)  # by revision

    async def rehearse(self, source: Source, to: str) -> None:
        """Take one revision after the other, until one can't be taken."""
        pending = await self.pending(to)
        self.is_filled = bool(await tables(self.connection))
        if self.is_filled:
            await self.look_around()
        for revision in pending:
            found = Rehearsed(revision.revision, revision.doc.rstrip("."))
            self.report.revisions.append(found)
            before = await self.remembered(str(revision.down_revision or ""))
            found.up = await self.way("upgrade", revision, found)
            if found.up.ok and not self.is_filled:
                self.progress(self.report, f"making {source.rows:,} rows")
                self.is_filled = await source.populate(self.url)
                await self.look_around()
            if not found.up.ok or not await self.there_and_back(found, revision, before):
                break

    async def pending(self, to: str) -> list[Script]:
        """The revisions that the copy doesn't have yet, in order; from base the whole chain."""
        reached = None
        if await self.connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
            reached = await self.connection.fetchval("SELECT version_num FROM alembic_version")
        known = [revision.revision for revision in self.script.walk_revisions()]
        if reached and reached not in known:
            raise CommandError(f"the copy is at {reached}, which these files don't have")
        if reached and reached >= to:
            return []
        return list(self.script.iterate_revisions(to, reached or "base"))[::-1]

    async def look_around(self) -> None:
        """Learn what rows there are, and let clients of what is published come."""
        await self.connection.execute("ANALYZE")
        for table in await tables(self.connection):
            if table.numbered and table.key:
                query = f'SELECT coalesce(max("{table.key.name}"), 0) FROM "{table.name}"'
                self.traffic.rows[table.name] = await self.connection.fetchval(query)
        self.report.rows = dict(await self.connection.fetch(ESTIMATES))
        for (revision,) in await self.connection.fetch(PUBLISHED):
            if revision not in self.published:
                self.published[revision] = await views(self.connection, revision)
            await self.traffic.comes(Version(revision, self.published[revision]))

    async def there_and_back(self, found: Rehearsed, revision: Script, before: Remembered) -> bool:
        """Undo it and apply it again; tell whether the next one can be taken."""
        await self.write_new(revision)
        after = await self.remembered(revision.revision)
        found.compared = max((count for count, _ in after.values.values()), default=0)
        found.down = await self.way("downgrade", revision, found)
        if not found.down.ok:
            return False
        undone = await self.remembered(str(revision.down_revision or ""))
        found.problems += differences("after the way down", before, undone, found.leaves)
        found.again = await self.way("upgrade", revision, found)
        if not found.again.ok:
            return False
        again = await self.remembered(revision.revision)
        found.problems += differences("up again", after, again, None)
        self.progress(self.report, f"{revision.revision} is done")
        return True

    async def write_new(self, revision: Script) -> None:
        """Give some quiet rows values in columns that came with it: they must come back, too."""
        older = self.published.get(str(revision.down_revision or ""), [])
        known = {(table.name, column.name) for table in older for column in table.columns}
        for table in self.published[revision.revision]:
            untouched = self.traffic.quiet(table)
            new = [c for c in table.written if c.nullable and (table.name, c.name) not in known]
            if untouched is None or table.key is None or not older:
                continue
            for column in new:
                given = value(column._replace(nullable=False), self.report.rows)
                with suppress(*MADE_UP_BADLY):
                    await self.connection.execute(
                        f'UPDATE "{table.name}" SET "{column.name}" = {given} '
                        f"FROM generate_series(1, {SOME}) AS n "
                        f'WHERE "{table.key.name}" = n AND {untouched}'
                    )

    async def way(self, direction: str, revision: Script, found: Rehearsed) -> Way:
        """Take a step, measure it, and note what is wrong with it."""
        self.progress(self.report, f"{direction} {revision.revision}")
        began, first = time.time(), len(self.traffic.served)
        self.witness.held.clear()  # of earlier steps: less to look through
        await asyncio.sleep(CALM)  # what is measured here is how long things take when all is calm
        files = dict(await self.connection.fetch(FILES))
        rules = {rule for (rule,) in await self.connection.fetch(RULES)}
        target = revision.revision if direction == "upgrade" else revision.down_revision or "base"
        with TemporaryDirectory() as directory:
            trace = Path(directory) / "trace"
            arguments = (f"trace={trace}", "-x", f"patience={PATIENCE}", direction, str(target))
            failure = None
            try:
                output = await scratch.alembic(self.url, "-x", *arguments, app_role=self.app_role)
            except CommandError as error:
                failure, output = str(error), ""
            await asyncio.sleep(AFTERWARDS)
            now = dict(await self.connection.fetch(FILES))
            rewritten = [name for name in files if name in now and now[name] != files[name]]
            way = measure(
                direction, trace, self.witness,
                served=self.traffic.served[first:], failed=self.failed(rules),
                since=began, rewritten=rewritten, rows=self.report.rows,
            )  # fmt: skip
        if left := NOTHING_TO_UNDO.search(output):
            found.leaves = left[1]
        found.problems += judge(way, self.report.budgets, failure)
        if failure:
            way.ok = False
        else:
            await self.follow(direction, revision.revision)
        return way

    def failed(self, rules: set[str]) -> list[Failed]:
        """What failed since this was asked last, but for what broke rules that were there before.

        Such rows were made up badly, and no step is to blame.
        """
        new = self.traffic.failed[self.failures :]
        self.failures += len(new)
        return [one for one in new if one.rule not in rules]

    async def follow(self, direction: str, revision: str) -> None:
        """Let clients come with a version that was published, and go with one taken back."""
        if direction == "downgrade":
            await self.traffic.goes(revision)
            return
        self.published.setdefault(revision, await tables(self.connection))
        if self.is_filled:  # those who came earlier would get the numbers of the rows to come
            await self.traffic.comes(Version(revision, self.published[revision]))

    async def remembered(self, revision: str) -> Remembered:
        """What there is now, as the version of a revision shows it."""
        known = self.published.get(revision, [])
        return await remembered(self.connection, revision, known, self.traffic.quiet)
