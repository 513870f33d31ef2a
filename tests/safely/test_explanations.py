"""`lint --explain` prints an example for each rule, which is the source of a test."""

import re
from pathlib import Path

import pytest
from alembic.util import CommandError

from safely.lint import lint, select
from safely.lint.explanations import Example, examples, explain
from safely.lint.rules import RULES
from tests.commands import run_migrations
from tests.dangers import MARK, MODELS, OPTIONS, dangers, script_directory
from tests.revisions import indented

EXAMPLES = examples()
NO_DANGER = {  # rules that have no file in tests/data/dangers
    "acts-outside",  # PostgreSQL sees nothing of it
    "edited-file",  # it needs a ledger
    "not-suppressible",  # likewise
}
REVISION = """\
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import safely

revision = "{name}"
down_revision = "schema"


def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
"""
CAN_NOT_RUN = {"refused", "syntax-error", "unrendered"}


def squeezed(text: str) -> str:
    """Return code without marks, spaces and line ends."""
    lines = (MARK.sub("", line) for line in text.splitlines())
    return re.sub(r"\s|# noqa: \w+", "", "".join(lines))


def test_each_rule_has_an_example() -> None:
    assert list(EXAMPLES) == list(RULES)


@pytest.mark.parametrize("name", sorted(set(RULES) - NO_DANGER))
def test_the_bad_code_is_that_of_a_danger_which_runs_on_postgresql(name: str) -> None:
    bad, lock = squeezed(EXAMPLES[name].bad), EXAMPLES[name].lock
    same = [
        danger
        for danger in dangers()
        if danger.rule == name and bad in squeezed(danger.path.read_text(encoding="utf-8"))
    ]
    assert same
    named = {", ".join(f"{mode} on {table}" for table, mode in one.locks.items()) for one in same}
    assert lock in named


def test_the_bad_code_that_is_no_danger_of_postgresql_breaks_its_rule(tmp_path: Path) -> None:
    name = "acts-outside"
    write(tmp_path, name, EXAMPLES[name]._replace(safe=EXAMPLES[name].bad))
    script = script_directory(tmp_path)
    found = lint(script, select(script, [id_of(name)]), MODELS, OPTIONS, with_squawk=False)
    assert name in {finding.rule for finding in found[id_of(name)]}


def test_the_safe_code_breaks_no_such_rule_and_can_be_printed(tmp_path: Path) -> None:
    written = {
        name: example
        for name, example in EXAMPLES.items()
        if any(not line.startswith("#") for line in example.safe.splitlines())
    }
    assert len(written) > 50
    for name, example in written.items():
        write(tmp_path, name, example)
    script = script_directory(tmp_path)
    revisions = select(script, list(map(id_of, written)))
    found = lint(script, revisions, MODELS, OPTIONS, with_squawk=False)
    broken = {
        name: rules
        for name in written
        if (
            rules := {finding.rule for finding in found.get(id_of(name), [])} & {name, *CAN_NOT_RUN}
        )
    }
    assert broken == {}


def id_of(rule: str) -> str:
    """Return the id of the revision for a rule: Alembic allows no dash."""
    return rule.replace("-", "_")


def write(directory: Path, name: str, example: Example) -> None:
    """Write a revision with the safe code of an example."""
    up, down = example.safe, 'safely.nothing_to_undo("a test")'
    if example.in_downgrade:
        up, down = 'safely.add_column("customers", sa.Column("nickname", sa.Text()))', up
    source = REVISION.format(name=id_of(name), up=indented(up), down=indented(down))
    (directory / f"{name}.py").write_text(source, encoding="utf-8")


def test_an_explanation_says_what_why_which_lock_and_what_to_write(clone: Path) -> None:
    process = run_migrations("", "lint", "--explain", "plain-index", cwd=clone)
    assert process.returncode == 0
    assert process.stdout == (
        "plain-index (grave):\n"
        "    creating the index <name> blocks writes to <table> until it is built\n\n"
        "why:\n"
        "    CREATE INDEX holds SHARE on <table> until the index is built: every INSERT, UPDATE "
        "and\n    DELETE waits, and the wait grows with the table. Reads go on.\n\n"
        "lock, in the example:\n    SHARE on orders\n\n"
        "bad, for example:\n"
        '    op.create_index("ix_orders_state", "orders", ["state"])\n\n'
        "safe:\n"
        '    safely.create_index("ix_orders_state", "orders", ["state"])\n'
    )
    assert "squawkhq.com/docs/ban-char-field" in explain("ban-char-field")
    with pytest.raises(CommandError, match="there is no rule plain-indx: did you mean plain-index"):
        explain("plain-indx")
