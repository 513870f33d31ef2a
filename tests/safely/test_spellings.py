"""What lint prints under `safe` is pasted and run, and makes what the plain code makes."""

import ast
import asyncio
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from safely.lint import lint, select
from safely.lint.findings import ADDING_RULES, LOOP, SPLITTING_RULES, Finding
from tests.databases import Databases
from tests.foreign import ASYNC_DRIVERS, DRIVERS, copy_of
from tests.foreign_projects import ADOPT, IMPORT, IMPORT_SAFELY
from tests.revisions import indented
from tests.spellings import CASES, GROUND, MODELS, ROWS, Case

GROUND_ID = "90d000000000"
FILE = '''\
"""a case"""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import safely

revision = "{revision}"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade():
{up}


def downgrade():
{down}
'''
SAMPLE = (  # what is run without --full
    "index everything",
    "several actions, one without a spelling",
    "table dropped",
    "op column foreign key with everything",
    "batch of several",
    "update alias in a subquery",
)

# everything of the tables but what the engine hides: what is set aside, and its triggers
CATALOGUE = r"""
WITH tables AS (
  SELECT pg_class.oid, relname, relpersistence FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    AND relname NOT IN ('alembic_version', 'migration_log')),
columns AS (
  SELECT tables.relname, pg_attribute.* FROM tables JOIN pg_attribute ON attrelid = tables.oid
  WHERE attnum > 0 AND NOT attisdropped AND NOT starts_with(attname, '_aside_'))
SELECT 'table ' || relname, concat_ws(' ', relpersistence, obj_description(oid, 'pg_class'))
FROM tables
UNION ALL SELECT 'column ' || relname || '.' || attname, concat_ws(' ',
  format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END, attidentity,
  attgenerated, attcollation::regcollation, pg_get_expr(adbin, adrelid),
  col_description(attrelid, attnum))
FROM columns LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL SELECT 'constraint ' || conname || ' on ' || relname, concat_ws(' ',
  pg_get_constraintdef(pg_constraint.oid), obj_description(pg_constraint.oid, 'pg_constraint'))
FROM tables JOIN pg_constraint ON conrelid = tables.oid
WHERE contype <> 'n' AND NOT starts_with(conname, '_aside_')
  AND pg_get_constraintdef(pg_constraint.oid) !~ '_aside_'
UNION ALL SELECT 'index ' || pg_class.relname, concat_ws(' ', pg_get_indexdef(pg_class.oid),
  CASE WHEN NOT indisvalid THEN 'INVALID' END, (
    SELECT spcname FROM pg_tablespace WHERE oid = reltablespace))
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN tables ON tables.oid = indrelid
WHERE NOT starts_with(pg_class.relname, '_aside_') AND pg_get_indexdef(pg_class.oid) !~ '_aside_'
UNION ALL SELECT 'trigger ' || tgname || ' on ' || relname, pg_get_triggerdef(pg_trigger.oid)
FROM tables JOIN pg_trigger ON tgrelid = tables.oid
WHERE NOT tgisinternal AND tgfoid <> ALL (ARRAY[
  to_regproc('fill_missing'), to_regproc('sync_retyped')]::oid[])
UNION ALL SELECT 'enum ' || typname, (
    SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum
    WHERE enumtypid = pg_type.oid)
FROM pg_type WHERE typtype = 'e' AND typnamespace = 'public'::regnamespace
  AND coalesce(obj_description(oid, 'pg_type'), '') !~ 'set aside by'
ORDER BY 1
"""
TABLES = {
    "postgresql": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
    "AND relkind IN ('r', 'p') AND relname NOT IN ('alembic_version', 'migration_log') ORDER BY 1",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1",
}

