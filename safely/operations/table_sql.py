"""The text of SQLite's CREATE TABLE: taken apart, changed in one place, put together again.

SQLite keeps the statement as it was written. It alone has collations, names of constraints,
ON CONFLICT, comments: no pragma shows them. What isn't changed stays as it is, letter by letter.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from safely.operations.connection import Refused

TOKEN = re.compile(
    r"--[^\n]*\n?|/\*.*?(?:\*/|\Z)"  # comments
    r"|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\]"  # text, and quoted names
    r"|\s+|[\w$]+|.",
    re.DOTALL,
)
BLANK = re.compile(r"\s|--|/\*")
OF_TABLE = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}
OF_COLUMN = OF_TABLE - {"FOREIGN"} | {
    "NOT", "NULL", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS",
}  # fmt: skip
FOREIGN_KEYS = ("FOREIGN", "REFERENCES")
TYPES = {  # Alembic's names of constraints
    "check": ("CHECK",),
    "foreignkey": FOREIGN_KEYS,
    "primary": ("PRIMARY",),
    "unique": ("UNIQUE",),
}
COLLATE = " collate "  # in a fact
KEYS = ("PRIMARY", "UNIQUE")
SYNONYMS = {"INT": "INTEGER", "DECIMAL": "NUMERIC", "BOOL": "BOOLEAN"}
ORDER = ("COLLATE", "DEFAULT", "NOT")


class Clause(NamedTuple):
    """A rule in the definition of a column or a table, such as NOT NULL or CHECK (…)."""

    kind: str  # its first word after its name; GENERATED for AS
    name: str | None
    begin: int  # its first token
    end: int  # the one after its last token


class Part:
    """A column's definition, or constraints of the table."""

    def __init__(self, sql: str | Iterable[str]) -> None:
        self.tokens = TOKEN.findall(sql) if isinstance(sql, str) else list(sql)

    def __str__(self) -> str:
        return "".join(self.tokens)

    @property
    def words(self) -> list[int]:
        """The places of the tokens that are neither blank nor a comment."""
        return [place for place, token in enumerate(self.tokens) if not BLANK.match(token)]

    @property
    def column(self) -> str | None:
        """The name of the column; None for constraints."""
        first = self.tokens[self.words[0]]
        return None if first.upper() in OF_TABLE else unquoted(first)

    @property
    def clauses(self) -> list[Clause]:
        """The rules, in their order."""
        places = self.words
        words = [self.tokens[place].upper() for place in places]
        column = self.column is not None
        begins = list(beginnings(words, OF_COLUMN if column else OF_TABLE, first=int(column)))
        result = []
        for begin, end in zip(begins, [*begins, len(words)][1:], strict=True):
            named = words[begin] == "CONSTRAINT" and begin + 2 < end
            kind = words[begin + 2] if named else words[begin]
            name = unquoted(self.tokens[places[begin + 1]]) if named else None
            kind = "GENERATED" if kind == "AS" else kind
            result.append(Clause(kind, name, places[begin], places[end - 1] + 1))
        return result

    @property
    def type(self) -> str:
        """The column's type as it was declared; empty without one."""
        return "".join(self.tokens[self.words[0] + 1 : self.end_of_type]).strip()

    @property
    def end_of_type(self) -> int:
        """The place after the last token of the column's name and type."""
        end = next((clause.begin for clause in self.clauses), len(self.tokens))
        return max(place for place in self.words if place < end) + 1

    def sql(self, clause: Clause) -> str:
        """Return a rule as it was written."""
        return "".join(self.tokens[clause.begin : clause.end])

    def set_type(self, declared: str) -> None:
        """Give the column another type, and the collation that stands behind it."""
        new = Part(f"x {declared}")
        self.tokens[self.words[0] + 1 : self.end_of_type] = [" ", *TOKEN.findall(new.type)]
        for clause in new.clauses:
            self.replace(clause.kind, new.sql(clause))

    def remove(self, clause: Clause) -> None:
        """Take a rule out, with the blank before it."""
        begin = clause.begin
        if begin and self.tokens[begin - 1].isspace():
            begin -= 1
        del self.tokens[begin : clause.end]

    def replace(self, kind: str, rule: str | None) -> None:
        """Write a rule in the place of those of its kind; None takes them out.

        A new one stands where SQLAlchemy writes it: collation, default, NOT NULL, the others.
        """
        old = [clause for clause in self.clauses if clause.kind == kind]
        for clause in reversed(old if rule is None else old[1:]):
            self.remove(clause)
        if rule is None:
            return
        if old:
            self.tokens[old[0].begin : old[0].end] = TOKEN.findall(rule)
            return
        ends = [clause.end for clause in self.clauses if clause.kind in before(kind)]
        end = max([self.end_of_type, *ends])
        self.tokens[end:end] = [" ", *TOKEN.findall(rule)]

    def facts(self, *, but: str = "") -> Iterator[str]:
        """Yield what the part says, in words that do not depend on how it was written.

        A rule of the table is worded alike at its column. Rules of the kind `but` are left out.
        """
        column = "" if self.column is None else f"{self.column.lower()} "
        if column:
            yield f"{column}{normalized(self.type)}".strip()
        for clause in self.clauses:
            rule = folded(self.tokens[clause.begin : clause.end])
            if clause.kind in (but, "NULL"):  # NULL forbids nothing
                continue
            if clause.kind == "DEFAULT":
                text = self.sql(clause)
                yield f"{column}default {plain_default(text[text.upper().index('DEFAULT') + 7 :])}"
            elif column and clause.kind in KEYS:
                rule = rule.removesuffix(" autoincrement")
                yield re.sub("primary key|unique", rf"\g<0> ( {column})", rule, count=1)
            else:
                yield rule if clause.kind in OF_TABLE else column + rule


