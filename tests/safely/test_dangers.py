"""Each revision in tests/data/dangers is named by its own rule, and takes the locks it names."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from safely.lint import lint
from safely.lint.findings import Finding
from safely.lint.rendering import Statement, render
from safely.lint.rules import RULES
from safely.lint.source import read
from safely.lint.squawk import IGNORED, OLDEST_POSTGRESQL, OPT_IN, OWN
from tests.dangers import (
    DANGERS,
    HARMLESS,
    MODELS,
    OPTIONS,
    SCHEMA,
    Danger,
    dangers,
    script_directory,
    statements,
    until,
)
from tests.paths import ROOT

LIST = dangers()
OUTSIDE = re.compile(r"\bCONCURRENTLY\b|^VACUUM\b")  # PostgreSQL refuses these in a transaction
NOT_RUN = {  # a danger that would reach beyond the database of the test, or that nothing can run
    "batch_that_recreates": "Alembic copies the table only where it can read it",
    "commit": "it would end the transaction of the test",
    "commit_behind_statement": "it would end the transaction of the test",
    "rollback": "it would end the transaction of the test",
    "alter_system": "it changes the server's configuration",
    "dblink": "it connects to another database",
    "drop_database": "it drops another database",
    "execute_prepared": "nobody has prepared the statement",
    "large_object": "it writes a file of the server's",
    "lossy_downgrade": "the upgrade has locked the table already",
    "new_value_in_update": "PostgreSQL refuses it, as the rule says",
    "new_value_used": "PostgreSQL refuses it, as the rule says",
    "prepare_transaction": "it would outlive the test",
    "reads_database": "what it does depends on the database",
    "refused": "it is never printed as SQL",
    "syntax_error": "PostgreSQL can't read it",
}
NO_FILE = {  # rules that no file alone can break
    "edited-file": "it needs a ledger",
    "not-suppressible": "it needs an edited file",
}
# further findings on other lines of an upgrade, beside those that plain Alembic always has
TWO_DANGERS = {
    ("no_reason", "plain-drop"),  # which the comment doesn't suppress
    ("not_null_and_validate", "not-null-not-valid"),
}
READS = ("ACCESS SHARE", "ROW SHARE")
SQUAWK = Path(sys.executable).with_name("squawk")
# rules of squawk that lint reports in squawk's words
KEPT = {"ban-char-field", "ban-create-domain-with-constraint"}
ROLES = ("app", "app_owner", "reporting")
# the locks of a session on tables, views and sequences that others use; those of reads and of
# nextval() are left out, and those on the sequence of an identity
LOCKS = """
SELECT relation::regclass::text, upper(regexp_replace(mode, '(?<=[a-z])(?=[A-Z])', ' ', 'g'))
FROM pg_locks JOIN pg_class ON pg_class.oid = relation
WHERE pid = $1 AND locktype = 'relation' AND granted = $2
    AND relkind IN ('r', 'p', 'v', 'm', 'S', 'c')
    AND (relnamespace::regnamespace::text IN ('public', 'archive') OR relname = 'pg_enum')
    AND mode NOT IN ('AccessShareLock', 'RowShareLock')
    AND NOT (relkind = 'S' AND mode = 'RowExclusiveLock')
    AND NOT (relkind = 'S' AND EXISTS (
        SELECT FROM pg_depend WHERE objid = relation AND deptype = 'i'
    ))