State = tuple[list[Any], dict[str, list[Any]]]
"""The catalogue, and the rows of each table as text."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every case with --full, and a sample without."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", CASES if metafunc.config.getoption("--full") else SAMPLE)


class Revision(NamedTuple):
    """A case as a revision of plain code, and its findings."""

    id: str
    path: Path
    findings: list[Finding]


class Garden(NamedTuple):
    """A project of Alembic's async template with safely, and a revision for each case."""

    directory: Path
    revisions: dict[str, Revision]
    grounds: dict[str, str]
    """The address of a database at the ground, with rows, of each kind; none at first."""

    async def copy_of_ground(self, databases: Databases) -> str:
        """Return the address of a database at the ground, with rows."""
        kind = databases.kind
        if kind not in self.grounds:
            url = await databases.empty()
            await asyncio.to_thread(command.upgrade, self.config(url), GROUND_ID)
            with connection(url) as connected:
                for statement in ROWS:
                    connected.execute(sa.text(statement))
                connected.commit()
            self.grounds[kind] = url
        return await copy_of(databases, self.grounds[kind])

    def write(self, revision: str, text: str) -> Path:
        """Write the one revision that follows the ground; return its file."""
        for path in (self.directory / "migrations/versions").glob("case_*.py"):
            path.unlink()
        path = self.directory / f"migrations/versions/case_{revision}.py"
        path.write_text(text, encoding="utf-8")
        return path

    def config(self, url: str) -> Config:
        """Return what alembic reads from alembic.ini."""
        config = Config()
        config.set_main_option("script_location", str(self.directory / "migrations"))
        address = sa.make_url(url)
        address = address.set(drivername=ASYNC_DRIVERS[address.get_backend_name()])
        text = address.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", text.replace("%", "%%"))
        # what hurts in a spelling itself, such as a default that goes, is argued away
        config.cmd_opts = Namespace(x=["unsafe=the plain code does it, too"])
        return config


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Garden:
    """Return the project, whose cases were linted at once."""
    directory = tmp_path_factory.mktemp("garden")
    command.init(Config(directory / "alembic.ini"), str(directory / "migrations"), "async")
    env = directory / "migrations/env.py"
    text = env.read_text(encoding="utf-8")
    metadata = (
        (IMPORT, IMPORT_SAFELY + MODELS),
        ("target_metadata = None\n", 'project = Project(name="garden", metadata=metadata)\n'),
    )
    for old, new in (*metadata, *ADOPT):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    env.write_text(text, encoding="utf-8")
    up, down = GROUND
    ground = FILE.format(revision=GROUND_ID, before=None, up=indented(up), down=indented(down))
    (directory / "migrations/versions/ground.py").write_text(ground, encoding="utf-8")
    return Garden(directory, linted(directory), {})


def linted(directory: Path) -> dict[str, Revision]:
    """Write each case beside the others, after the ground; return them with their findings."""
    place = directory / "plain"
    (place / "versions").mkdir(parents=True)
    ground = directory / "migrations/versions/ground.py"
    (place / "versions/ground.py").write_text(ground.read_text("utf-8"), encoding="utf-8")
    ids = {name: f"{number:012x}" for number, name in enumerate(CASES, start=1)}
    for name, case in CASES.items():
        up, down = indented(case.up), indented(case.down)
        text = FILE.format(revision=ids[name], before=GROUND_ID, up=up, down=down)
        (place / f"versions/{ids[name]}.py").write_text(text, encoding="utf-8")
    script = ScriptDirectory(str(place))
    metadata = namespace(MODELS)["metadata"]
    revisions = select(script, list(ids.values()))
    findings = lint(script, revisions, metadata, {"lock_timeout": "100ms"})
    return {
        name: Revision(ids[name], place / f"versions/{ids[name]}.py", findings[ids[name]])
        for name in CASES
    }


def namespace(source: str) -> dict[str, Any]:
    """Return what a source defines."""
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102  # our own models
    return names


@contextmanager
def connection(url: str) -> Iterator[sa.Connection]:
    """Yield a connection of a driver that knows nothing of safely."""
    address = sa.make_url(url)
    address = address.set(drivername=DRIVERS[address.get_backend_name()])
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    with engine.connect() as connected:
        yield connected


def state(url: str, kind: str) -> State:
    """Return the catalogue, and the rows without columns that are set aside."""
    with connection(url) as connected:
        tables = [name for (name,) in connected.execute(sa.text(TABLES[kind]))]
        hidden = ("_aside_", "alembic_version", "migration_log", "sqlite_")
        tables = [name for name in tables if not name.startswith(hidden)]
        if kind == "postgresql":
            catalogue = [tuple(row) for row in connected.execute(sa.text(CATALOGUE))]
        else:
            inspector = sa.inspect(connected)
            catalogue = [
                (table, sorted(name for name in names if not name.startswith("_aside_")))
                for table in tables
                for names in [[column["name"] for column in inspector.get_columns(table)]]
            ]
        rows = {}
        for table in tables:
            mappings = connected.execute(sa.text(f'SELECT * FROM "{table}"')).mappings()
            rows[table] = sorted(
                str(sorted((k, v) for k, v in row.items() if not k.startswith("_aside_")))
                for row in mappings
            )
    return catalogue, rows


class Pasted(NamedTuple):
    """A revision with the spellings in the place of what lint has reported."""

    text: str
    spelled: list[str]
    """The spellings in the upgrade."""


def spelling_of(findings: list[Finding]) -> str | None:
    """Return what lint proposes for a line; fail where two findings contradict each other."""
    proposals = [
        str(finding.safe)
        for finding in findings
        if finding.safe
        and finding.rule not in (*ADDING_RULES, *SPLITTING_RULES)
        and finding.safe.startswith(("safely.", "op.", "#", "def "))
    ]
    longest = max(proposals, key=len, default=None)
    assert all(proposal in str(longest) for proposal in proposals), proposals
    return longest


