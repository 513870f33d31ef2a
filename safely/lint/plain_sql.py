"""The safe spelling of plain SQL, which is also what Alembic prints for its own operations.

`…` stands for what the SQL doesn't say.
"""

import re
from collections.abc import Callable

from safely.lint.statements import Change, bare, enclosed, items, parted, words

FILL = ", fill=…)  # what rows, and builds that write none, get there"
RESUMED = "  # where: must stop being true of a row once it is changed, or it is changed again"
LEFT_ALONE = 'safely.nothing_to_undo("why the rows are left as they are")'
ACTION = r"ON (DELETE|UPDATE) (CASCADE|RESTRICT|SET NULL|SET DEFAULT)"
TYPES = {
    "bigint": "sa.BigInteger()",
    "bigserial": "sa.BigInteger()",
    "bool": "sa.Boolean()",
    "boolean": "sa.Boolean()",
    "bytea": "sa.LargeBinary()",
    "date": "sa.Date()",
    "double precision": "sa.Double()",
    "int": "sa.Integer()",
    "int4": "sa.Integer()",
    "int8": "sa.BigInteger()",
    "integer": "sa.Integer()",
    "numeric": "sa.Numeric()",
    "serial": "sa.Integer()",
    "smallint": "sa.SmallInteger()",
    "text": "sa.Text()",
    "timestamp with time zone": "sa.DateTime(timezone=True)",
    "timestamptz": "sa.DateTime(timezone=True)",
    "uuid": "sa.Uuid()",
    "varchar": "sa.String()",
}
ENDS_TYPE = (
    r"(?:DEFAULT|NOT NULL|NULL|CHECK|UNIQUE|PRIMARY|REFERENCES|GENERATED|COLLATE|CONSTRAINT)\b"
)


def of_change(change: Change) -> str | None:
    """What to write in the place of SQL that does this; None if `safely` knows nothing better."""
    spelled = SPELLINGS.get(change.kind)
    return spelled(change) if spelled else None


def say(function: str, *arguments: str) -> str:
    """A call of `safely`."""
    return f"safely.{function}({', '.join(arguments)})"


def named(change: Change, part: str) -> str:
    """A name that the SQL says, as Python."""
    return quoted(bare(change.parts[part])) if part in change.parts else "…"


def quoted(text: str) -> str:
    """A string as the house writes it."""
    return repr(text) if set('"\\') & set(text) else f'"{text}"'


def columns(text: str | None) -> str:
    """What stands between commas as a list of Python; an expression stays SQL."""
    if text is None:
        return "[…]"
    said = (
        quoted(bare(item)) if re.fullmatch(r'[\w$]+|"[^"]+"', item) else f"sa.text({quoted(item)})"
        for item in items(text)
    )
    return f"[{', '.join(said)}]"


def create_index(change: Change) -> str:
    """With its columns and expressions, UNIQUE and WHERE."""
    what, behind = enclosed(change.parts["rest"])
    options = ["unique=True"] if "unique" in change.parts else []
    if where := re.search(r"\bWHERE (.*)", behind, re.IGNORECASE):
        options.append(f"postgresql_where=sa.text({quoted(where[1])})")
    return say(
        "create_index", named(change, "name"), named(change, "table"), columns(what), *options
    )


def create_foreign_key(change: Change) -> str:
    """With its columns, and what happens when a row goes that is referred to."""
    actions = re.findall(ACTION, change.parts.get("rest", ""), re.IGNORECASE)
    return say(
        "create_foreign_key",
        *(named(change, part) for part in ("name", "table", "referent")),
        columns(change.parts["columns"]),
        columns(change.parts.get("remote")),
        *(f'on{event.lower()}="{what.upper()}"' for event, what in actions),
    )


def create_check(change: Change) -> str:
    """With its condition."""
    condition, _ = enclosed(change.parts["rest"])
    name, table = named(change, "name"), named(change, "table")
    return say("create_check_constraint", name, table, quoted(condition))


def create_unique(change: Change) -> str:
    """With its columns."""
    name, table = named(change, "name"), named(change, "table")
    return say("create_unique_constraint", name, table, columns(change.parts["columns"]))


