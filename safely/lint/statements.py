"""Split SQL into statements, and tell what each of them changes.

This is no parser of SQL: squawk has one, and finds most problems. The patterns here read as much as
the messages need (the table, the column) and as the checks need that squawk lacks.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<literal>(?P<tag>\$\w*\$).*?(?P=tag)|'(?:[^']|'')*')"""
    r"""|(?P<space>\s+)|"[^"]*"|.""",
    re.DOTALL,
)
IDENTIFIER = r'(?:"[^"]+"|[A-Za-z_][\w$]*)'
QUALIFIED = rf"(?:{IDENTIFIER}\.)?{IDENTIFIER}"
TABLE = rf"(?P<table>{QUALIFIED})"
TABLES = rf"(?:ONLY )?{TABLE}(?P<more>(?:, ?(?:ONLY )?{QUALIFIED})*)"
NAME, COLUMN = rf"(?P<name>{IDENTIFIER})", rf"(?P<column>{IDENTIFIER})"

# kinds of statements; the first pattern that matches decides
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
    "update": rf"UPDATE (?:ONLY )?{TABLE} (?:(?:AS )?(?!SET )(?P<alias>{IDENTIFIER}) )?SET "
    r"(?P<assignments>.*)",
    "delete": rf"DELETE FROM (?:ONLY )?{TABLE}(?: (?:AS )?(?!USING )(?P<alias>{IDENTIFIER}))?",
    "column grant": rf"GRANT (?:.*?, ?)?(?:SELECT|INSERT|UPDATE) ?\(.*?\) ?.*? ?"
    rf"ON (?:TABLE )?{TABLE}",
    "add label": rf"ALTER TYPE (?:{IDENTIFIER}\.)?{NAME} ADD VALUE (?:IF NOT EXISTS )?"
    r"(?P<label>'[^']*')",
    "rename label": rf"ALTER TYPE (?:{IDENTIFIER}\.)?{NAME} RENAME VALUE (?P<old>'[^']*') TO "
    r"(?P<label>'[^']*')",
    "drop type": rf"DROP TYPE (?:IF EXISTS )?(?:{IDENTIFIER}\.)?{NAME}",
    "lock timeout": r"SET (?:LOCAL |SESSION )?lock_timeout\b",
    "unseen": r"(?:DO|CALL)\b",
}
MERGE = rf"MERGE INTO (?:ONLY )?{TABLE} "
WHERE = r'(?<!")\bWHERE\b'
CTE = r"\bAS (?:(?:NOT )?MATERIALIZED )?\("  # begins the body of a common table expression
AFTER_CTES = r"\b(?:SELECT|VALUES|INSERT INTO|UPDATE|DELETE FROM|MERGE INTO) (?!AS\b)"
ALTER = rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{TABLE} (?P<actions>.*)"
ACTIONS = {  # of ALTER TABLE; the first pattern that matches decides
    "validate": rf"VALIDATE CONSTRAINT {NAME}",
    "foreign key": rf"ADD (?:CONSTRAINT {NAME} )?FOREIGN KEY ?\((?P<columns>[^)]*)\) "
    rf"REFERENCES (?P<referent>{QUALIFIED}) ?(?:\((?P<remote>[^)]*)\))?(?P<rest>.*)",
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
    "rename constraint": rf"RENAME CONSTRAINT {NAME} TO (?P<new>{IDENTIFIER})",
    "rename table": rf"RENAME TO (?P<new>{IDENTIFIER})",
    "rename column": rf"RENAME (?!CONSTRAINT |TO )(?:COLUMN )?{COLUMN} TO (?P<new>{IDENTIFIER})",
    "rewrite": r"SET (?:LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)\b",
    "harmless": rf"(?:ALTER (?:COLUMN )?{IDENTIFIER} SET STATISTICS|SET \(|RESET \(|ATTACH "
    r"|CLUSTER ON)",
    "alter": r"",
}
# these block writes, or reads and writes, of their table
BLOCKING = set(ACTIONS) - {"validate", "harmless"} | {
    "create trigger",
    "drop table",
    "truncate",
    "lock",
    "rewrite",
}
MODES_WITHOUT_WAITING = ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE")


class Sql(NamedTuple):
    """A statement on one line, without comments."""

    flat: str
    masked: str
    """`flat` with the content of its string literals replaced by `x`; of the same length."""


class Change(NamedTuple):
    """A change that a statement makes."""

    kind: str
    """A key of KINDS or ACTIONS."""
    parts: dict[str, str]
    """Pieces of the SQL as they are written, by the groups of the pattern; others are missing."""

    @property
    def table(self) -> str:
        """The name of the table, without schema and quotes; empty if there is none."""
        return unqualified(self.parts.get("table", ""))

    @property
    def tables(self) -> list[str]:
        """The names of all tables, for a statement that may name several."""
        others = self.parts.get("more", "").split(",")[1:]
        return [self.table, *(unqualified(name.strip().split(" ")[-1]) for name in others)]

    @property
    def mode(self) -> str:
        """The lock mode of LOCK TABLE."""
        return self.parts.get("mode", "ACCESS EXCLUSIVE").upper()

    @property
    def blocks(self) -> bool:
        """Whether writes, or reads and writes, of the table have to wait."""
        if self.kind == "lock":
            return self.mode not in MODES_WITHOUT_WAITING
        return self.kind in BLOCKING or (
            self.kind == "create index" and "concurrently" not in self.parts
        )


