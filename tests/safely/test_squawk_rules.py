"""Each rule of squawk is judged, its opt-in rules too: what it reports, lint reports as well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from safely.lint import lint
from safely.lint.rendering import render
from safely.lint.rules import RULES
from safely.lint.squawk import IGNORED, OLDEST_POSTGRESQL, OPT_IN, OWN
from tests.dangers import DANGERS, MODELS, OPTIONS, SCHEMA, script_directory

SQUAWK = Path(sys.executable).with_name("squawk")
KEPT = {"ban-char-field", "ban-create-domain-with-constraint"}  # reported in squawk's words


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


def test_where_squawk_reports_something_lint_has_a_finding(remarks: dict[str, set[str]]) -> None:
    script = script_directory(DANGERS)
    revisions = [one for one in script.walk_revisions() if one.revision in remarks]
    findings = lint(script, revisions, MODELS, OPTIONS)
    ignored = {*IGNORED, *(rule for rule, reason in OPT_IN.items() if reason not in RULES)}
    assert not {name for name, rules in remarks.items() if rules - ignored and not findings[name]}
