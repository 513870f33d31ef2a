"""Random changes of a model, each of a kind that people make, as source text."""

import ast
import re
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.everything import ID, LITE, PG, Table, index

Tables = dict[str, Table]

NEW_TYPES = ["sa.Text()", "sa.String(30)", "sa.Integer()", "sa.BigInteger()", "sa.Boolean()",
             "sa.Date()", "sa.DateTime()", "sa.Numeric(10, 2)", "sa.Uuid()", "sa.LargeBinary()",
             "sa.JSON()", "sa.Float()"]  # fmt: skip
NEW_TYPES_PG = [
    "pg.JSONB()", "pg.INET()", "pg.ARRAY(sa.Integer())", "pg.TSRANGE()", "pg.CITEXT()",
    "pg.TIMESTAMP(timezone=True)", "pg.INTERVAL()", "pg.HSTORE()", "pg.BIT(5)", "pg.MONEY()",
    "pg.DATEMULTIRANGE()", "pg.MACADDR()", "sa.Text(), comment='what it holds'",
]  # fmt: skip
ENUM = re.compile(r"sa\.Enum\((.*?), name=('[^']*')\)")
# tables with what only PostgreSQL has: every second change is one of these
SHAPES = ["moods", "pg_moods", "events", "places", "secured", "summed", "counted"]
DEFAULTS = {
    "sa.Text()": "'new'", "sa.String(30)": "'new'", "sa.Integer()": "sa.text('0')",
    "sa.BigInteger()": "sa.text('7')", "sa.Boolean()": "sa.true()", "sa.Numeric(10, 2)": "'1.50'",
    "sa.Date()": "'2026-11-26'", "pg.JSONB()": "sa.text(\"'{}'::jsonb\")",
    "pg.ARRAY(sa.Integer())": "sa.text(\"'{}'::integer[]\")",
}  # fmt: skip
RETYPES = {  # to types that hold every value, and to some that may not
    "sa.SmallInteger()": ["sa.Integer()", "sa.BigInteger()"],
    "sa.Integer()": ["sa.BigInteger()", "sa.Numeric()", "sa.Text()", "sa.SmallInteger()"],
    "sa.BigInteger()": ["sa.Numeric()", "sa.Integer()"],
    "sa.String(40)": ["sa.String(80)", "sa.Text()", "sa.String(3)"],
    "sa.String(30)": ["sa.String(60)", "sa.Text()"],
    "sa.String(20)": ["sa.String(21)", "sa.Text()"],
    "sa.Text()": ["sa.String()", "sa.String(200)", "sa.Integer()"],
    "sa.Numeric(10, 2)": ["sa.Numeric(12, 2)", "sa.Numeric()", "sa.Integer()"],
    "sa.Date()": ["sa.DateTime()", "sa.Text()"],
    "sa.DateTime()": ["sa.Date()", "sa.Text()"],
    "sa.Float()": ["sa.Double()", "sa.Numeric()"],
    "sa.Boolean()": ["sa.Integer()", "sa.Text()"],
    "pg.JSON()": ["pg.JSONB()"],
    "pg.INET()": ["sa.Text()"],
    "sa.Uuid()": ["sa.Text()"],
}


class Place(NamedTuple):
    """A column of a table."""

    table: str
    column: str