def split(text: str) -> Iterator[Sql]:
    """Yield the statements of a text."""
    flat = masked = ""
    for token in TOKEN.finditer(text + ";"):
        piece = token.group()
        if piece == ";":
            if flat.strip():
                yield Sql(flat.rstrip(), masked.rstrip())
            flat = masked = ""
        elif token["comment"] or token["space"]:
            space = "" if not flat or flat.endswith(" ") else " "
            flat, masked = flat + space, masked + space
        else:
            flat += piece
            masked += piece[0] + "x" * (len(piece) - 2) + piece[-1] if token["literal"] else piece


def mask(text: str) -> str:
    """Return SQL without its comments and the content of its string literals."""
    return " ".join(statement.masked for statement in split(text))


def changes(text: str) -> Iterator[Change]:
    """Yield the changes that the statements of a text make, as far as the patterns know them."""
    for statement in split(text):
        for part in without_ctes(statement):
            # of a statement with CTEs, no call of `safely` can take over the other parts
            context = {} if part == statement else {"cte": ""}
            yield from changes_of(part, **context)


def without_ctes(statement: Sql) -> Iterator[Sql]:
    """Yield the statements in the common table expressions, and the statement after them."""
    masked = statement.masked
    if not re.match(r"WITH\b", masked, re.IGNORECASE):
        yield statement
        return
    end = next(top_level(masked, AFTER_CTES), len(masked))
    for at in top_level(masked[:end], CTE):
        body, _ = parenthesized(statement.flat[masked.index("(", at) :])
        for inner in split(body):
            yield from without_ctes(inner)
    yield Sql(statement.flat[end:], masked[end:])


def changes_of(statement: Sql, **parts: str) -> Iterator[Change]:
    """Yield the changes of one statement without CTEs; add `parts` to theirs."""
    if alter := re.match(ALTER, statement.masked, re.IGNORECASE):
        start = alter.start("actions")
        for action in split_at_commas(Sql(statement.flat[start:], statement.masked[start:])):
            yield first_match(ACTIONS, action, table=unqualified(alter["table"]))
    elif merge := re.match(MERGE, statement.masked, re.IGNORECASE):
        for kind in ("update", "delete"):
            if re.search(rf"\bTHEN {kind}\b", statement.masked, re.IGNORECASE):
                yield Change(kind, {"table": unqualified(merge["table"]), "cte": ""})
    elif re.match(r"(?:UPDATE|DELETE)\b", statement.masked, re.IGNORECASE):
        without_returning, _ = split_before(statement.flat, r"\bRETURNING\b")
        head, where = split_before(without_returning, WHERE)
        if where:
            parts["where"] = where[len("WHERE") :].strip()
        yield from known_change(next(split(head)), parts)
    else:
        yield from known_change(statement, parts)


def known_change(statement: Sql, parts: dict[str, str]) -> Iterator[Change]:
    """Yield the change of a statement if one of the KINDS matches it."""
    if any(re.match(kind, statement.masked, re.IGNORECASE) for kind in KINDS.values()):
        yield first_match(KINDS, statement, **parts)


def first_match(patterns: dict[str, str], statement: Sql, **parts: str) -> Change:
    """Return the change by the first pattern that matches; add `parts` to it."""
    for kind, pattern in patterns.items():
        if match := re.match(pattern, statement.masked, re.IGNORECASE):
            spans = {name: match.span(name) for name in match.groupdict() if match[name]}
            pieces = {name: statement.flat[slice(*span)].strip() for name, span in spans.items()}
            return Change(kind, pieces | parts)
    raise AssertionError  # the last of the ACTIONS matches everything


def split_at_commas(statement: Sql) -> Iterator[Sql]:
    """Yield the pieces between the commas that stand in no parentheses."""
    begin = 0
    for at in [*top_level(statement.masked, ","), len(statement.masked)]:
        start = begin + (statement.flat[begin : begin + 1] == " ")
        yield Sql(statement.flat[start:at], statement.masked[start:at])
        begin = at + 1


def top_level(masked: str, pattern: str) -> Iterator[int]:
    """Yield each position outside of parentheses where the pattern matches."""
    positions = {match.start() for match in re.finditer(pattern, masked, re.IGNORECASE)}
    depth = 0
    for at, letter in enumerate(masked):
        if depth == 0 and at in positions:
            yield at
        depth += (letter in "([") - (letter in ")]")


def items(text: str) -> list[str]:
    """Return the pieces of a list in SQL, such as column names."""
    return [item.flat.strip() for statement in split(text) for item in split_at_commas(statement)]


def split_before(text: str, pattern: str) -> tuple[str, str]:
    """Return the text before the first match, and the rest; the whole text without a match.

    A match in parentheses or in a string literal doesn't count.
    """
    at = next(top_level(mask(text), pattern), len(text))
    return text[:at].strip(), text[at:].strip()


def parenthesized(text: str) -> tuple[str, str]:
    """Return the content of the parentheses at the beginning of a text, and the text after them."""
    depth = 0
    for at, letter in enumerate(mask(text)):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return text[1:at].strip(), text[at + 1 :].strip()
    return text, ""


def unqualified(name: str) -> str:
    """Return a name without schema and quotes."""
    return (
        name[-1 - name[::-1].find('"', 1) :].strip('"')
        if name.endswith('"')
        else name.rpartition(".")[2]
    )


def identifiers(text: str) -> set[str]:
    """Return the names and keywords in an expression, in lower case."""
    without_literals = re.sub(r"'x*'", "", mask(text))
    return set(re.findall(r"[a-z_][a-z0-9_$]*", without_literals.lower()))
