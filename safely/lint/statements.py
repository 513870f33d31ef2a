"""SQL taken apart: its statements, and what each of them changes.

No parser of SQL: squawk is one, and finds most. This reads as much as is needed to name the table
and the column in a message, and to check what squawk doesn't.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<text>(?P<tag>\$\w*\$).*?(?P=tag)|'(?:[^']|'')*')"""
    r"""|(?P<space>\s+)|"[^"]*"|.""",
    re.DOTALL,
)
ONE = r'(?:"[^"]+"|[A-Za-z_][\w$]*)'
TABLE = rf"(?P<table>(?:{ONE}\.)?{ONE})"
TABLES = rf"(?:ONLY )?{TABLE}(?P<more>(?:, ?(?:ONLY )?(?:{ONE}\.)?{ONE})*)"
NAME, COLUMN = rf"(?P<name>{ONE})", rf"(?P<column>{ONE})"

# of all these the first that fits holds
KINDS = {
    "create table": rf"CREATE (?:\w+ )*TABLE (?:IF NOT EXISTS )?{TABLE}",
    "create index": rf"CREATE (?P<unique>UNIQUE )?INDEX (?P<concurrently>CONCURRENTLY )?"
    rf"(?:IF NOT EXISTS )?(?:(?!ON ){NAME} )?ON (?:ONLY )?{TABLE} ?(?:USING \w+ ?)?(?P<rest>.*)",
    "drop index": rf"DROP INDEX (?P<concurrently>CONCURRENTLY )?(?:IF EXISTS )?{NAME}",
    "create trigger": rf"CREATE (?:\w+ )*TRIGGER {NAME} .*? ON {TABLE}",
    "drop table": rf"DROP TABLE (?:IF EXISTS )?{TABLES}",
    "truncate": rf"TRUNCATE (?:TABLE )?{TABLES}",
    "lock": rf"LOCK (?:TABLE )?{TABLES}(?: IN (?P<mode>[A-Z ]+) MODE)?",
    "rewrite": rf"(?:CLUSTER|VACUUM (?:\(.*?FULL.*?\)|FULL)) (?:\w+ )*?{TABLE}$",
    "update": rf"UPDATE (?:ONLY )?{TABLE} (?:(?:AS )?(?!SET )(?P<alias>{ONE}) )?SET "
    r"(?P<assignments>.*)",
    "delete": rf"DELETE FROM (?:ONLY )?{TABLE}(?: (?:AS )?(?!USING )(?P<alias>{ONE}))?",
    "lock timeout": r"SET (?:LOCAL |SESSION )?lock_timeout\b",
    "unseen": r"(?:DO|CALL)\b",
}
MERGE = rf"MERGE INTO (?:ONLY )?{TABLE} "
WHERE = r'(?<!")\bWHERE\b'
COMMON = r"\bAS (?:(?:NOT )?MATERIALIZED )?\("  # what stands in a WITH
BEHIND = r"\b(?:SELECT|VALUES|INSERT INTO|UPDATE|DELETE FROM|MERGE INTO) (?!AS\b)"  # it
ALTER = rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{TABLE} (?P<actions>.*)"
ACTIONS = {
    "validate": rf"VALIDATE CONSTRAINT {NAME}",
    "foreign key": rf"ADD (?:CONSTRAINT {NAME} )?FOREIGN KEY ?\((?P<columns>[^)]*)\) "
    rf"REFERENCES (?P<referent>(?:{ONE}\.)?{ONE}) ?(?:\((?P<remote>[^)]*)\))?(?P<rest>.*)",
    "check": rf"ADD (?:CONSTRAINT {NAME} )?CHECK ?(?P<rest>\(.*)",
    "unique": rf"ADD (?:CONSTRAINT {NAME} )?UNIQUE ?(?:NULLS .*?)?\((?P<columns>[^)]*)\)",
    "primary key": rf"ADD (?:CONSTRAINT {NAME} )?PRIMARY KEY",
    "constraint": rf"ADD (?:CONSTRAINT {NAME} )?(?:EXCLUDE|UNIQUE)\b",
    "add column": rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?{COLUMN} (?P<definition>.*)",
    "drop constraint": rf"DROP CONSTRAINT (?:IF EXISTS )?{NAME}",
    "drop column": rf"DROP (?:COLUMN )?(?:IF EXISTS )?{COLUMN}",
    "not null": rf"ALTER (?:COLUMN )?{COLUMN} SET NOT NULL",
    "null": rf"ALTER (?:COLUMN )?{COLUMN} DROP NOT NULL",
    "type": rf"ALTER (?:COLUMN )?{COLUMN} (?:SET DATA )?TYPE (?P<type>.*?)"
    r"(?: (?:COLLATE|USING) .*)?$",
    "default": rf"ALTER (?:COLUMN )?{COLUMN} SET DEFAULT (?P<default>.*)",
    "no default": rf"ALTER (?:COLUMN )?{COLUMN} DROP DEFAULT",
    "rename column": rf"RENAME (?!CONSTRAINT |TO )(?:COLUMN )?{COLUMN} TO (?P<new>{ONE})",
    "rewrite": r"SET (?:LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)\b",
    "harmless": rf"(?:ALTER (?:COLUMN )?{ONE} SET STATISTICS|SET \(|RESET \(|ATTACH |CLUSTER ON)",
    "alter": r"",
}
# they let nobody write, or nobody in; the others of the same statements do neither
LOCKING = set(ACTIONS) - {"validate", "harmless"} | {
    "create trigger",
    "drop table",
    "truncate",
    "lock",
    "rewrite",
}
GENTLE = ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE")