class Definition:
    """An SQLite table as its CREATE TABLE defines it.

    `changed` has the labels of what its changes may change in `rebuild.portrait`.
    """

    def __init__(self, sql: str) -> None:
        self.changed: set[str] = set()
        tokens = TOKEN.findall(sql)
        begin = tokens.index("(")
        self.head, self.parts = "".join(tokens[: begin + 1]), [Part([])]
        depth, end = 0, begin + 1
        while depth or tokens[end] != ")":
            word = tokens[end]
            depth += (word == "(") - (word == ")")
            if word == "," and depth == 0:
                self.parts.append(Part([]))
            else:
                self.parts[-1].tokens.append(word)
            end += 1
        self.tail = "".join(tokens[end:])

    def __str__(self) -> str:
        return self.head + ",".join(map(str, self.parts)) + self.tail

    @property
    def columns(self) -> list[Part]:
        """The definitions of columns."""
        return [part for part in self.parts if part.column is not None]

    @property
    def is_without_rowid(self) -> bool:
        """Whether its rows have no number but their primary key."""
        return "WITHOUT ROWID" in folded(TOKEN.findall(self.tail)).upper()

    def column(self, name: str) -> Part:
        """Return a column's definition; raise Refused where there is none."""
        for part in self.columns:
            if same(part.column, name):
                return part
        head = Part(self.head)
        table = unquoted(head.tokens[head.words[-2]])  # before the parenthesis
        raise Refused(f"there is no column {name} in {table}: correct the name")

    def has_column(self, name: str) -> bool:
        """Return whether it has a column of that name."""
        return any(same(part.column, name) for part in self.columns)

    def rules(self) -> Iterator[tuple[Part, Clause]]:
        """Yield all rules, of columns and of the table."""
        for part in self.parts:
            for clause in part.clauses:
                yield part, clause

    def is_key(self, name: str) -> bool:
        """Return whether a column is in the primary key."""
        return any(
            clause.kind == "PRIMARY"
            and (same(part.column, name) if part.column else mentions(part.sql(clause), name))
            for part, clause in self.rules()
        )

    def set_type(self, name: str, declared: str) -> None:
        """Give a column another type."""
        self.changed.add(f"column {name}")
        self.column(name).set_type(declared)

    def set_default(self, name: str, rule: str | None) -> None:
        """Give a column the default `DEFAULT …`, or none."""
        self.changed.add(f"column {name}")
        self.column(name).replace("DEFAULT", rule)

    def set_nullable(self, name: str, *, nullable: bool) -> None:
        """Allow NULL in a column, or forbid it."""
        self.changed.add(f"column {name}")
        self.column(name).replace("NULL", None)
        self.column(name).replace("NOT", None if nullable else "NOT NULL")

    def add_column(self, sql: str) -> None:
        """Add a column behind the others: SQLite wants constraints of the table after them."""
        last = max(place for place, part in enumerate(self.parts) if part.column is not None)
        self.insert(last + 1, sql)
        self.changed.add(f"column {self.parts[last + 1].column}")

    def drop_column(self, name: str) -> None:
        """Drop a column, with the constraints that mention it."""
        own = self.column(name)
        self.changed |= {f"column {name}", *(label_of(clause) for clause in own.clauses)}
        self.discard(own)
        self.drop_rules(
            (part, clause)
            for part, clause in self.rules()
            if clause.kind in (*OF_TABLE, "REFERENCES") and mentions(part.sql(clause), name)
        )

    def add_constraint(self, sql: str) -> None:
        """Add a constraint of the table."""
        self.insert(len(self.parts), sql)
        self.changed.update(label_of(clause) for clause in self.parts[-1].clauses)

    def drop_constraint(self, name: str, type_: str | None = None) -> bool:
        """Drop the constraint of that name, also at a column; return whether there was one.

        `type_` is that of Alembic; None stands for each.
        """
        kinds = TYPES.get(type_, ()) if type_ else {kind for of in TYPES.values() for kind in of}
        return self.drop_rules(
            (part, clause)
            for part, clause in self.rules()
            if same(clause.name, name) and clause.kind in kinds
        )

    def foreign_keys(self, *, but_to: str) -> list[str]:
        """Return the foreign keys to all tables but one, as they were written."""
        return [part.sql(clause) for part, clause in self.rules_to_others(but_to)]

    def drop_foreign_keys(self, *, but_to: str) -> None:
        """Drop the foreign keys to all tables but one."""
        self.drop_rules(self.rules_to_others(but_to))

    def rules_to_others(self, table_name: str) -> Iterator[tuple[Part, Clause]]:
        """Yield the foreign keys to all tables but one."""
        for part, clause in self.rules():
            rule = part.sql(clause)
            if clause.kind in FOREIGN_KEYS and not same(referred(rule), table_name):
                yield part, clause

    def drop_rules(self, rules: Iterable[tuple[Part, Clause]]) -> bool:
        """Drop rules; return whether there were any."""
        dropped = list(rules)
        for part, clause in reversed(dropped):
            rule = part.sql(clause)
            self.changed |= {label_of(clause), f"column {part.column}"}
            if clause.kind == "PRIMARY":
                names = (str(column.column) for column in self.columns)
                self.changed |= {f"column {name}" for name in names if mentions(rule, name)}
            part.remove(clause)
            if not part.words:
                self.discard(part)
        return bool(dropped)

    def rename_constraint(self, name: str, new_name: str) -> bool:
        """Give a constraint another name, which is SQL; return whether there was one."""
        for part, clause in self.rules():
            if same(clause.name, name):
                place = next(place for place in part.words if place > clause.begin)
                part.tokens[place] = new_name
                return True
        return False

    def insert(self, place: int, sql: str) -> None:
        """Write a part where it is to stand, indented as the one before it."""
        before = self.parts[place - 1].tokens
        part = Part(sql)
        if place == len(self.parts) and before[-1].isspace():
            part.tokens.append(before.pop())  # the line break before the closing parenthesis
        indent = before[0] if before[0].isspace() else " "
        part.tokens.insert(0, indent if place > 1 or "\n" in indent else " ")
        self.parts.insert(place, part)

    def discard(self, part: Part) -> None:
        """Take a part out; a line break before the closing parenthesis stays."""
        last = part is self.parts[-1]
        self.parts.remove(part)
        if last and part.tokens and part.tokens[-1].isspace():
            self.parts[-1].tokens.append(part.tokens[-1])

    def types(self) -> set[str]:
        """Return the names and types of its columns, without those that are set aside."""
        facts = {next(part.facts()) for part in self.columns}
        return {fact for fact in facts if "_aside_" not in fact}

    def facts(self, *, of: str) -> set[str]:
        """Return what it says of columns and constraints, without foreign keys to other tables.

        `of` is the name of the table. Rules about columns that are set aside are left out.
        """
        other = type(self)(str(self))
        other.drop_foreign_keys(but_to=of)
        keys = {f"{part.column}".lower() for part in self.columns if self.is_key(str(part.column))}
        implied = {f"{column} not null" for column in keys}
        facts = {fact for part in other.parts for fact in part.facts() if "_aside_" not in fact}
        return facts - implied


