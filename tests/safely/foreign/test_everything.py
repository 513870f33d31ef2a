"""A project with everything: made from empty, then changed at random, under traffic.

Each change is generated, run up, down and up under readers and writers of the versions before and
after, and then `alembic check` must find nothing. A change that is refused changes nothing.
"""

import asyncio
import copy
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from difflib import unified_diff
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from safely.rehearsal.application_tables import tables_of, views_of
from safely.rehearsal.connection import CopyAddress, quoted
from safely.rehearsal.generated_rows import fill
from safely.rehearsal.traffic import FailedQuery, Traffic, Version
from tests.databases import Databases
from tests.everything import BEFORE, PARTITIONS, Everything
from tests.foreign import Originals
from tests.model_changes import Changes
from tests.other_ways import Killed, Scripted, catalogue, counted

CHANGES = 2
CHANGES_IN_FULL = 60
KILLS = 1  # of each run: up, down and up
KILLS_IN_FULL = 4
CHANGES_BEFORE_A_PURGE = 8  # labels of an enum can't change twice without one
ROWS = 40  # of each table
BOOKKEEPING = ("alembic_version", "migration_log")
SEED = 391  # other labels of an enum, and a column of a partitioned table


@pytest.fixture
async def project(databases: Databases, originals: Originals, tmp_path: Path) -> Everything:
    """Return the project as autogenerate has written it, with rows."""
    project = Everything(tmp_path / "everything", originals.programs, await databases.empty())
    project.make()
    assert_clean(project)
    await give_rows(project)
    return project


@pytest.fixture
def seed(pytestconfig: pytest.Config, *, full: bool) -> int:
    """Return the seed of the random changes, and print it."""
    chosen = pytestconfig.getoption("--seed")
    if chosen is None:
        chosen = secrets.randbelow(10**6) if full else SEED
    print(f"\nseed {chosen}")
    return int(chosen)


async def test_a_model_with_everything_is_made_and_changed(
    project: Everything, pytestconfig: pytest.Config, seed: int, *, full: bool
) -> None:
    tables = project.tables()
    number_of_changes = pytestconfig.getoption("--changes") or (
        CHANGES_IN_FULL if full else CHANGES
    )
    changes = Changes(tables, project.kind, Random(seed))  # noqa: S311  # not a secret
    outcomes: Counter[str] = Counter()
    for number in range(number_of_changes):
        before = copy.deepcopy(tables)
        sentence = changes.change()
        print(f"{number}. {sentence}", flush=True)
        project.models_are(tables)
        refusal = await change(project, number, changes.renamed)
        outcomes["refused" if refusal else "done"] += 1
        if refusal:
            print(f"   REFUSED: {refusal}", flush=True)
            tables.clear()
            tables.update(before)
            project.models_are(tables)
        else:
            await give_rows(project)
        if number % CHANGES_BEFORE_A_PURGE == CHANGES_BEFORE_A_PURGE - 1:
            purge(project)
    print(dict(outcomes))


@pytest.mark.only("postgresql")
async def test_scripts_and_killed_runs_end_where_an_undisturbed_run_does(
    project: Everything,
    databases: Databases,
    pytestconfig: pytest.Config,
    seed: int,
    *,
    full: bool,
) -> None:
    scripted = Scripted(project.beside("scripted.ini", await databases.empty()), databases.server)
    killed = Killed(project.beside("killed.ini", await databases.empty()), databases.server)
    killed.random.seed(seed)
    await make_by_other_ways(scripted, killed, kills=KILLS_IN_FULL if full else KILLS)
    tables = project.tables()
    changes = Changes(tables, project.kind, Random(seed))  # noqa: S311  # not a secret
    number_of_changes = pytestconfig.getoption("--changes") or (CHANGES_IN_FULL if full else 1)
    for number in range(number_of_changes):
        for each in (project, scripted.project, killed.project):
            await give_rows(each)
        before, kept = project.revisions[-1], copy.deepcopy(tables)
        print(f"{number}. {changes.change()}", flush=True)
        project.models_are(tables)
        refusal = attempt(project, "revision", "--autogenerate", "-m", f"change {number}")
        if not refusal:
            if changes.renamed:
                rename_labels(file_of(project), changes.renamed)
            refusal = await go_by_all(project, scripted, killed, before, full=full)
        if refusal:
            print(f"   REFUSED: {refusal}", flush=True)
            take_back(project, before)
            tables.clear()
            tables.update(kept)
        if number % CHANGES_BEFORE_A_PURGE == CHANGES_BEFORE_A_PURGE - 1:
            for each in (project, scripted.project, killed.project):
                purge(each)
    print(f"{killed.kills} kills; scripts refused: {scripted.refused}")