class Changes:
    """Changes of one model; each returns what it did, or None where there was nothing to change."""

    def __init__(self, tables: Tables, kind: str, random: Random) -> None:
        self.tables = tables
        self.kind = kind
        self.random = random
        self.number = 0
        self.scope: list[str] = []
        self.renamed: dict[str, str] = {}
        """The labels of an enum that the last change has renamed: autogenerate can't know them."""

    def next_name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number}"

    def any_table(self) -> str:
        return self.random.choice(sorted(self.changeable))

    @property
    def changeable(self) -> Tables:
        """The tables among which this change chooses."""
        chosen = {name: self.tables[name] for name in self.scope if name in self.tables}
        return chosen or self.tables

    def plain(self, wanted: Callable[[str], bool] = lambda _: True) -> Place | None:
        """Return a column that no rule, key or other column mentions."""
        places = [
            Place(table, column)
            for table, content in sorted(self.changeable.items())
            for column, text in content.columns.items()
            if "primary_key" not in text and "ForeignKey" not in text and "Computed" not in text
            and "index=" not in text
            and not any(re.search(rf"\b{re.escape(column)}\b", rule)
                        for rule in content.rules.values())
            and not any(f"{column} *" in other for other in content.columns.values())
            and not any(f"{table}.{column}'" in other for rest in self.tables.values()
                        for other in (*rest.columns.values(), *rest.rules.values()))
            and wanted(text)
        ]  # fmt: skip
        return self.random.choice(places) if places else None

    def set(self, place: Place, text: str) -> None:
        self.tables[place.table].columns[place.column] = text

    def text(self, place: Place) -> str:
        return self.tables[place.table].columns[place.column]

    @property
    def types(self) -> list[str]:
        return NEW_TYPES + (NEW_TYPES_PG if self.kind == PG else []) + self.enums

    @property
    def enums(self) -> list[str]:
        """The enum types of the models."""
        texts = [text for t in self.tables.values() for text in t.columns.values()]
        return sorted({match[0] for text in texts for match in ENUM.finditer(text)})

    def add_column(self) -> str:
        table, column, type_ = (
            self.any_table(),
            self.next_name("added"),
            self.random.choice(self.types),
        )
        self.tables[table].columns[column] = type_
        return f"add {table}.{column} {type_}"

    def add_required_column(self) -> str:
        table, column = self.any_table(), self.next_name("required")
        type_ = self.random.choice([t for t in self.types if t in DEFAULTS])
        text = f"{type_}, nullable=False, server_default={DEFAULTS[type_]}"
        self.tables[table].columns[column] = text
        return f"add {table}.{column} {text}"

    def add_generated_column(self) -> str | None:
        numbers = [
            (table, column)
            for table, content in sorted(self.changeable.items())
            for column, text in content.columns.items()
            if text == "sa.Integer()" and column.isalnum() and column != "select"  # a reserved word
        ]
        if not numbers:
            return None
        table, column = self.random.choice(numbers)
        name = self.next_name("generated")
        persisted = self.random.choice(["True", "False"])
        text = f"sa.Integer(), sa.Computed('{column} * 2', persisted={persisted})"
        self.tables[table].columns[name] = text
        return f"add {table}.{name} {text}"

    def drop_column(self) -> str | None:
        place = self.plain()
        if place is None or len(self.tables[place.table].columns) < 2:
            return None
        text = self.tables[place.table].columns.pop(place.column)
        return f"drop {place.table}.{place.column} {text}"

    def change_type(self) -> str | None:
        place = self.plain(lambda text: text in RETYPES)
        if place is None:
            return None
        old = self.text(place)
        self.set(place, self.random.choice(RETYPES[old]))
        return f"retype {place.table}.{place.column} {old} to {self.text(place)}"

    def require_column(self) -> str | None:
        place = self.plain(lambda text: "nullable" not in text and "Identity" not in text)
        if place is None:
            return None
        self.set(place, f"{self.text(place)}, nullable=False")
        return f"require {place.table}.{place.column}"

    def allow_null(self) -> str | None:
        place = self.plain(lambda text: "nullable=False" in text)
        if place is None:
            return None
        self.set(place, self.text(place).replace(", nullable=False", ""))
        return f"allow null in {place.table}.{place.column}"

    def change_default(self) -> str | None:
        place = self.plain(lambda text: text in DEFAULTS)
        if place is None:
            return None
        default = DEFAULTS[self.text(place)]
        self.set(place, f"{self.text(place)}, server_default={default}")
        return f"default of {place.table}.{place.column} is {default}"

    def drop_default(self) -> str | None:
        place = self.plain(lambda text: "server_default" in text and "nullable" not in text)
        if place is None:
            return None
        self.set(place, re.sub(r", server_default=.*", "", self.text(place)))
        return f"drop default of {place.table}.{place.column}"

    def add_index(self) -> str | None:
        kinds = ("sa.Int", "sa.Text", "sa.Date", "sa.Str", "sa.Enum")
        place = self.plain(lambda text: text.startswith(kinds))
        if place is None:
            return None
        name, column = self.next_name("ix_added"), repr(place.column)
        ways = [index(name, column)]
        if "sa.Enum" not in self.text(place) or self.kind == PG:
            ways.append(index(name, f"sa.desc({column})"))
        if self.kind == PG:
            ways += [
                index(name, column, postgresql_using="'hash'"),
                index(name, column, postgresql_where=f"sa.column({column}).is_not(None)"),
                index(name, column, postgresql_with="{'fillfactor': 80}"),
            ]
        self.tables[place.table].rules.update(self.random.choice(ways))
        return f"index {name} on {place.table}.{place.column}"

    def drop_rule(self) -> str | None:
        names = [
            (table, rule)
            for table, content in sorted(self.changeable.items())
            for rule, text in content.rules.items()
            if "PrimaryKey" not in text and "CheckConstraint" not in text
            and "Exclude" not in text and "uq_parents" not in rule
        ]  # fmt: skip
        if not names:
            return None
        table, rule = self.random.choice(names)
        return f"drop {self.tables[table].rules.pop(rule)} of {table}"

    def add_unique(self) -> str | None:
        place = self.plain(
            lambda text: text.startswith(("sa.Int", "sa.Text", "sa.Date", "sa.Uuid"))
        )
        if place is None:
            return None
        name = self.next_name("uq_added")
        ways = ["", ", deferrable=True", ", deferrable=True, initially='DEFERRED'"]
        way = self.random.choice(ways[: 3 if self.kind == PG else 1])
        self.tables[place.table].rules[name] = (
            f"sa.UniqueConstraint({place.column!r}, name={name!r}{way})"
        )
        return f"unique {name} on {place.table}.{place.column}{way}"

    def add_foreign_key(self) -> str | None:
        table, name = self.any_table(), self.next_name("fk_added")
        column = self.next_name("parent")
        self.tables[table].columns[column] = "Key"
        way = self.random.choice(
            ["", ", ondelete='CASCADE'", ", ondelete='SET NULL', onupdate='CASCADE'",
             ", deferrable=True, initially='DEFERRED'"]
        )  # fmt: skip
        self.tables[table].rules[name] = (
            f"sa.ForeignKeyConstraint([{column!r}], ['parents.id'], name={name!r}{way})"
        )
        return f"foreign key {name} of {table}.{column}{way}"

    def add_table(self) -> str:
        name = self.next_name("table")
        columns = {"id": ID}
        for number in range(self.random.randint(1, 4)):
            columns[f"c{number}"] = self.random.choice(self.types)
        self.tables[name] = Table(columns, index(f"ix_{name}", "'id'", "'c0'"))
        if "JSON" in columns["c0"] or (self.kind == PG and "sa." not in columns["c0"]):
            self.tables[name].rules.clear()
        return f"add table {name}"

    def add_partitioned_table(self) -> str | None:
        if self.kind == LITE:
            return None
        name = self.next_name("parts")
        columns = {
            "id": "sa.BigInteger(), primary_key=True",
            "kind": "sa.String(20), primary_key=True",
            "c0": self.random.choice(self.types),
            "c1": self.random.choice(self.types),
        }
        way = self.random.choice(["RANGE (id)", "LIST (kind)", "HASH (id, kind)"])
        rules = index(f"ix_{name}", "'kind'", "'id'")
        self.tables[name] = Table(columns, rules, {"postgresql_partition_by": repr(way)})
        return f"add table {name} by {way}"

    def drop_table(self) -> str | None:
        names = [
            name
            for name in sorted(self.changeable)
            if not any(
                re.search(rf"'{re.escape(name)}\.", text)
                for content in self.tables.values()
                for text in (*content.columns.values(), *content.rules.values())
            )
        ]
        if not names:
            return None
        name = self.random.choice(names)
        del self.tables[name]
        return f"drop table {name}"

    def change_comment(self) -> str | None:
        place = self.plain(lambda text: "comment" not in text)
        if place is None or self.kind == LITE:
            return None
        self.set(place, f"{self.text(place)}, comment='it''s {self.next_name('comment')}'")
        return f"comment on {place.table}.{place.column}"

    def change_table_comment(self) -> str | None:
        if self.kind == LITE:
            return None
        table = self.any_table()
        self.tables[table].options["comment"] = repr(self.next_name("a comment"))
        return f"comment on {table}"

    def add_enum(self) -> str | None:
        enum = f"sa.Enum('a', 'b', 'c', name='{self.next_name('enum')}')"
        table, column = self.any_table(), self.next_name("labelled")
        ways = ["{}", "{}, nullable=False, server_default='b'"]
        if self.kind == PG:
            ways.append("pg.ARRAY({})")
        text = self.random.choice(ways).format(enum)
        self.tables[table].columns[column] = text
        return f"add {table}.{column} {text}"

    def add_label(self) -> str | None:
        return self.change_labels(
            lambda labels: labels.insert(
                self.random.randint(0, len(labels)), self.next_name("label")
            )
        )

    def rename_label(self) -> str | None:
        new = self.next_name("label")

        def rename(labels: list[str]) -> None:
            place = self.random.randrange(len(labels))
            self.renamed = {labels[place]: new}
            labels[place] = new

        return self.change_labels(rename)

    def remove_label(self) -> str | None:
        """Remove a label; of two, in the place of which another one comes."""

        def remove(labels: list[str]) -> None:
            gone = labels.pop(self.random.randrange(len(labels)))
            if self.random.random() < 0.5:  # every second one
                self.renamed = {gone: self.random.choice(labels)}

        return self.change_labels(remove)

    def change_labels(self, change: Callable[[list[str]], None]) -> str | None:
        """Change the labels of an enum in all columns that have it, and in their defaults."""
        if self.kind == LITE or not self.enums:
            return None  # SQLite doesn't know labels, so autogenerate sees no change
        enum = self.random.choice(self.enums)
        match = ENUM.fullmatch(enum)
        assert match
        labels = list(ast.literal_eval(f"[{match[1]}]"))
        if len(labels) < 2:  # a label stays
            return None
        change(labels)
        new = f"sa.Enum({', '.join(map(repr, labels))}, name={match[2]})"
        for table in self.tables.values():
            for column, text in table.columns.items():
                if enum in text:
                    changed = text.replace(enum, new)
                    for old, label in self.renamed.items():
                        changed = changed.replace(f"default={old!r}", f"default={label!r}")
                    table.columns[column] = changed
        return f"labels of {enum} are {labels}, renamed {self.renamed}"

    def add_sequence(self) -> str | None:
        name = self.random.choice(["ticket_numbers", self.next_name("numbers")])
        table, column = self.any_table(), self.next_name("number")
        way = self.random.choice(
            ["sa.Sequence({!r})", "server_default=sa.Sequence({!r}).next_value()"]
        )
        if self.kind == LITE:
            return None
        self.tables[table].columns[column] = f"sa.BigInteger(), {way.format(name)}"
        return f"add {table}.{column} with a sequence"

    @property
    def kinds(self) -> list[Callable[[], str | None]]:
        return [
            self.add_column, self.add_required_column, self.add_generated_column, self.drop_column,
            self.change_type, self.require_column, self.allow_null, self.change_default,
            self.drop_default, self.add_index, self.drop_rule, self.add_unique,
            self.add_foreign_key, self.add_table, self.drop_table, self.change_comment,
            self.change_table_comment, self.add_partitioned_table, self.add_enum, self.add_label,
            self.rename_label, self.remove_label, self.add_sequence,
        ]  # fmt: skip

    def change(self) -> str:
        """Change one thing; return what."""
        while True:
            self.renamed = {}
            is_special = self.random.random() < 0.5  # every second one
            self.scope = [self.random.choice(SHAPES)] if is_special else []
            if (done := self.random.choice(self.kinds)()) is not None:
                return done