def beginnings(words: list[str], kinds: set[str], *, first: int) -> Iterator[int]:
    """Yield the places of the words with which a rule begins, from the word `first` on."""
    depth = 0
    for place, word in enumerate(words):
        if place >= first and depth == 0 and word in kinds and not goes_on(words, place):
            yield place
        depth += (word == "(") - (word == ")")


def goes_on(words: list[str], place: int) -> bool:
    """Return whether a word that could begin a rule is part of the one before it."""
    word, before = words[place], words[place - 1] if place else ""
    return (
        before in ("CONSTRAINT", "SET")  # a constraint's name; ON DELETE SET NULL
        or (place > 1 and words[place - 2] == "CONSTRAINT")
        or (word == "NULL" and before in ("NOT", "DEFAULT"))
        or (word == "NOT" and words[place + 1 : place + 2] == ["DEFERRABLE"])
        or (word == "AS" and before == "ALWAYS")
    )


def before(kind: str) -> tuple[str, ...]:
    """Return the kinds of rules that stand before one of this kind."""
    return ORDER[: ORDER.index(kind)]


def rule_of(part: Part, kind: str) -> str | None:
    """Return a column's rule of a kind, as it was written; None without one."""
    return next((part.sql(clause) for clause in part.clauses if clause.kind == kind), None)