"""
STRENGTH = (
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)
IN_THE_WAY = {  # for a mode, the weakest one for which it waits
    "ACCESS EXCLUSIVE": "ACCESS SHARE",
    "SHARE UPDATE EXCLUSIVE": "SHARE UPDATE EXCLUSIVE",
}


class Witness:
    """Two connections: one that runs a danger, and one that looks at its locks."""

    def __init__(self, runner: asyncpg.Connection, observer: asyncpg.Connection) -> None:
        self.runner, self.observer = runner, observer
        self.pid = runner.get_server_pid()

    async def locks(self, *, granted: bool) -> set[tuple[str, str]]:
        """Return each table with each lock mode that the runner holds on it, or waits for."""
        rows = await self.observer.fetch(LOCKS, self.pid, granted)
        return {(name.rpartition(".")[2], mode.removesuffix(" LOCK")) for name, mode in rows}

    async def in_transaction(
        self, before: list[Statement], marked: list[Statement]
    ) -> dict[str, str]:
        """Return the locks that the marked statements take in an open transaction."""
        await self.runner.execute("BEGIN")
        try:
            for role in ROLES:
                await self.runner.execute(f"CREATE ROLE {role}")
            for statement in before:
                await self.runner.execute(statement.text)
            earlier = await self.locks(granted=True)
            for statement in marked:
                await self.runner.execute(statement.text)
            return strongest(await self.locks(granted=True) - earlier)
        finally:
            await self.runner.execute("ROLLBACK")

    async def waited_for(self, statement: Statement, table: str, mode: str) -> dict[str, str]:
        """Return the lock for which a statement waits that runs in no transaction."""
        async with self.observer.transaction():
            await self.observer.execute(f"LOCK TABLE {table} IN {IN_THE_WAY[mode]} MODE")
            running = asyncio.create_task(self.runner.execute(statement.text))
            async with asyncio.timeout(30):
                while not (waiting := await self.locks(granted=False)):
                    assert not running.done(), await running
            await self.observer.execute("SELECT pg_cancel_backend($1)", self.pid)
            with suppress(asyncpg.QueryCanceledError):
                await running
        return strongest(waiting)


def strongest(locks: set[tuple[str, str]]) -> dict[str, str]:
    """Return the strongest lock on each table."""
    return dict(sorted(locks, key=lambda lock: STRENGTH.index(lock[1])))


@pytest.fixture
async def witness(empty_url: str) -> AsyncIterator[Witness]:
    """Yield two connections to a database with the tables in use."""
    runner, observer = await asyncpg.connect(empty_url), await asyncpg.connect(empty_url)
    yield Witness(runner, observer)
    await runner.close()
    await observer.close()


async def measure(witness: Witness, danger: Danger, emitted: list[Statement]) -> dict[str, str]:
    """Return the locks that a danger takes."""
    before, marked = until(danger, emitted)
    for statement in marked:
        if OUTSIDE.search(statement.text):
            (table, mode), *later = danger.locks.items()
            return await witness.waited_for(statement, table, mode) | dict(later)
    return await witness.in_transaction(before, marked)


@pytest.mark.only("postgresql")
async def test_each_danger_takes_the_locks_that_its_file_names(witness: Witness) -> None:
    script = script_directory(DANGERS)
    revisions = {revision.revision: revision for revision in script.walk_revisions()}
    for statement in statements(script, revisions[SCHEMA]):
        await witness.runner.execute(statement.text)
    wrong = {}
    for danger in LIST:
        if danger.revision not in NOT_RUN:
            emitted = statements(script, revisions[danger.revision])
            locks = await measure(witness, danger, emitted)
            if locks != danger.locks | danger.hidden_locks:
                wrong[danger.revision] = locks
    assert wrong == {}


def lint_folder(folder: Path) -> dict[str, list[Finding]]:
    """Return the findings of each revision in a folder, by its id."""
    script = script_directory(folder)
    revisions = [one for one in script.walk_revisions() if one.revision != SCHEMA]
    return lint(script, revisions, MODELS, OPTIONS)


@pytest.fixture(scope="module")
def findings() -> dict[str, list[Finding]]:
    """Return the findings of each danger, by its revision."""
    return lint_folder(DANGERS)


def own_finding(danger: Danger, findings: dict[str, list[Finding]]) -> Finding | None:
    """Return the finding of a danger's own rule that begins on its own line."""
    return next(
        (
            finding
            for finding in findings[danger.revision]
            if finding.rule == danger.rule and finding.line == danger.line
        ),
        None,
    )


