"""The findings for other programs: JSON, GitHub's annotations, GitLab's code quality, SARIF."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from safely.lint.explanations import in_general
from safely.lint.reports import Report
from safely.lint.rules import RULES, Severity

GITHUB_COMMANDS = {
    Severity.NOTE: "notice",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
    Severity.GRAVE: "error",
}
GITLAB_SEVERITIES = {
    Severity.NOTE: "info",
    Severity.WARNING: "minor",
    Severity.ERROR: "major",
    Severity.GRAVE: "critical",
}
SARIF_LEVELS = {
    Severity.NOTE: "note",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
    Severity.GRAVE: "error",
}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def one_line(report: Report) -> str:
    """Return the place, the severity, the rule and the message of a finding."""
    finding = report.finding
    return f"{report.path}:{finding.line}: {finding.severity}: {finding.rule}: {finding.message}"


def documented(report: Report) -> dict[str, Any]:
    """Return the members that `--json` has."""
    finding = report.finding
    return {
        "file": report.path,
        "line": finding.line,
        "rule": finding.rule,
        "message": finding.message,
        "why": finding.why,
        "safe": finding.safe,
    }


def as_json(reports: Sequence[Report]) -> str:
    """Return a list of objects with all that is known of each finding."""
    return json.dumps(
        [
            {
                **documented(report),
                "last": report.finding.last,
                "revision": report.revision,
                "severity": str(report.finding.severity),
                "locks": [{"table": table, "mode": mode} for table, mode in report.finding.locks],
                "fingerprint": report.fingerprint,
            }
            for report in reports
        ]
    )


def as_github(reports: Sequence[Report]) -> str:
    """Return a workflow command for each finding, which GitHub shows at the line."""
    return "\n".join(map(github_command, reports))


def github_command(report: Report) -> str:
    """Return the workflow command of a finding; a newline would end it."""
    finding = report.finding
    properties = {
        "file": report.path,
        "line": finding.line,
        "endLine": finding.last,
        "title": f"{finding.severity}: {finding.rule}",
    }
    escaped = ",".join(
        f"{name}={escape(str(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in properties.items()
    )
    return f"::{GITHUB_COMMANDS[finding.severity]} {escaped}::{escape(words(report))}"


def escape(text: str) -> str:
    """Return a text without the characters that mean something in a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def words(report: Report) -> str:
    """Return what a finding says, on several lines."""
    finding = report.finding
    safe = f"Write instead:\n{finding.safe}" if finding.safe else ""
    return "\n".join(filter(None, (finding.message, finding.why, safe)))


def as_gitlab(reports: Sequence[Report]) -> str:
    """Return a report of GitLab's code quality."""
    return json.dumps(
        [
            {
                "description": f"{report.finding.message}. {report.finding.why}".rstrip(),
                "check_name": report.finding.rule,
                "fingerprint": report.fingerprint,
                "severity": GITLAB_SEVERITIES[report.finding.severity],
                "location": {
                    "path": report.path,
                    "lines": {"begin": report.finding.line, "end": report.finding.last},
                },
            }
            for report in reports
        ]
    )


def as_sarif(reports: Sequence[Report]) -> str:
    """Return a log of SARIF 2.1.0 with one run."""
    rules = sorted({report.finding.rule for report in reports})
    driver = {"name": "safely", "rules": [sarif_rule(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [sarif_result(report, rules.index(report.finding.rule)) for report in reports],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def sarif_rule(name: str) -> dict[str, Any]:
    """Return the descriptor of a rule; of squawk's rules no more than the name is known here."""
    if name not in RULES:
        return {"id": name}
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": in_general(rule.message)},
        "fullDescription": {"text": in_general(rule.why)},
        "defaultConfiguration": {"level": SARIF_LEVELS[rule.severity]},
    }


def sarif_result(report: Report, rule: int) -> dict[str, Any]:
    """Return a finding as a result of SARIF."""
    finding = report.finding
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": SARIF_LEVELS[finding.severity],
        "message": {"text": words(report)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(report.path), "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": finding.line, "endLine": finding.last},
                }
            }
        ],
        "partialFingerprints": {"safely/v1": report.fingerprint},
        "properties": {"severity": str(finding.severity), "revision": report.revision},
    }


FORMATS: dict[str, Callable[[Sequence[Report]], str]] = {
    "json": as_json,
    "github": as_github,
    "gitlab": as_gitlab,
    "sarif": as_sarif,
}