def label_of(clause: Clause) -> str:
    """Return the label that a rule has in `rebuild.portrait`."""
    if clause.kind in FOREIGN_KEYS:
        return "foreign keys"
    return "primary and unique keys" if clause.kind in KEYS else clause.kind


def referred(rule: str) -> str:
    """Return the table that a foreign key refers to."""
    words = [token for token in TOKEN.findall(rule) if not BLANK.match(token)]
    place = next(place for place, word in enumerate(words) if word.upper() == "REFERENCES")
    return unquoted(words[place + 1])


def mentions(sql: str, name: str) -> bool:
    """Return whether SQL has a name in it, apart from texts and comments."""
    return any(
        same(unquoted(token), name) for token in TOKEN.findall(sql) if not BLANK.match(token)
    )


def replaced(sql: str, name: str, new: str) -> str:
    """Return SQL with another expression in the place of a name, and without comments."""
    tokens = (token for token in TOKEN.findall(sql) if token.isspace() or not BLANK.match(token))
    return "".join(new if same(unquoted(token), name) else token for token in tokens)


def unquoted(token: str) -> str:
    """Return a name without its quotes; a text keeps them, so that it is no name."""
    if token[0] == "[":
        return token[1:-1]
    return token[1:-1].replace(token[0] * 2, token[0]) if token[0] in '"`' else token


def same(name: str | None, other: str) -> bool:
    """Return whether two names mean the same to SQLite, which ignores the case of names."""
    return name is not None and name.lower() == other.lower()


def normalized(declared: str) -> str:
    """Return a declared type as SQLAlchemy spells it, without blanks."""
    name, bracket, rest = re.sub(r"\s+", "", declared).upper().partition("(")
    return SYNONYMS.get(name, name) + bracket + rest


def differences(existing: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return the facts that only one of two definitions has.

    A collation is compared only where one is wanted: a reflection, of which autogenerate makes
    the way back, has none.
    """
    existing, wanted = set(existing), set(wanted)
    collated = {fact.partition(COLLATE)[0] for fact in wanted if COLLATE in fact}
    return sorted(
        fact
        for fact in existing ^ wanted
        if fact in wanted or COLLATE not in fact or fact.partition(COLLATE)[0] in collated
    )


def plain_default(default: str | None) -> str:
    """Return a default without the parentheses around it, and a number without its quotes."""
    words = [token for token in TOKEN.findall(default or "NULL") if not BLANK.match(token)]
    while words[0] == "(" and closes_at_end(words):
        words = words[1:-1]
    if len(words) == 1 and re.fullmatch(r"'-?[0-9.]+'", words[0]):
        words = TOKEN.findall(words[0][1:-1])
    return folded(words)


def closes_at_end(words: list[str]) -> bool:
    """Return whether the parenthesis that opens first is the last to be closed."""
    depth = 0
    for place, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return place == len(words) - 1
    return False


def folded(tokens: Iterable[str]) -> str:
    """Return SQL without blanks, comments, quotes of names, and case, but for texts."""
    words = [token for token in tokens if not BLANK.match(token)]
    return " ".join(word if word[0] == "'" else unquoted(word).lower() for word in words)
