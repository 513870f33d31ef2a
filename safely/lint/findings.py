"""Findings, and the comments that suppress them: `# lint: RULE[, RULE]: reason`."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from safely.lint.rules import RULES, Severity
from safely.lint.source import Source, comments

SUPPRESSION = re.compile(  # a line may have other comments before and after this one
    r"(?:^|(?<=\s))#\s*lint:(?P<rules>[^:]*?)(?::(?P<reason>.*?))?"
    r"(?=#\s*(?:lint:|noqa|type:|fmt:|pragma:)|$)"
)
NOT_SUPPRESSIBLE = "edited-file"  # the comment would be one more edit
LOOP = "# in the place of the loop"  # before the spellings of a line in a loop
ADDING_RULES = ("foreign-key-without-index",)  # the line stays, and gets another beside it
SPLITTING_RULES = ("two-subjects", "two-tables")  # the remedy is to write several revisions
COVERED = {  # by a rule that says more about the same line
    "cascade": ("plain-drop",),
    "catalogue-write": ("backfill-at-once", "delete-at-once", "insert-select", "upsert"),
    "drop-and-create": ("cascade", "plain-drop"),
}
Lines = tuple[int, int]
"""The first and the last line of a piece of code."""


class Finding(NamedTuple):
    """Something harmful in a revision file."""

    rule: str
    line: int  # the first
    last: int
    message: str
    why: str
    safe: str | None  # the code to write instead
    severity: Severity = Severity.WARNING
    locks: tuple[tuple[str, str], ...] = ()
    """The locks that the line takes: table and lock mode."""
    up: bool | None = None
    """Whether it hurts in the upgrade, or in the downgrade; None: it is about the file."""

    @classmethod
    def of(cls, rule: str, lines: Lines, safe: str | None = None, **names: str) -> "Finding":
        """Return a finding with the texts of a rule, in which `names` replace the placeholders."""
        texts = RULES[rule]
        message, why = (text.format_map(Names(names)) for text in (texts.message, texts.why))
        return cls(rule, *lines, message, why.strip(), safe, texts.severity)


class Suppression(NamedTuple):
    """A comment that suppresses rules on a line."""

    line: int  # where the comment stands
    target: int  # the line of code to which it applies
    rules: list[str]
    reason: str


class Names(dict[str, str]):
    """The names to put into the texts of a rule; a missing one becomes `…`."""

    def __missing__(self, name: str) -> str:
        return "…"


def without_duplicates(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by line, without those that another finding covers.

    Of two findings on one line with one message, the first stays, with the code of both: a loop
    over several tables has one.
    """
    first_findings: dict[tuple[int, str, str], Finding] = {}
    for finding in findings:
        # squawk reports one typing error as several syntax errors with different messages
        is_own = finding.rule in RULES and finding.rule not in SPLITTING_RULES
        key = finding.line, finding.rule, finding.message if is_own else ""
        first = first_findings.setdefault(key, finding)
        if is_own and first.safe and finding.safe:
            lines = [*first.safe.splitlines(), *finding.safe.splitlines()]
            first_findings[key] = first._replace(safe="\n".join(dict.fromkeys(lines)))
    candidates = by_line(first_findings.values())
    return [
        finding for finding in candidates if not any(covers(other, finding) for other in candidates)
    ]


def covers(one: Finding, other: Finding) -> bool:
    """Return whether the first finding makes the second superfluous."""
    if other.rule == "raw-op" and one.rule != "raw-op" and one.safe and other.safe:
        is_whole = one.rule not in ADDING_RULES and one.safe.startswith(("safely.", LOOP))
        return (one.line == other.line and is_whole) or other.safe in one.safe
    if other.rule in COVERED.get(one.rule, ()) and one.line == other.line:
        return True
    if other.rule in SPLITTING_RULES and one.rule == "two-tables":
        return other.rule == "two-subjects" or one.line < other.line
    return (one.rule, other.rule) == ("empty-downgrade", "unrendered") and (
        one.line <= other.line <= one.last
    )


def suppressions(source: Source) -> Iterator[Suppression]:
    """Yield the suppressions in a file.

    A comment behind code applies to that line, a comment on a line of its own to the next code.
    """
    lines_without_code = {line for line, _, is_alone in comments(source) if is_alone}
    lines_without_code |= {
        line for line, text in enumerate(source.lines, start=1) if not text.strip()
    }
    for line, text, is_alone in comments(source):
        for match in SUPPRESSION.finditer(text):
            target = line
            while is_alone and target in lines_without_code:
                target += 1
            rules = [rule.strip() for rule in match["rules"].split(",")]
            yield Suppression(line, target, rules, (match["reason"] or "").strip())


def apply_suppressions(source: Source, findings: list[Finding]) -> list[Finding]:
    """Return the findings that no comment suppresses, and a finding for each wrong comment."""
    remaining, wrong_comments = list(findings), []
    for suppression in suppressions(source):
        lines = (suppression.line, suppression.line)
        if not re.search(r"[^\W_]", suppression.reason):  # dots and dashes are no reason
            rules = ", ".join(suppression.rules)
            safe = f"# lint: {rules}: why it is safe here"
            wrong_comments.append(Finding.of("no-reason", lines, safe, rules=rules))
            continue
        for rule in suppression.rules:
            suppressed = [
                finding
                for finding in findings
                if finding.rule == rule and finding.line <= suppression.target <= finding.last
            ]
            if rule == NOT_SUPPRESSIBLE:
                wrong_comments.append(Finding.of("not-suppressible", lines, rules=rule))
            elif not suppressed:
                wrong_comments.append(Finding.of("unused-suppression", lines, rules=rule))
            remaining = [finding for finding in remaining if finding not in suppressed]
    return by_line([*remaining, *wrong_comments])


def by_line(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in the order of their lines, and on one line by rule."""
    return sorted(findings, key=lambda finding: (finding.line, finding.rule))
