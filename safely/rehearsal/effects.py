"""The effects of a step that queries of clients may not show: on rows, rights, roles, settings.

Each harmful effect has the rules by which lint knows it, so that one comment in the file of the
revision (`# lint: RULE: reason`) accepts the effect here and the finding there.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from alembic.script import Script

from safely.ledger import snapshot
from safely.lint.checks.settings import RULE_OF_SETTING
from safely.lint.findings import suppressions
from safely.lint.source import read
from safely.rehearsal.catalogue import Catalogue
from safely.rehearsal.locks import Line, belongs_to_migrating, blocks_clients
from safely.rehearsal.report import in_one_line
from safely.words import count

MOST_RULES = 3  # that a problem names
MANY_ROWS = 1_000  # a table with fewer is read or written in an instant
LOCK = re.compile(r"LOCK\b", re.IGNORECASE)
SEVERAL = re.compile(r"(LOCK|CREATE TABLE)\b", re.IGNORECASE)
SAFELY_BATCH = "safely_batch"  # in a statement: it takes so few rows that nobody waits for long
HELPER = re.compile(r"(?:function|trigger) \"?(?:fill_missing|sync_retyped)")  # of the engine
ATTRIBUTE = re.compile(  # of an object that is new or gone, which has a sentence of its own
    r"(owner of|query of view|contents of) .*: (was added|is gone)"
)

GONE = {  # rules for objects that a step drops instead of setting them aside, by kind
    "table": ("plain-drop", "cascade"),
    "column": ("plain-drop", "cascade"),
    "trigger": ("drop-trigger", "cascade"),
    "policy": ("policy", "cascade"),
    "rule": ("rewrite-rule", "cascade"),
}
GONE_OTHER = ("drop-object", "cascade")
RENAMED = {"type", "label", "function", "sequence", "view", "materialized view", "schema"}
# Sentences of snapshot.differences, and the rules for them. All other sentences are harmless, or
# the clients and the way back judge them.
HARMFUL = tuple(
    (re.compile(pattern), rules)
    for pattern, *rules in (
        (r"trigger .*: was (?!added).* DISABLED", "disable-trigger"),
        (r"trigger .*: was added", "trigger", "rename"),
        (r"rule .*: was added", "rewrite-rule"),
        (r"(rule|trigger) .*: was \"", "rewrite-rule", "trigger"),
        (r"policy .*: was ", "policy"),
        (r"table .*: was \".*ROW SECURITY", "row-security"),
        (r"table .*: was .*unlogged", "durability", "rewrite"),
        (r"table .*: was .*REPLICA IDENTITY", "brief-lock"),
        (r"table .*: was \".*(FOR VALUES|DEFAULT)", "attach-partition", "detach-partition"),
        (r"parents of ", "inherit"),
        (r"index .* is a duplicate of .*: was added", "duplicate-index"),
        (r"foreign key .* without an index: was added", "foreign-key-without-index"),
        (r"table .*autovacuum_enabled=(false|off|0|no)", "autovacuum-off"),
        (r"index .*: was .* INVALID", "concurrently-in-transaction"),
        (r"column .*: was \".*(AS IDENTITY|GENERATED)", "identity", "drop-expression", "rewrite"),
        (r"function .*: was \"", "replace-function"),
        (r"function .*: was added .*SECURITY DEFINER(?!.* SET search_path)", "security-definer"),
        (r"query of view .*: was \"", "replace-view", "cascade"),
        (r"sequence .*: was \"", "alter-sequence"),
        (r"type .*: was \"(?!ENUM)", "alter-type", "domain-constraint"),
        (r"default grant ", "default-privileges"),
        (r"grant .* to PUBLIC: was ", "grant-to-public"),
        (r"grant .*: (is gone|was \")", "revoke"),
        (r"owner of .*: was \"", "owner"),
        (r"contents of .* is now \"not populated", "refresh"),
        (r"(role|settings of role) ", "alter-role", "drop-owned"),
        (r"(database|settings of database|setting|tablespace) ", "alter-system", "drop-database"),
        (r"extension .*: (is gone|was \")", "extension", "cascade"),
        (r"language ", "server-program"),
        (r"event trigger ", "event-trigger"),
        (r"(publication|subscription|replication slot) ", "replication"),
        (r"(foreign server|user mapping) ", "outside-database"),
        (r"prepared transaction ", "transaction-control"),
        (r"large objects: ", "server-file"),
    )
)
READ = (
    "plain-index", "check-at-once", "check-and-validate", "exclusion-at-once", "unique-at-once",
    "primary-key-at-once", "foreign-key-at-once", "not-null-at-once", "domain-constraint",
    "attach-partition", "create-partition", "reindex", "refresh", "table-lock", "rewrite",
)  # fmt: skip
COPIED = ("create-table-as", "insert-select")
CHANGED = ("backfill-at-once", "delete-at-once", "insert-select", "upsert", "unseen")


class Effect(NamedTuple):
    """Something that a step did, and the rules by which lint knows it; none: it is harmless."""

    sentence: str
    rules: tuple[str, ...] = ()


def of_catalogue(before: Catalogue, after: Catalogue) -> Iterator[Effect]:
    """Yield what differs between two moments."""
    for sentence in snapshot.differences(before.definitions, after.definitions):
        if not (HELPER.match(sentence) or ATTRIBUTE.match(sentence)):
            yield Effect(sentence, rules_of(sentence))
    gone = before.objects.keys() - after.objects.keys()
    for key, (parent, kind, name) in sorted(before.objects.items()):
        words = f"{kind} {name}"
        if HELPER.match(words):
            continue
        if key in gone and parent not in gone:
            yield Effect(f"{words} was dropped, not set aside", GONE.get(kind, GONE_OTHER))
        elif key not in gone and kind in RENAMED:
            new = after.objects[key][2]
            if new != name and "aside_" not in new:
                yield Effect(f"{words} is called {new} now", ("rename",))
    for name, number in before.sequences.items():
        now = after.sequences.get(name, number)
        if number is not None and (now is None or now < number):
            sentence = f"sequence {name} went back from {number} to {now or 'its start'}"
            yield Effect(sentence, ("sequence-restart",))


def rules_of(sentence: str) -> tuple[str, ...]:
    """Return the rules by which lint knows what a sentence of differences says."""
    return next((tuple(rules) for pattern, rules in HARMFUL if pattern.match(sentence)), ())


class Transaction:
    """A transaction of the migrator, and its effects on tables that it did not make itself.

    `rows`: the estimated number of rows, by table. What a statement reads under a lock, or changes,
    grows with the table, and so does the time for which clients wait.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        self.rows = rows
        self.held: dict[str, str] = {}  # by table, the mode that makes writes wait
        self.changed: Counter[str] = Counter()  # rows, by table

    def effects(self, line: Line) -> Iterator[Effect]:
        """Yield what a statement did."""
        sql = in_one_line(line["sql"])
        locks = {table: mode for table, mode in line["locks"] if table in self.rows}
        locked = {table: mode for table, mode in locks.items() if blocks_clients(mode)}
        # a foreign key or a partition needs both locks; what could be two statements doesn't
        is_several = len(locked) > 1 and SEVERAL.match(sql)
        if is_several or (locked and self.held.keys() - locked.keys()):
            tables = " and ".join(sorted(self.held | locked))
            yield Effect(f"one transaction locked {tables}: {sql}", ("two-tables",))
        elif locked and LOCK.match(sql):
            yield Effect(f"all of {' and '.join(locked)} was locked: {sql}", ("table-lock",))
        self.held |= locked
        yield from self.of_rows(line, locks, sql)
        if line["ends"]:
            yield Effect(f"the transaction ended before its step: {sql}", ("transaction-control",))
        if line["advisory"]:
            yield Effect(f"an advisory lock was taken: {sql}", ("advisory-lock",))

    def of_rows(self, line: Line, locks: Mapping[str, str], sql: str) -> Iterator[Effect]:
        """Yield what a statement did with rows; `locks`: those that it took."""
        read = {table: n for table, n in line["read"].items() if n >= MANY_ROWS}
        locked = " and ".join(sorted(self.held))
        for table, number in read.items() if locked else ():
            sentence = f"{count(number, 'row')} of {table} were read under a lock on {locked}"
            yield Effect(f"{sentence}: {sql}", READ)
        if SAFELY_BATCH in line["sql"]:
            return
        if set(locks.values()) == {"RowShare"} and read.keys() & locks and not line["changed"]:
            tables = " and of ".join(sorted(read.keys() & locks))
            yield Effect(f"rows of {tables} were locked at once: {sql}", ("row-locks",))
        for table, number in line["changed"].items():
            is_first = self.changed[table] < MANY_ROWS
            self.changed[table] += number
            if not is_first or self.changed[table] < MANY_ROWS:
                continue
            words = count(self.changed[table], "row")
            if table in self.rows:
                yield Effect(f"{words} of {table} changed at once: {sql}", CHANGED)
            elif read:
                yield Effect(f"{words} were copied to {table} at once: {sql}", COPIED)