async def make_by_other_ways(scripted: Scripted, killed: Killed, *, kills: int) -> None:
    """Bring both databases from empty to the head."""
    for other in (scripted.project, killed.project):
        other.execute(*BEFORE)
    head = scripted.project.revisions[-1]
    await scripted.run("upgrade", "base", head)
    await killed.run("upgrade", head, kills=kills, requests=200)
    for other in (scripted.project, killed.project):
        other.execute(*PARTITIONS)


async def go_by_all(
    project: Everything, scripted: Scripted, killed: Killed, before: str, *, full: bool
) -> str | None:
    """Go up, down and up again by each way; the catalogues must be the same after each step.

    Return the refusal, where the project itself is refused on its first way up.
    """
    after, server = project.revisions[-1], killed.server
    for command, start, end in (
        ("upgrade", before, after), ("downgrade", after, before), ("upgrade", before, after),
    ):  # fmt: skip
        async with counted(project, server) as proxy:
            refusal = await asyncio.to_thread(attempt, project, command, end)
        if refusal:
            return refusal
        await scripted.run(command, start, end)
        kills = KILLS_IN_FULL if full else KILLS
        await killed.run(command, end, kills=kills, requests=proxy.requests)
        expected = catalogue(project, server)
        for other in (scripted.project, killed.project):
            lines = catalogue(other, server).splitlines()
            assert [*unified_diff(expected.splitlines(), lines, "expected", other.ini, n=1)] == []
    return None


def take_back(project: Everything, before: str) -> None:
    """Undo what a refused change has begun, and delete its file."""
    if project.revisions[-1] != before:
        project.alembic("downgrade", before)  # undoes the half, if it was begun
        file_of(project).unlink()


async def change(project: Everything, number: int, renamed: dict[str, str]) -> str | None:
    """Generate a revision and run it up, down and up; return the refusal, if it was refused.

    `renamed` are labels of an enum, which its author writes into the revision.
    """
    before, catalogue, keys = project.revisions[-1], dump(project), await keys_of(project)
    generated = attempt(project, "revision", "--autogenerate", "-m", f"change {number}")
    if generated:
        assert dump(project) == catalogue
        return generated
    if renamed:
        rename_labels(file_of(project), renamed)
    async with traffic_on(project, before) as traffic:
        refusal = await asyncio.to_thread(attempt, project, "upgrade", "head")
        if not refusal:
            await start(project, traffic, project.revisions[-1])
            await asyncio.sleep(0.3)
            await undo(project, traffic)
            # refused where older builds have broken a rule meanwhile
            refusal = await asyncio.to_thread(attempt, project, "upgrade", "head")
        if not refusal:
            await start(project, traffic, project.revisions[-1])
            await asyncio.sleep(0.3)
    failed = [query for query in getattr(traffic, "failed", []) if not is_rule(query)]
    assert not failed, Counter(f"{query.version}: {query.error}" for query in failed)
    if refusal:
        take_back(project, before)
        assert dump(project) == catalogue
        return refusal
    assert_clean(project)
    for table, known in keys.items():
        assert known <= (await keys_of(project)).get(table, known), table
    return None