def pasted(revision: Revision, case: Case) -> Pasted:
    """Paste what stands under `safe`, and fill in what only the author knows."""
    source = revision.path.read_text(encoding="utf-8")
    lines = source.splitlines()
    (_, downgrade) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    by_line: dict[int, list[Finding]] = {}
    for finding in revision.findings:
        by_line.setdefault(finding.line, []).append(finding)
    proposals = [
        (findings[0], safe)
        for _, findings in sorted(by_line.items())
        if (safe := spelling_of(findings))
    ]
    fills = iter(case.fills)
    texts = [
        (finding, re.sub("…", lambda _: next(fills, "…"), safe)) for finding, safe in proposals
    ]
    loops = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.For)
        and any(node.lineno < one.line <= (node.end_lineno or 0) and LOOP in safe
                for one, safe in texts)
    ]  # fmt: skip
    for finding, text in texts[::-1]:
        margin = re.match(" *", lines[finding.line - 1])[0]  # type: ignore[index]  # it matches
        if LOOP in text:
            margin = margin[4:]
        lines[finding.line - 1 : finding.last] = [margin + part for part in text.splitlines()]
        if loops and loops[-1].lineno == finding.line - 1:
            del lines[loops.pop().lineno - 1]  # the spelling stands in its place
    in_upgrade = [safe for finding, safe in proposals if finding.line < downgrade.lineno]
    return Pasted("\n".join(lines) + "\n", in_upgrade)


def plainly(url: str, revision: Revision, *, up: bool) -> None:
    """Run the plain code with Alembic alone."""
    text = revision.path.read_text(encoding="utf-8")
    with connection(url) as connected:
        metadata = namespace(MODELS)["metadata"]
        context = MigrationContext.configure(
            connected, opts={"target_metadata": metadata, "transaction_per_migration": True}
        )
        with Operations.context(context), context.begin_transaction(_per_migration=True):
            namespace(text)["upgrade" if up else "downgrade"]()
        connected.commit()


def test_all_findings_about_a_line_print_one_spelling_or_none(garden: Garden) -> None:
    for name, case in CASES.items():
        paste = pasted(garden.revisions[name], case)
        assert bool(paste.spelled) != case.none, name
        assert case.none or "…" not in paste.text, paste.text


async def test_every_spelling_can_be_pasted_and_makes_what_the_plain_code_makes(
    garden: Garden, databases: Databases, name: str
) -> None:
    case, revision, kind = CASES[name], garden.revisions[name], databases.kind
    if case.none or case.only not in ("", kind):
        return
    paste = pasted(revision, case)
    made = None
    if kind == "postgresql" and not case.alone:
        made = await made_plainly(garden, databases, revision, is_undone=case.down != "pass")
    garden.write(revision.id, paste.text)
    url = await garden.copy_of_ground(databases)
    config = garden.config(url)
    try:
        for turn in ("first", "second"):
            await asyncio.to_thread(command.upgrade, config, "head")
            if made and turn == "first":
                compare(state(url, kind), made[0], case, "upgrade", paste.text)
            await asyncio.to_thread(command.downgrade, config, GROUND_ID)
            if made and turn == "first":
                compare(state(url, kind), made[1], case, "downgrade", paste.text)
    except Exception as error:
        error.add_note(paste.text)
        raise
    finally:
        await databases.drop(url)


async def made_plainly(
    garden: Garden, databases: Databases, revision: Revision, *, is_undone: bool
) -> tuple[State, State]:
    """Return what the plain code makes, up and down; the ground where it has no way down."""
    url = await garden.copy_of_ground(databases)
    with connection(url) as connected:  # the views of a published version forbid much to plain SQL
        connected.execute(sa.text(f"DROP SCHEMA at_{GROUND_ID} CASCADE"))
        connected.commit()
    before = state(url, databases.kind)
    await asyncio.to_thread(plainly, url, revision, up=True)
    upgraded = state(url, databases.kind)
    if is_undone:
        await asyncio.to_thread(plainly, url, revision, up=False)
        before = state(url, databases.kind)
    await databases.drop(url)
    return upgraded, before


def compare(safe: State, plain: State, case: Case, direction: str, text: str) -> None:
    """Fail where the spelling has made something else than the plain code."""
    rows_differ = case.other_rows or (direction == "downgrade" and case.down == "pass")
    differing = set(map(str, safe[0])) ^ set(map(str, plain[0]))
    unexpected = {one for one in differing if not any(part in one for part in case.differs)}
    assert unexpected == set(), f"{direction}\n{text}"
    if not rows_differ:
        assert safe[1] == plain[1], f"{direction}\n{text}"