class Sql(NamedTuple):
    """A statement on one line and without comments, and the same with its texts blotted out."""

    flat: str
    blotted: str  # of the same length, for patterns


class Change(NamedTuple):
    """Something that a statement does."""

    kind: str
    parts: dict[str, str]  # as they are written; what isn't, is missing

    @property
    def table(self) -> str:
        """Its name without schema and quotes; empty if it has none."""
        return bare(self.parts.get("table", ""))

    @property
    def tables(self) -> list[str]:
        """All that it names where it may name several."""
        more = self.parts.get("more", "").split(",")[1:]
        return [self.table, *(bare(name.strip().split(" ")[-1]) for name in more)]

    @property
    def mode(self) -> str:
        """What LOCK TABLE takes."""
        return self.parts.get("mode", "ACCESS EXCLUSIVE").upper()

    @property
    def locks(self) -> bool:
        """Whether writers or readers of the table have to wait."""
        if self.kind == "lock":
            return self.mode not in GENTLE
        return self.kind in LOCKING or (
            self.kind == "create index" and "concurrently" not in self.parts
        )


def split(text: str) -> Iterator[Sql]:
    """The statements of a text."""
    flat = blotted = ""
    for token in TOKEN.finditer(text + ";"):
        piece = token.group()
        if piece == ";":
            if flat.strip():
                yield Sql(flat.rstrip(), blotted.rstrip())
            flat = blotted = ""
        elif token["comment"] or token["space"]:
            space = "" if not flat or flat.endswith(" ") else " "
            flat, blotted = flat + space, blotted + space
        else:
            flat += piece
            blotted += piece[0] + "x" * (len(piece) - 2) + piece[-1] if token["text"] else piece


def changes(text: str) -> Iterator[Change]:
    """What the statements of a text do, as far as this knows them."""
    for statement in split(text):
        for one in unfolded(statement):
            # `safely` can't be told what the rest of a statement gives
            within = {} if one == statement else {"within": ""}
            yield from changed(one, **within)


def unfolded(statement: Sql) -> Iterator[Sql]:
    """The statements that one consists of: those in its WITH, and the one behind it."""
    blotted = statement.blotted
    if not re.match(r"WITH\b", blotted, re.IGNORECASE):
        yield statement
        return
    behind = next(outside(blotted, BEHIND), len(blotted))
    for at in outside(blotted[:behind], COMMON):
        body, _ = enclosed(statement.flat[blotted.index("(", at) :])
        for inner in split(body):
            yield from unfolded(inner)
    yield Sql(statement.flat[behind:], blotted[behind:])