def test_each_danger_is_named_by_its_own_rule_on_its_own_line(
    findings: dict[str, list[Finding]],
) -> None:
    assert len(LIST) >= 140
    missed = [danger.revision for danger in LIST if own_finding(danger, findings) is None]
    assert missed == []


def test_each_finding_names_the_locks_that_were_measured(
    findings: dict[str, list[Finding]],
) -> None:
    wrong = {}
    for danger in LIST:
        finding = own_finding(danger, findings)
        named = (
            {table: mode for table, mode in finding.locks if mode not in READS} if finding else {}
        )
        if named != danger.locks:
            wrong[danger.revision] = named
    assert wrong == {}


def test_no_other_line_of_an_upgrade_has_a_finding(findings: dict[str, list[Finding]]) -> None:
    others = set()
    for danger in LIST:
        downgrade = read(danger.path).first_line(up=False)[0]
        for finding in findings[danger.revision]:
            if finding.line not in (danger.line, *range(downgrade, finding.line + 1)):
                others.add((danger.revision, finding.rule))
    assert {(name, rule) for name, rule in others if rule != "raw-op"} == TWO_DANGERS


def test_every_finding_is_a_whole_sentence(findings: dict[str, list[Finding]]) -> None:
    texts = [f"{one.message} {one.why}" for found in findings.values() for one in found]
    assert [text for text in texts if re.search(r"(?<!\()…(?! [A-Z])|\{|  ", text)] == []


def test_every_rule_has_a_danger() -> None:
    assert {danger.rule for danger in LIST} >= set(RULES) - set(NO_FILE)


def test_each_of_our_cells_in_the_documentation_names_the_rule_that_lint_finds(
    findings: dict[str, list[Finding]],
) -> None:
    text = (ROOT / "docs/lint.md").read_text(encoding="utf-8")
    cells = re.findall(r"\[`([\w-]+)`\]\(\.\./tests/data/dangers/(\w+)/(\w+)\.py\)", text)
    assert {rule for rule, _, _ in cells} == set(RULES) - set(NO_FILE)
    by_place = {(danger.category, danger.revision): danger for danger in LIST}
    for rule, category, name in cells:
        danger = by_place[category, name]
        assert danger.rule == rule
        assert own_finding(danger, findings), rule


@pytest.fixture(scope="module")
def remarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the rules of squawk, all switched on, that each dangerous upgrade breaks."""
    directory = tmp_path_factory.mktemp("squawk")
    script = script_directory(DANGERS)
    for revision in script.walk_revisions():
        if revision.revision != SCHEMA:
            rendering = render(script, revision, MODELS, OPTIONS, up=True)
            sql = "\n".join(statement.text for statement in rendering.statements)
            (directory / f"{revision.revision}.sql").write_text(sql, encoding="utf-8")
    (directory / "empty.toml").touch()
    process = subprocess.run(
        [
            str(SQUAWK),
            "--reporter=json",
            f"--pg-version={OLDEST_POSTGRESQL}",
            "--config=empty.toml",
            *(f"--include={rule}" for rule in OPT_IN),
            *(path.name for path in directory.glob("*.sql")),
        ],
        cwd=directory,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    rules: dict[str, set[str]] = {}
    for entry in json.loads(process.stdout):
        rules.setdefault(Path(entry["file"]).stem, set()).add(entry["rule_name"])
    return rules


def test_no_rule_of_squawk_is_unjudged(remarks: dict[str, set[str]]) -> None:
    rules = set().union(*remarks.values())
    assert rules - {*IGNORED, *OWN, *OPT_IN} == KEPT


def test_where_squawk_reports_something_lint_has_a_finding(
    remarks: dict[str, set[str]], findings: dict[str, list[Finding]]
) -> None:
    ignored = {*IGNORED, *(rule for rule, reason in OPT_IN.items() if reason not in RULES)}
    assert not {name for name, rules in remarks.items() if rules - ignored and not findings[name]}


def test_what_does_no_harm_has_no_finding() -> None:
    found = lint_folder(HARMLESS)
    assert len(found) >= 40
    assert {name: [one.rule for one in found[name]] for name in found if found[name]} == {}