def backfill(change: Change) -> str:
    """Without a WHERE, the rows to change are those that aren't yet as they will be."""
    assignments = change.parts.get("assignments", "")
    if (
        "within" in change.parts or parted(assignments, r"FROM\b")[1]
    ):  # it takes what it needs by subqueries
        return say("backfill", named(change, "table"), "…", "where=…") + RESUMED
    column, _, value = (text.strip() for text in items(assignments)[0].partition("="))
    given = change.parts.get("where")
    where = given or f"{column} IS DISTINCT FROM {value}"
    where = where.replace(f"{change.parts['table']}.", "")  # which SQLAlchemy writes before columns
    spelled = say("backfill", named(change, "table"), quoted(assignments), f"where={quoted(where)}")
    ends = not overwrites(change) if given else words(column).isdisjoint(words(value))
    return spelled if ends else spelled + RESUMED


def overwrites(change: Change) -> bool:
    """Whether an UPDATE loses values: all but those that are filled in where there was none."""
    where = change.parts.get("where", "")
    assigned = [item.partition("=")[0] for item in items(change.parts.get("assignments", ""))]
    return not assigned or not all(
        re.search(rf"\b{re.escape(column.strip())} IS NULL\b", where, re.IGNORECASE)
        for column in assigned
    )


def type_of(definition: str) -> str:
    """The type with which a definition begins, as SQLAlchemy's; `…` for rarer ones."""
    name, _ = parted(definition, ENDS_TYPE)
    return TYPES.get(name.lower(), "…")


def add_column(change: Change) -> str:
    """With its default, and NOT NULL."""
    definition = change.parts["definition"]
    default, (_, required) = default_of(definition), parted(definition, r"NOT NULL\b")
    options = [f", server_default=sa.text({quoted(default)})"] if default else []
    return add_column_only(change, *options, ", nullable=False" if required else "")


def add_column_only(change: Change, *options: str) -> str:
    """The column and its type."""
    kind = type_of(change.parts["definition"])
    column = f"sa.Column({named(change, 'column')}, {kind}{''.join(options)})"
    return say("add_column", named(change, "table"), column)


def add_required(change: Change) -> str:
    """In two steps, with a value for those that have none."""
    return f"{add_column_only(change)}\n{of_change(change._replace(kind='not null'))}"


def add_checked(change: Change) -> str:
    """A column, and then its CHECK."""
    table, column = (bare(change.parts[part]) for part in ("table", "column"))
    _, rule = parted(change.parts["definition"], r"CHECK\b")
    condition, _ = enclosed(rule[len("CHECK") :].strip())
    names = (f"ck_{table}_{column}", table, condition)
    return f"{add_column_only(change)}\n{say('create_check_constraint', *map(quoted, names))}"


def default_of(definition: str) -> str:
    """The default in a column's definition; empty if it has none."""
    _, default = parted(definition, r"DEFAULT\b")
    return parted(default.partition(" ")[2], ENDS_TYPE)[0]


def fill_in(change: Change, add: str) -> str:
    """How a column gets a default that differs from row to row; `add`: how it is added without."""
    default = default_of(change.parts["definition"])
    if not default:  # computed, or an identity
        default = "…"
    table, column = named(change, "table"), named(change, "column")
    name = bare(change.parts["column"])
    return "\n".join(
        (
            add,
            say("change_default", table, column, f"sa.text({quoted(default)})"),
            say("backfill", table, quoted(f"{name} = {default}"), f'where="{name} IS NULL"'),
        )
    )


def simply(function: str, *parts: str) -> Callable[[Change], str]:
    """The spelling of what takes names only."""
    return lambda change: say(function, *(named(change, part) for part in parts))


SPELLINGS: dict[str, Callable[[Change], str]] = {
    "add column": add_column,
    "check": create_check,
    "create index": create_index,
    "default": lambda change: (
        simply("change_default", "table", "column")(change)[:-1]
        + f", sa.text({quoted(change.parts['default'])}))"
    ),
    "drop column": simply("drop_column", "table", "column"),
    "drop constraint": simply("drop_constraint", "name", "table"),
    "drop index": simply("drop_index", "name", "table"),
    "drop table": simply("drop_table", "table"),
    "foreign key": create_foreign_key,
    "no default": lambda change: (
        simply("change_default", "table", "column")(change)[:-1] + ", None)"
    ),
    "not null": lambda change: simply("require_column", "table", "column")(change)[:-1] + FILL,
    "null": simply("allow_null", "table", "column"),
    "rename column": simply("rename_column", "table", "column", "new"),
    "truncate": simply("drop_table", "table"),
    "type": lambda change: (
        simply("change_type", "table", "column")(change)[:-1]
        + f", {type_of(change.parts['type'])})"
    ),
    "unique": create_unique,
    "update": backfill,
}