def changed(statement: Sql, **more: str) -> Iterator[Change]:
    """What a statement without a WITH does."""
    if altered := re.match(ALTER, statement.blotted, re.IGNORECASE):
        start = altered.start("actions")
        for action in listed(Sql(statement.flat[start:], statement.blotted[start:])):
            yield matched(ACTIONS, action, table=bare(altered["table"]))
    elif merged := re.match(MERGE, statement.blotted, re.IGNORECASE):
        for kind in ("update", "delete"):
            if re.search(rf"\bTHEN {kind}\b", statement.blotted, re.IGNORECASE):
                yield Change(kind, {"table": bare(merged["table"]), "within": ""})
    elif re.match(r"(?:UPDATE|DELETE)\b", statement.blotted, re.IGNORECASE):
        kept, _ = parted(statement.flat, r"\bRETURNING\b")
        head, where = parted(kept, WHERE)
        more |= {"where": where[len("WHERE") :].strip()} if where else {}
        yield from known(next(split(head)), more)
    else:
        yield from known(statement, more)


def known(statement: Sql, more: dict[str, str]) -> Iterator[Change]:
    """What it does, if it is one of those that change something."""
    if any(re.match(kind, statement.blotted, re.IGNORECASE) for kind in KINDS.values()):
        yield matched(KINDS, statement, **more)


def matched(kinds: dict[str, str], statement: Sql, **more: str) -> Change:
    """What it does, by the first of the kinds that fits."""
    for kind, pattern in kinds.items():
        if found := re.match(pattern, statement.blotted, re.IGNORECASE):
            spans = {name: found.span(name) for name in found.groupdict() if found[name]}
            parts = {name: statement.flat[slice(*span)].strip() for name, span in spans.items()}
            return Change(kind, parts | more)
    raise AssertionError  # the last kind of an action fits all


def listed(statement: Sql) -> Iterator[Sql]:
    """What stands between the commas that are in no parentheses."""
    begin = 0
    for at in [*outside(statement.blotted, ","), len(statement.blotted)]:
        left = begin + (statement.flat[begin : begin + 1] == " ")
        yield Sql(statement.flat[left:at], statement.blotted[left:at])
        begin = at + 1


def outside(blotted: str, pattern: str) -> Iterator[int]:
    """Where a pattern begins outside of parentheses."""
    begins = {found.start() for found in re.finditer(pattern, blotted, re.IGNORECASE)}
    depth = 0
    for at, letter in enumerate(blotted):
        if depth == 0 and at in begins:
            yield at
        depth += (letter in "([") - (letter in ")]")


def items(text: str) -> list[str]:
    """What stands between the commas of a text."""
    return [item.flat.strip() for statement in split(text) for item in listed(statement)]


def parted(text: str, pattern: str) -> tuple[str, str]:
    """What stands before and from where a pattern begins, outside of parentheses and texts."""
    blotted = "".join(statement.blotted for statement in split(text))
    at = next(outside(blotted, pattern), len(text))
    return text[:at].strip(), text[at:].strip()


def enclosed(text: str) -> tuple[str, str]:
    """What stands in the parentheses with which a text begins, and what stands behind them."""
    blotted = "".join(statement.blotted for statement in split(text))
    depth = 0
    for at, letter in enumerate(blotted):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return text[1:at].strip(), text[at + 1 :].strip()
    return text, ""


def bare(name: str) -> str:
    """A name without schema and quotes."""
    return (
        name[-1 - name[::-1].find('"', 1) :].strip('"')
        if name.endswith('"')
        else name.rpartition(".")[2]
    )


def words(text: str) -> set[str]:
    """The names that stand in an expression, in lower case."""
    blotted = " ".join(statement.blotted for statement in split(text))
    return set(re.findall(r"[a-z_][a-z0-9_$]*", re.sub(r"'x*'", "", blotted).lower()))
