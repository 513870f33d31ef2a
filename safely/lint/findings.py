"""Findings, and the comments that suppress them: `# lint: RULE[, RULE]: reason`."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from safely.lint.rules import RULES
from safely.lint.source import Source, comments

SUPPRESSION = re.compile(  # other comments may stand before it and behind it on the line
    r"(?:^|(?<=\s))#\s*lint:(?P<rules>[^:]*?)(?::(?P<reason>.*?))?"
    r"(?=#\s*(?:lint:|noqa|type:|fmt:|pragma:)|$)"
)
FOR_NO_COMMENT = "edited-file"  # the ledger says it, and refuses
TO_SPLIT = ("two-subjects", "two-tables")
Lines = tuple[int, int]


class Finding(NamedTuple):
    """Something wrong with a revision, on these lines of its file."""

    rule: str
    line: int
    last: int
    message: str
    why: str
    safe: str | None  # what to write instead


class Suppression(NamedTuple):
    """A comment that says which rules don't matter on a line, and why."""

    line: int  # of the comment
    target: int  # that it speaks of
    rules: list[str]
    reason: str


class Fields(dict[str, str]):
    """What a rule's words are filled in with; what isn't known is `…`."""

    def __missing__(self, name: str) -> str:
        return "…"


def found(rule: str, lines: Lines, safe: str | None = None, **fields: str) -> Finding:
    """A finding in the words of its rule."""
    message, why = (words.format_map(Fields(fields)) for words in RULES[rule])
    return Finding(rule, *lines, message, why.strip(), safe)


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Each trouble once, the first time that it is told, in the order of the lines."""
    first = {}
    for finding in reversed(list(findings)):
        # of squawk's own words the first tell: one slip of the pen is many syntax errors
        words = finding.message if finding.rule in RULES else ""
        first[finding.line, finding.rule, words] = finding
    left = sorted(first.values(), key=lambda finding: (finding.line, finding.rule))
    return [finding for finding in left if not any(covers(other, finding) for other in left)]


def covers(one: Finding, other: Finding) -> bool:
    """Whether one finding says all that the other says."""
    if other.rule == "raw-op" and one.rule != "raw-op" and one.safe and other.safe:
        same_call = one.line == other.line and one.safe.startswith("safely.")
        return same_call or other.safe in one.safe
    if other.rule in TO_SPLIT and one.rule == "two-tables":  # both are cured by splitting
        return other.rule == "two-subjects" or one.line < other.line
    return (one.rule, other.rule) == ("empty-downgrade", "unrendered") and (
        one.line <= other.line <= one.last
    )


def suppressions(source: Source) -> Iterator[Suppression]:
    """Those in a file; one that stands alone speaks of the next line of code below it."""
    skipped = {line for line, _, is_alone in comments(source) if is_alone}
    skipped |= {line for line, text in enumerate(source.lines, start=1) if not text.strip()}
    for line, text, is_alone in comments(source):
        for match in SUPPRESSION.finditer(text):
            target = line
            while is_alone and target in skipped:
                target += 1
            rules = [rule.strip() for rule in match["rules"].split(",")]
            yield Suppression(line, target, rules, (match["reason"] or "").strip())


def unsuppressed(source: Source, findings: list[Finding]) -> list[Finding]:
    """Those that no comment argues away, and the comments that argue badly."""
    left, more = list(findings), []
    for given in suppressions(source):
        lines = (given.line, given.line)
        if not re.search(r"[^\W_]", given.reason):  # dots and dashes are none
            rules = ", ".join(given.rules)
            more.append(
                found("no-reason", lines, f"# lint: {rules}: why it is safe here", rules=rules)
            )
            continue
        for rule in given.rules:
            meant = [f for f in findings if f.rule == rule and f.line <= given.target <= f.last]
            if rule == FOR_NO_COMMENT:
                more.append(found("not-suppressible", lines, rules=rule))
            elif not meant:
                more.append(found("unused-suppression", lines, rules=rule))
            left = [finding for finding in left if finding not in meant]
    return sorted([*left, *more], key=lambda finding: (finding.line, finding.rule))
