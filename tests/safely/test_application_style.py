"""Lint judges revisions as applications write them: every branch, each statement by itself."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from safely.lint import lint, select
from safely.lint.findings import Finding
from safely.lint.scratch_schema import ScratchSchema
from tests.databases import Databases
from tests.paths import ROOT

APPLICATION = ROOT / "tests/data/application_style"
VERSIONS = sorted((APPLICATION / "migrations/versions").glob("*.py"))
OPTIONS = {"lock_timeout": "100ms"}
# `# <- rule, rule` behind a line; a rule may need a scratch database, or the lack of one
EXPECTED = re.compile(r"# <- (?:(?P<where>on a scratch database|without one): )?(?P<rules>[^#]+)")
Findings = dict[str, list[Finding]]


@pytest.fixture(scope="module", autouse=True)
def application() -> Iterator[None]:
    """Let the revisions import a module of their application."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(APPLICATION)
        yield


@pytest.fixture(scope="module")
def script() -> ScriptDirectory:
    return ScriptDirectory(str(APPLICATION / "migrations"))


@pytest.fixture(scope="module")
def answered(script: ScriptDirectory, all_databases: dict[str, Databases]) -> Findings:
    """Return the findings where a scratch database answers the bodies."""
    address = asyncio.run(all_databases["postgresql"].empty())
    with ScratchSchema(script, sa.MetaData(), OPTIONS, address=address) as scratch:
        return lint(script, select(script, []), sa.MetaData(), OPTIONS, scratch=scratch)


@pytest.fixture(scope="module")
def unanswered(script: ScriptDirectory) -> Findings:
    """Return the findings where there is no scratch database."""
    return lint(script, select(script, []), sa.MetaData(), OPTIONS)


def expected(path: Path, *, answered: bool) -> dict[int, set[str]]:
    """Return the rules that a file names, by the line."""
    rules: dict[int, set[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for match in EXPECTED.finditer(line):
            if match["where"] in (None, "on a scratch database" if answered else "without one"):
                names = {name.strip() for name in match["rules"].split(",")}
                rules.setdefault(number, set()).update(names)
    return rules


def found(findings: list[Finding]) -> dict[int, set[str]]:
    rules: dict[int, set[str]] = {}
    for finding in findings:
        rules.setdefault(finding.line, set()).add(finding.rule)
    return rules


def messages(findings: list[Finding], rule: str) -> list[str]:
    return [finding.message for finding in findings if finding.rule == rule]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_each_line_has_the_findings_that_it_deserves(
    path: Path, answered: Findings, unanswered: Findings
) -> None:
    revision = path.name.partition("_")[0]
    assert found(answered[revision]) == expected(path, answered=True)
    assert found(unanswered[revision]) == expected(path, answered=False)


def test_without_a_server_lint_says_so_and_judges_every_statement(
    script: ScriptDirectory, unanswered: Findings
) -> None:
    told: list[str] = []
    with ScratchSchema(
        script,
        sa.MetaData(),
        OPTIONS,
        address="postgresql://nobody@/nothing?host=/no/such/directory",
        tell=told.append,
    ) as scratch:
        revisions = select(script, ["0002:0004"])
        findings = lint(script, revisions, sa.MetaData(), OPTIONS, scratch=scratch)
    assert findings == {name: unanswered[name] for name in ("0003", "0004")}
    (reason,) = told
    assert reason.startswith("no scratch database answers the revisions: ")


def test_lint_starts_a_server_of_its_own_and_stops_it(
    script: ScriptDirectory, *, full: bool
) -> None:
    if not full:
        pytest.skip("it starts a server")
    with ScratchSchema(script, sa.MetaData(), OPTIONS) as scratch:
        found = lint(script, select(script, ["0014"]), sa.MetaData(), OPTIONS, scratch=scratch)
        directory = Path(sa.make_url(scratch.address).query["host"])  # type: ignore[arg-type]
        assert list(directory.glob(".s.PGSQL.*"))
    assert not directory.exists()
    assert messages(found["0014"], "type-change")[0].startswith("changing the type of users.email")


def test_there_are_enough_of_them(answered: Findings) -> None:
    assert len(VERSIONS) >= 50
    assert sum(map(len, answered.values())) >= 200


def test_a_loop_over_the_tables_of_the_database_is_spelled_for_each(answered: Findings) -> None:
    defaults = [f for f in answered["0013"] if f.rule == "volatile-default"]
    tables = ("coupons", "items", "orders", "settings", "users")
    assert [finding.message for finding in defaults] == [
        f"adding {table}.seen_at with a default that differs from row to row rewrites {table}"
        for table in tables
    ]
    for table, finding in zip(tables, defaults, strict=True):
        column = f'safely.add_column("{table}", sa.Column("seen_at", sa.DateTime(timezone=True)))'
        assert column in str(finding.safe)
    (email,) = [f for f in answered["0014"] if f.rule == "type-change" and f.up]
    assert 'safely.change_type("users", "email", sa.String(400))' in str(email.safe)


def test_a_loop_over_literals_is_spelled_for_each_with_its_lists(unanswered: Findings) -> None:
    spelled = [str(f.safe) for f in unanswered["0015"] if f.rule == "plain-index"]
    assert 'safely.create_index("ix_orders_state", "orders", ["state"])' in spelled[0]
    assert 'safely.create_index("ix_users_status", "users", ["status"])' in spelled[1]
    (columns,) = [str(f.safe) for f in unanswered["0012"] if f.rule == "raw-op"]
    for table in ("users", "orders", "items"):
        assert f'safely.add_column("{table}", sa.Column("tenant", sa.Text()))' in columns


def test_two_batches_with_one_name_keep_their_tables(unanswered: Findings) -> None:
    spelled = [str(f.safe).splitlines()[-1] for f in unanswered["0008"] if f.rule != "two-tables"]
    assert sorted(spelled) == [
        'safely.create_check_constraint("ck_items_sku", "items", "sku <> \'\'")',
        'safely.create_unique_constraint("uq_orders_note", "orders", ["note"])',
        'safely.drop_column("items", "sku")',
        'safely.drop_column("orders", "note")',
    ]


def test_each_finding_names_the_lock_that_its_own_statement_takes(answered: Findings) -> None:
    reasons = [f.why for f in answered["0033"] if f.rule == "raw-op"]
    assert [why.rpartition(". ")[2] for why in reasons] == [
        "The statement takes SHARE UPDATE EXCLUSIVE on orders: reads and writes go on.",
        "The statement takes SHARE UPDATE EXCLUSIVE on the table of the index: reads and writes "
        "go on.",
    ]


def test_what_a_body_would_do_outside_of_its_database_is_told_and_prevented(
    unanswered: Findings,
) -> None:
    told = Counter(message for f in unanswered.values() for message in messages(f, "acts-outside"))
    prefix = "the revision acts outside of its database: it "
    assert {message.removeprefix(prefix) for message in told} == {
        "asks at the terminal",
        "connects to a database",
        "runs a program",
        "starts a thread",
        "writes the file /tmp/exported_channels.csv",  # it isn't written
    }
    assert not Path("/tmp/exported_channels.csv").exists()  # noqa: S108  # likewise
