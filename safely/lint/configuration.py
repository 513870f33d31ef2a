"""The settings of a project: `[tool.safely.lint]` in its pyproject.toml.

```toml
[tool.safely.lint]
baseline = "lint-baseline.json"

[[tool.safely.lint.rules]]
rule = "two-subjects"
severity = "off"                        # or note, warning, error, grave
paths = ["migrations/versions/2024*"]   # left out: everywhere
reason = "until 2025 a release had one revision"
```

Of several settings that apply to a finding, the last one counts. In a path `*` stands for any
characters, also for `/`.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from alembic.config import Config
from alembic.util import CommandError

from safely.lint.findings import Finding
from safely.lint.rules import RULES, Severity

FILE = "pyproject.toml"
TABLE = "tool.safely.lint"
OFF = "off"
SEVERITIES = (OFF, *map(str, Severity))
KEYS = ("baseline", "rules")
RULE_KEYS = ("paths", "reason", "rule", "severity")
HAS_WORDS = re.compile(r"[^\W_]")  # dots and dashes are no reason
SQUAWK_RULES = {  # of squawk 2.70; a test asks it whether they are its rules
    "adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field",
    "adding-required-field", "adding-serial-primary-key-field",
    "ban-alter-domain-with-add-constraint", "ban-alter-function-options",
    "ban-alter-generated-expression", "ban-alter-identity", "ban-alter-policy-condition",
    "ban-alter-policy-roles", "ban-alter-role-options", "ban-alter-view-options", "ban-char-field",
    "ban-concurrent-index-creation-in-transaction", "ban-create-domain-with-constraint",
    "ban-create-policy", "ban-disable-trigger", "ban-drop-column", "ban-drop-constraint",
    "ban-drop-database", "ban-drop-default", "ban-drop-domain", "ban-drop-extension",
    "ban-drop-function", "ban-drop-generated-expression", "ban-drop-index", "ban-drop-not-null",
    "ban-drop-policy", "ban-drop-schema", "ban-drop-sequence", "ban-drop-table", "ban-drop-type",
    "ban-drop-view", "ban-replace-view-function", "ban-replica-identity", "ban-revoke",
    "ban-set-default", "ban-set-schema", "ban-truncate-cascade", "ban-uncommitted-transaction",
    "changing-column-type", "constraint-missing-not-valid", "disallowed-unique-constraint",
    "identifier-too-long", "prefer-bigint-over-int", "prefer-bigint-over-smallint",
    "prefer-identity", "prefer-repack", "prefer-robust-stmts", "prefer-text-field",
    "prefer-timestamp-tz", "renaming-column", "renaming-object", "renaming-table",
    "require-concurrent-index-creation", "require-concurrent-index-deletion",
    "require-concurrent-partition-detach", "require-concurrent-reindex",
    "require-enum-value-ordering", "require-lock-timeout", "require-statement-timeout",
    "require-table-schema", "require-timeout-settings", "transaction-nesting",
}  # fmt: skip


class Setting(NamedTuple):
    """The severity of a rule, everywhere or in some files."""

    rule: str
    severity: Severity | None
    """None: its findings are left out."""
    paths: tuple[str, ...]
    """Patterns of paths; empty: all files."""

    def applies(self, finding: Finding, path: str) -> bool:
        """Return whether it applies to a finding in the file of this path."""
        is_there = not self.paths or any(fnmatchcase(path, pattern) for pattern in self.paths)
        return finding.rule == self.rule and is_there


class Configuration(NamedTuple):
    """The settings of a project."""

    root: Path
    """The directory of pyproject.toml: paths are relative to it."""
    settings: tuple[Setting, ...] = ()
    baseline: Path | None = None

    def apply(self, findings: Iterable[Finding], file: Path) -> Iterator[Finding]:
        """Yield the findings in a file with their severities, without those switched off."""
        resolved = file.resolve()
        inside = resolved.is_relative_to(self.root)
        path = (resolved.relative_to(self.root) if inside else resolved).as_posix()
        for finding in findings:
            severities = [
                setting.severity for setting in self.settings if setting.applies(finding, path)
            ]
            if not severities:
                yield finding
            elif (severity := severities[-1]) is not None:
                yield finding._replace(severity=severity)


def load(config: Config) -> Configuration:
    """Return the settings of the nearest pyproject.toml that has some, at or above alembic.ini.

    The search ends at the root of the repository. Raise CommandError for a file that can't be
    read, and for a setting that is wrong.
    """
    named = config.config_file_name or getattr(config, "toml_file_name", None)
    start = Path(named).resolve().parent if named else Path.cwd().resolve()
    for directory in (start, *start.parents):
        if (table := table_in(directory / FILE)) is not None:
            return parse(table, directory)
        if (directory / ".git").exists():
            break
    return Configuration(start)


def table_in(file: Path) -> dict[str, Any] | None:
    """Return the table of our settings; None where there is no such file or table."""
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text).get("tool", {}).get("safely", {}).get("lint")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise CommandError(f"{file} can't be read: {error}") from error
    if table is not None and not isinstance(table, dict):
        raise CommandError(f"{FILE}: [{TABLE}] must be a table")
    return table


def parse(table: dict[str, Any], root: Path) -> Configuration:
    """Return the settings in a table; raise CommandError for a wrong one."""
    refuse_unknown(table, KEYS, f"[{TABLE}]")
    baseline, rules = table.get("baseline"), table.get("rules", [])
    if not isinstance(baseline, str | None) or baseline == "":
        raise CommandError(f"{FILE}: [{TABLE}]: baseline must be the name of a file")
    if not isinstance(rules, list) or not all(isinstance(entry, dict) for entry in rules):
        raise CommandError(f"{FILE}: write each setting of a rule below [[{TABLE}.rules]]")
    settings = tuple(setting_of(entry, at) for at, entry in enumerate(rules, start=1))
    return Configuration(root, settings, root / baseline if baseline else None)


def setting_of(entry: dict[str, Any], number: int) -> Setting:
    """Return one setting; raise CommandError if it is wrong, or has no reason."""
    place = f"[[{TABLE}.rules]], entry {number}"
    refuse_unknown(entry, RULE_KEYS, place)
    rule, severity = entry.get("rule"), entry.get("severity")
    known_rule(str(rule or ""), f"{FILE}: {place}")
    place = f"{FILE}: {place} ({rule})"
    if severity not in SEVERITIES:
        raise CommandError(f"{place}: severity must be one of {', '.join(SEVERITIES)}")
    paths = entry.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise CommandError(f"{place}: paths must be a list of patterns")
    if "paths" in entry and not paths:
        raise CommandError(f"{place}: paths is empty, so the setting applies nowhere: leave it out")
    if not HAS_WORDS.search(str(entry.get("reason") or "")):
        raise CommandError(f'{place} has no reason: later readers must know why (reason = "…")')
    chosen = None if severity == OFF else Severity[severity.upper()]
    return Setting(str(rule), chosen, tuple(paths))


def known_rule(name: str, place: str) -> None:
    """Raise CommandError for a name that is no rule; `place` says where it stands."""
    names = {*RULES, *SQUAWK_RULES}
    if name not in names:
        similar = difflib.get_close_matches(name, sorted(names), n=1)
        hint = f": did you mean {similar[0]}?" if similar else ""
        raise CommandError(f"{place}: there is no rule {name or 'without a name'}{hint}")


def refuse_unknown(table: dict[str, Any], known: Iterable[str], place: str) -> None:
    """Raise CommandError for a key that means nothing here."""
    if unknown := sorted(set(table) - set(known)):
        raise CommandError(
            f"{FILE}: {place}: {unknown[0]} means nothing here (known: {', '.join(known)})"
        )
