"""`lint` in CI and on a laptop: settings, baselines, changed files, sizes, and formats."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.lint import baseline, configuration, formats, statistics
from safely.lint.changed_files import changed_files
from safely.lint.findings import Finding
from safely.lint.reports import reports
from safely.lint.rules import RULES, Severity
from safely.lint.statistics import Statistics, Table
from tests.chain import HEAD, NEXT, later
from tests.commands import run_migrations
from tests.databases import UNREACHABLE_URL, write
from tests.paths import ROOT
from tests.revisions import write_revision

INDEX = 'from alembic import op\nop.create_index("idx_users_age", "users", ["age"])'
KEPT = 'safely.nothing_to_undo("a test")'
SETTING = """\
[[tool.safely.lint.rules]]
rule = "{rule}"
severity = "{severity}"
reason = "{reason}"
"""


def lint(clone: Path, *arguments: str, url: str = UNREACHABLE_URL) -> tuple[int, str, str]:
    """Lint revisions of a clone; return the exit code, the output and the errors."""
    process = run_migrations(url, "lint", *arguments, cwd=clone)
    return process.returncode, process.stdout, process.stderr


def git(clone: Path, *arguments: str) -> None:
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *author, *arguments], cwd=clone, check=True, capture_output=True)  # noqa: S607  # the user's own


def finding(rule: str = "plain-index", table: str = "plants", line: int = 1) -> Finding:
    locks = ((table, "SHARE"),)
    return Finding.of(rule, (line, line), table=table, name="i")._replace(locks=locks, up=True)


# settings


def settings(text: str) -> configuration.Configuration:
    return configuration.parse(tomllib.loads(text)["tool"]["safely"]["lint"], ROOT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SETTING.format(rule="plain-idx", severity="off", reason="x"), "did you mean plain-index?"),
        (SETTING.format(rule="plain-index", severity="off", reason="…!"), "has no reason"),
        (
            SETTING.format(rule="plain-index", severity="bad", reason="x"),
            "must be one of off, note",
        ),
        (SETTING.format(rule="plain-index", severity="off", reason="x") + "paths = []", "nowhere"),
        (SETTING.format(rule="plain-index", severity="off", reason="x") + "path = 3", "path means"),
        (SETTING.format(rule="plain-index", severity="off", reason="x") + "paths = 3", "a list of"),
        ('[tool.safely.lint]\nrules = "plain-index"', "write each setting of a rule below"),
        ("[tool.safely.lint]\nbaseline = 3", "must be the name of a file"),
        ("[tool.safely.lint]\nbase = 3", "base means nothing here"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(CommandError) as raised:
        settings(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_last_setting_that_applies_to_a_file_counts() -> None:
    chosen = settings(
        SETTING.format(rule="plain-index", severity="error", reason="x")
        + 'paths = ["migrations/*"]\n'
        + SETTING.format(rule="plain-index", severity="off", reason="x")
        + 'paths = ["*/versions/2024_*.py", "else*"]\n'
        + SETTING.format(rule="raw-op", severity="grave", reason="x")
    )

    def severities(path: str) -> list[str]:
        several = [finding(), finding("raw-op"), finding("plain-drop")]
        return [str(one.severity) for one in chosen.apply(several, ROOT / path)]

    assert severities("migrations/versions/2024_a.py") == ["grave", "grave"]
    assert severities("migrations/versions/2025_a.py") == ["error", "grave", "grave"]
    assert severities("elsewhere.py") == ["grave", "grave"]
    assert severities("/other/project.py") == ["grave", "grave", "grave"]


def test_the_nearest_pyproject_with_settings_counts_up_to_the_root_of_the_repository(
    tmp_path: Path,
) -> None:
    inner = tmp_path / "repository/database"
    inner.mkdir(parents=True)
    config = Config(str(inner / "alembic.ini"))
    (tmp_path / "pyproject.toml").write_text('[tool.safely.lint]\nbaseline = "outer"\n', "utf-8")
    (inner / "pyproject.toml").write_text("[tool.other]\n", "utf-8")
    assert configuration.load(config).baseline == tmp_path / "outer"
    (inner.parent / ".git").touch()
    assert configuration.load(config).baseline is None
    (inner / "pyproject.toml").write_text("nonsense", "utf-8")
    with pytest.raises(CommandError, match="can't be read"):
        configuration.load(config)


def test_squawk_knows_the_rules_that_settings_may_name() -> None:
    names = ",".join(sorted(configuration.SQUAWK_RULES))
    squawk = str(shutil.which("squawk", path=str(ROOT / ".venv/bin")))
    process = subprocess.run(
        [squawk, f"--exclude={names}"],
        input="SELECT 1;",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "invalid rule name" not in process.stderr


# what the command does, in one clone


def test_settings_baseline_and_changed_files_decide_what_is_shown(clone: Path) -> None:
    git(clone, "init", "-q", "-b", "main")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "one")
    git(clone, "checkout", "-qb", "branch")
    write_revision(clone, 1, INDEX, KEPT)
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "two")
    shutil.copy(clone / f"migrations/versions/{NEXT}_scratch.py", clone / "kept.py")
    write_revision(clone, 2, INDEX.replace("age", "email"), KEPT)  # untracked

    code, out, _ = lint(clone, "--diff", "main")
    assert (code, out.count(": grave: plain-index: ")) == (1, 2)
    assert f"{later(2)}_scratch.py" in lint(clone, "--diff", "branch", "--since", NEXT)[1]
    assert lint(clone, "--since", NEXT, "--diff", "main", HEAD)[:2] == (
        0,
        "no finding in 0 revision(s)\n",
    )
    code, out, err = lint(clone, "--diff", "origin/main")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("FAILED: --diff origin/main: git knows no origin/main")

    assert lint(clone, "--baseline", "base.json", "--write-baseline")[0] == 0
    assert lint(clone, "--baseline", "base.json")[0] == 0
    write_revision(clone, 1, f"'lines move'\n{INDEX}", KEPT)
    (clone / "pyproject.toml").write_text(
        '[tool.safely.lint]\nbaseline = "base.json"\n'
        + SETTING.format(rule="raw-op", severity="off", reason="plain on purpose"),
        encoding="utf-8",
    )
    code, out, err = lint(clone)
    assert (code, "2 of the baseline left out" in out) == (0, True)
    write_revision(clone, 2, INDEX.replace("age", "full_name"), KEPT)
    code, out, err = lint(clone)
    assert (code, out.count("plain-index")) == (1, 1)
    assert f"plain-index of {later(2)} applies to nothing any more" in err
    code, out, _ = lint(clone, f"migrations/versions/{later(2)}_scratch.py", "--format", "github")
    assert code == 1
    assert re.fullmatch(
        rf"::error file=migrations/versions/{later(2)}_scratch\.py,line=\d+,endLine=\d+,"
        r"title=grave%3A plain-index::creating the index .*%0AWrite instead:%0Asafely\.create_.*\n",
        out,
    )
    assert "FAILED: kept.py is no revision file of " in lint(clone, "kept.py")[2]


def test_a_directory_without_git_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(CommandError, match="--diff main: fatal: not a git repository"):
        changed_files(tmp_path, "main")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="--diff main needs git, which is not installed here"):
        changed_files(tmp_path, "main")


def test_the_hook_names_the_files_of_revisions() -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"files: (.*)", text)
    assert re.search(pattern, "migrations/versions/0001_create_users.py")
    assert re.search(pattern, "versions/a.py")
    for other in ("migrations/env.py", "versions/__init__.py", "versions/old/a.py", "a.py"):
        assert not re.search(pattern, other)
    assert "entry: python -m safely lint" in text


# baselines and formats


def reported(*findings: Finding, source: str = "one\ntwo\nthree") -> list[Any]:
    return list(reports("versions/a b.py", "ae10", source.splitlines(), findings))


def test_a_fingerprint_follows_the_code_and_not_the_line(tmp_path: Path) -> None:
    first, again, other = reported(finding(line=1), finding(line=1), finding(line=2))
    (moved,) = reported(finding(line=2), source="\n    one")
    assert moved.fingerprint == first.fingerprint
    assert len({first.fingerprint, again.fingerprint, other.fingerprint}) == 3
    path = tmp_path / "base.json"
    edited = reported(Finding.of("edited-file", (1, 1), edit="x"))
    baseline.write(path, baseline.entries_of([first, other, *edited]))
    assert baseline.read(path) == {baseline.entry_of(first), baseline.entry_of(other)}
    assert baseline.obsolete(baseline.read(path), [moved], []) == [baseline.entry_of(other)]
    assert baseline.obsolete(baseline.read(path), [moved], ["ae10"]) == []
    for broken in ("{}", "[]", "nonsense", '{"version": 2}', '{"version": 1, "findings": [{}]}'):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(CommandError, match=r"is no baseline|is a baseline of version 2"):
            baseline.read(path)
    with pytest.raises(CommandError, match="there is no baseline"):
        baseline.read(tmp_path / "missing.json")


def test_the_formats_of_other_programs_are_theirs() -> None:
    grave = finding(line=2)._replace(message="100 %\nof it", safe=None, why="")
    found = reported(grave, finding("reads-database")._replace(line=3, last=3))
    assert formats.as_github(found).splitlines()[0] == (
        "::error file=versions/a b.py,line=2,endLine=2,title=grave%3A plain-index::100 %25%0Aof it"
    )
    assert formats.as_github(found).splitlines()[1].startswith("::notice ")
    gitlab = json.loads(formats.as_gitlab(found))
    assert [entry["severity"] for entry in gitlab] == ["critical", "info"]
    assert gitlab[0]["location"] == {"path": "versions/a b.py", "lines": {"begin": 2, "end": 2}}
    assert len({entry["fingerprint"] for entry in gitlab}) == 2
    log = json.loads(formats.as_sarif(found))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "versions/a%20b.py"
        assert place["region"]["startLine"] >= 1
    assert json.loads(formats.as_sarif([]))["runs"][0]["results"] == []
    (whole, _) = json.loads(formats.as_json(found))
    assert whole["locks"] == [{"table": "plants", "mode": "SHARE"}]
    assert whole["severity"] == "grave"


# sizes


def sizes(rows: int, size: int, writes: float = 0.0) -> Statistics:
    return Statistics({"garden.plants": Table(rows, size, writes)}, ("garden",), "today")


def test_the_size_of_a_table_decides_how_grave_a_wait_is() -> None:
    small = statistics.judge(finding(), sizes(6, 8192))
    assert (small.severity, "about 6 rows (8 KiB)" in small.why) == (Severity.NOTE, True)
    large = statistics.judge(finding(), sizes(50_000_000, 7_500_000_000, 120.4))
    assert large.severity is Severity.GRAVE
    assert large.why.endswith(
        "plants has about 50,000,000 rows (7.0 GiB, and 120 rows are written a second): about "
        "2.5 min, if PostgreSQL does 50 MB a second."
    )
    assert statistics.judge(finding("plain-drop"), sizes(1, 8192)).severity is Severity.GRAVE
    for nothing in (sizes(0, 8192), replaced(sizes(6, 8192))):
        for rule in ("plain-index", "plain-drop", "required-column"):
            assert statistics.judge(finding(rule), nothing).severity is Severity.NOTE
    used = Statistics(
        {"garden.plants": Table(0, 0, 0), "garden.beds": Table(1, 9, 0)}, ("garden",), ""
    )
    severities = {
        name: str(statistics.judge(finding(name), used).severity)
        for name in (
            "plain-index",
            "lossy-downgrade",
            "delete-at-once",
            "plain-drop",
            "drop-default",
        )
    }
    assert severities == {  # of a table without rows that builds may use
        "plain-index": "note",
        "lossy-downgrade": "note",
        "delete-at-once": "note",
        "plain-drop": "grave",
        "drop-default": "grave",
    }
    same_name = sizes(6, 8192).renamed("garden.plants", "beds")._replace(schemas=("public",))
    assert statistics.judge(finding("plain-drop"), same_name).severity is Severity.NOTE
    for name in ("garden.plants", '"garden"."beds"'):
        assert statistics.judge(finding("plain-drop", name), same_name).severity is Severity.GRAVE
    unknown = finding("two-tables")
    assert statistics.judge(unknown, sizes(0, 0)) == unknown


def replaced(one: Statistics) -> Statistics:
    """Return statistics in which the table is missing."""
    return one._replace(tables={"garden.beds": one.tables["garden.plants"]})


def test_each_speed_is_documented() -> None:
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"(?m)^\| (\d+) \| (`.*`) \|$", text))
    documented = {
        name: int(speed) for speed, names in rows.items() for name in names.split("`")[1::2]
    }
    assert documented == {name: rule.speed for name, rule in RULES.items() if rule.speed}


@pytest.mark.only("postgresql")
async def test_lint_reads_the_sizes_of_a_database_or_of_a_file(
    url: str, clone: Path, engine: AsyncEngine
) -> None:
    write_revision(clone, 1, INDEX, KEPT)
    await write(engine, "INSERT INTO users (full_name) VALUES ('Ada')")
    code, out, _ = lint(clone, NEXT, "--stats", "live", url=url)
    assert (code, ": note: plain-index: " in out) == (0, True)
    assert "Each table counts as large" not in out
    stats = run_migrations(url, "stats", cwd=clone).stdout
    content = json.loads(stats)
    users = next(name for name in content["tables"] if name.endswith("users"))
    assert content["tables"][users]["rows"] == 1
    assert "migration_log" not in stats
    assert "Ada" not in stats
    content["tables"][users] |= {"rows": 50_000_000, "bytes": 7_000_000_000}
    (clone / "stats.json").write_text(json.dumps(content), encoding="utf-8")
    code, out, _ = lint(clone, NEXT, "--stats", "stats.json")
    assert (code, ": grave: plain-index: " in out) == (1, True)
    for broken in ("{}", "nonsense", '{"version": 1, "tables": {"a": 3}, "taken": ""}'):
        (clone / "stats.json").write_text(broken, encoding="utf-8")
        with pytest.raises(CommandError, match="no statistics of `safely stats`"):
            statistics.load(clone / "stats.json")
    with pytest.raises(CommandError, match="or say --stats live"):
        statistics.load(clone / "missing.json")