def file_of(project: Everything) -> Path:
    """Return the file of the last revision."""
    return next((project.directory / "migrations/versions").glob(f"{project.revisions[-1]}_*"))


def rename_labels(file: Path, renamed: dict[str, str]) -> None:
    """Write into the revision's calls of change_enum which labels were renamed, and back.

    A label in the place of which another one of before comes is none to be renamed back.
    """
    up, separator, down = file.read_text(encoding="utf-8").partition("def downgrade")
    call = re.compile(r"(safely\.change_enum\(.*)\)$", re.MULTILINE)
    before = up.partition("existing=")[2].partition("]")[0]
    up = call.sub(lambda match: f"{match[1]}, renamed={renamed!r})", up)
    back = {new: old for old, new in renamed.items() if repr(new) not in before}
    down = call.sub(lambda match: f"{match[1]}, renamed={back!r})", down)
    file.write_text(f"{up}{separator}{down}", encoding="utf-8")


def purge(project: Everything) -> None:
    """Drop what older builds need, unless something that the models don't have needs it, too."""
    command = ["python", "-m", "safely", "purge", "--before", project.revisions[-1], "--yes"]
    process = project.process(command, merged=True)
    assert process.returncode == 0 or "needed by" in process.stdout, process.stdout
    print(f"   PURGED: {process.stdout.splitlines()[-1]}", flush=True)
    assert_clean(project)


async def undo(project: Everything, traffic: Traffic | None) -> None:
    """Undo the last revision; delete what newer builds wrote that the type before can't hold."""
    refusal = await asyncio.to_thread(attempt, project, "downgrade", "-1")
    if refusal is None:
        return
    print(f"   UNDOING REFUSED: {refusal}", flush=True)
    if traffic is not None:
        await traffic.stop(project.revisions[-1])
    query = refusal.partition("See them with: SELECT * ")[2]
    project.execute(f"DELETE {query.replace(':', chr(92) + ':')}")
    await asyncio.to_thread(project.alembic, "downgrade", "-1")


def attempt(project: Everything, *arguments: str) -> str | None:
    """Run alembic; return its refusal, which is one line; None where it succeeds."""
    process = project.process(["alembic", *arguments], merged=True)
    if process.returncode == 0:
        return None
    assert "Traceback" not in process.stdout, process.stdout
    return next(line for line in process.stdout.splitlines() if "FAILED: " in line)


def assert_clean(project: Everything) -> None:
    """Check that the models are the database's, and that no published view evades a policy."""
    output = project.alembic("check")
    assert "No new upgrade operations detected" in output, output
    if project.on_postgresql:
        assert project.rows(EVADING) == []


EVADING = """\
SELECT view.oid\\:\\:regclass FROM pg_class AS view JOIN pg_rewrite ON ev_class = view.oid
JOIN pg_depend ON classid = 'pg_rewrite'\\:\\:regclass AND objid = pg_rewrite.oid
JOIN pg_class AS base ON base.oid = refobjid
WHERE starts_with(view.relnamespace\\:\\:regnamespace\\:\\:text, 'at_') AND base.relrowsecurity
  AND NOT 'security_invoker=true' = ANY (coalesce(view.reloptions, '{}'))"""


def is_rule(query: FailedQuery) -> bool:
    """Return whether a query broke a rule: generated values may break those of a model.

    A NOT NULL is meant by who requires a column without a value to fill in.
    """
    return query.constraint is not None or query.error.startswith("NotNullViolationError")