def of_trace(
    lines: Iterable[Line], rows: Mapping[str, int], bookkeeping: Collection[str]
) -> Iterator[Effect]:
    """Yield what the statements of a step did with the tables that were there before it.

    `rows`: the estimated number of rows, by table. `bookkeeping`: tables that only migrations use.
    """
    transaction = Transaction(rows)
    settings: dict[str, tuple[str | None, str | None, str]] = {}  # of before, of now, by which SQL
    for line in lines:
        if line["what"] == "over":
            transaction = Transaction(rows)
        elif line["what"] == "statement" and not belongs_to_migrating(line["sql"], bookkeeping):
            yield from transaction.effects(line)
            for name, (old, new) in line["settings"].items():
                settings[name] = (settings.get(name, (old,))[0], new, in_one_line(line["sql"]))
    for name, (before, now, sql) in settings.items():
        if name in RULE_OF_SETTING and now != before:
            words = "its default" if now is None else now or "nothing"
            yield Effect(f"{name} was set to {words}: {sql}", (RULE_OF_SETTING[name],))


def unaccepted(effects: Iterable[Effect], revisions: Iterable[Script]) -> list[str]:
    """Return a problem for each harmful effect that no comment in the files accepts."""
    accepted = {
        rule
        for revision in revisions
        for suppression in suppressions(read(Path(revision.path)))
        for rule in suppression.rules
    }
    return [
        f"upgrade: {effect.sentence}{in_words(effect.rules)}"
        for effect in dict.fromkeys(effects)
        if effect.rules and not accepted & {*effect.rules}
    ]


def in_words(rules: tuple[str, ...]) -> str:
    """Return the rules that the effect may break, in parentheses; of many, none would be sure."""
    return f" (lint: {' or '.join(rules)})" if len(rules) <= MOST_RULES else ""