def dump(project: Everything) -> str:
    """Return the catalogue of the application's tables, without what is set aside."""
    if not project.on_postgresql:
        rows = project.rows("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
        return "\n".join(str(row) for row in rows if "_aside_" not in str(row))
    rows = project.rows(CATALOGUE)
    return "\n".join(" ".join(map(str, row)) for row in rows)


CATALOGUE = """\
SELECT 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
       attidentity, attgenerated, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
  AND attnum > 0 AND NOT attisdropped
  AND NOT starts_with(attname, '_aside_')
UNION ALL
SELECT 'rule', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated,
       '', '', '', ''
FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND NOT starts_with(conname, '_aside_')
UNION ALL
SELECT 'index', indrelid::regclass, relname, pg_get_indexdef(indexrelid), indisvalid,
       '', '', '', ''
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = 'public'::regnamespace AND NOT starts_with(relname, '_aside_')
UNION ALL
SELECT 'sequence', seqrelid::regclass, seqtypid::regtype::text,
       concat_ws(' ', seqstart, seqincrement, seqmin, seqmax, seqcache), seqcycle, '', '', '', ''
FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'policy', polrelid::regclass, polname, pg_get_expr(polqual, polrelid), polpermissive,
       '', '', '', ''
FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid
WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgrelid::regclass, tgname, pg_get_triggerdef(pg_trigger.oid), true,
       '', '', '', ''
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal
  AND tgfoid NOT IN (SELECT oid FROM pg_proc WHERE proname IN ('sync_retyped', 'fill_missing'))
ORDER BY 1, 2, 3"""


async def keys_of(project: Everything) -> dict[str, set[Any]]:
    """Return the keys of the rows of each table that has a key."""
    if not project.on_postgresql:
        return {}
    connection = await asyncpg.connect(project.url)
    try:
        return {
            table.name: {
                row[0]
                for row in await connection.fetch(
                    f"SELECT concat_ws('/', {', '.join(quoted(c.name) for c in table.key)}) "
                    f"FROM {quoted(table.name)} WHERE xmin::text::bigint <= $1",
                    2**62,
                )
            }
            for table in await tables_of(connection, BOOKKEEPING)
            if table.key
        }
    finally:
        await connection.close()


# partitioned tables, each with the partition that takes the rows for which it has none
MISSING_PARTITIONS = """\
SELECT format('CREATE TABLE %I PARTITION OF %I %s', relname || '_rest', relname,
              CASE partstrat WHEN 'h' THEN 'FOR VALUES WITH (MODULUS 1, REMAINDER 0)'
                ELSE 'DEFAULT' END) AS statement
FROM pg_partitioned_table JOIN pg_class ON pg_class.oid = partrelid
WHERE relnamespace = 'public'::regnamespace AND NOT relispartition AND partdefid = 0
  AND NOT (partstrat = 'h' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = partrelid))"""


async def give_rows(project: Everything) -> None:
    """Give each partitioned table a partition for all rows, and each empty table rows."""
    if not project.on_postgresql:
        return
    connection = await asyncpg.connect(project.url)
    try:
        for row in await connection.fetch(MISSING_PARTITIONS):
            await connection.execute(row["statement"])
        tables = await tables_of(connection, BOOKKEEPING)
        empty = await fill(connection, tables, lambda table: quoted("public", table), ROWS)
        if empty:
            print(f"   no rows: {empty}")
    finally:
        await connection.close()


@asynccontextmanager
async def traffic_on(project: Everything, revision: str) -> AsyncIterator[Traffic | None]:
    """Let a reader and a writer of the version work until the end of the block (PostgreSQL)."""
    if not project.on_postgresql:
        yield None
        return
    traffic = Traffic(CopyAddress(project.url, None), project.name, "")
    async with traffic.flowing():
        await start(project, traffic, revision)
        yield traffic
    for reason in traffic.unwritten.items():
        print(f"   nobody writes to {reason}")


async def start(project: Everything, traffic: Traffic | None, revision: str) -> None:
    """Start a reader and a writer of a published version."""
    if traffic is None:
        return
    connection = await asyncpg.connect(project.url)
    try:
        tables = await tables_of(connection, BOOKKEEPING)
        views = await views_of(connection, quoted(f"at_{revision}"), tables)
    finally:
        await connection.close()
    await traffic.stop(revision)
    await traffic.start(Version(revision, f"at_{revision}", views, is_published=True))
