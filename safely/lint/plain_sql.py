"""The safe spelling of plain SQL, which is also what Alembic prints for its own operations.

`…` stands for what the SQL doesn't tell.
"""

import re
from collections.abc import Callable

from safely.lint.sql_text import identifiers, items, parenthesized, split_before, unqualified
from safely.lint.statements import Change

RESUMED = "  # where: must be false for a row once it is changed, else it is changed again"
NOTHING_TO_UNDO = 'safely.nothing_to_undo("why the rows stay as they are")'
ACTION = r"ON (DELETE|UPDATE) (CASCADE|RESTRICT|SET NULL|SET DEFAULT)"
IDENTITY = 'sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity())'
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
AFTER_TYPE = (
    r"(?:DEFAULT|NOT NULL|NULL|CHECK|UNIQUE|PRIMARY|REFERENCES|GENERATED|COLLATE|CONSTRAINT)\b"
)


def of_change(change: Change) -> str | None:
    """Return the code to write instead of the SQL; None if `safely` has nothing better."""
    spelling = SPELLINGS.get(change.kind)
    return spelling(change) if spelling else None


def safely_call(function: str, *arguments: str) -> str:
    """Return a call of `safely`."""
    return f"safely.{function}({', '.join(arguments)})"


def name_literal(change: Change, part: str) -> str:
    """Return a name from the SQL as a Python string; `…` if it is missing."""
    return string_literal(unqualified(change.parts[part])) if part in change.parts else "…"


def string_literal(text: str) -> str:
    """Return a Python string, in double quotes where they need no escape."""
    return repr(text) if set('"\\') & set(text) else f'"{text}"'


def text_literal(sql: str) -> str:
    """Return SQL as sa.text()."""
    return f"sa.text({string_literal(sql)})"


def column_list(text: str | None) -> str:
    """Return columns as a Python list; an expression becomes sa.text()."""
    if text is None:
        return "[…]"
    literals = (
        string_literal(unqualified(item))
        if re.fullmatch(r'[\w$]+|"[^"]+"', item)
        else text_literal(item)
        for item in items(text)
    )
    return f"[{', '.join(literals)}]"


def create_index(change: Change) -> str:
    """Return the spelling of CREATE INDEX, with its columns, UNIQUE and WHERE."""
    options = ["unique=True"] if "unique" in change.parts else []
    if where := change.parts.get("where"):
        options.append(f"postgresql_where={text_literal(where)}")
    name, table = name_literal(change, "name"), name_literal(change, "table")
    columns = column_list(change.parts.get("columns"))
    return safely_call("create_index", name, table, columns, *options)


def create_foreign_key(change: Change) -> str:
    """Return the spelling of ADD FOREIGN KEY, with its ON DELETE and ON UPDATE."""
    actions = re.findall(ACTION, change.parts.get("rest", ""), re.IGNORECASE)
    return safely_call(
        "create_foreign_key",
        *(name_literal(change, part) for part in ("name", "table", "referent")),
        column_list(change.parts["columns"]),
        column_list(change.parts.get("remote")),
        *(f'on{event.lower()}="{action.upper()}"' for event, action in actions),
    )


def create_check(change: Change) -> str:
    """Return the spelling of ADD CHECK."""
    name, table = name_literal(change, "name"), name_literal(change, "table")
    condition = string_literal(change.parts["condition"])
    return safely_call("create_check_constraint", name, table, condition)


def create_unique(change: Change) -> str:
    """Return the spelling of ADD UNIQUE."""
    name, table = name_literal(change, "name"), name_literal(change, "table")
    columns = column_list(change.parts["columns"])
    return safely_call("create_unique_constraint", name, table, columns)


def backfill(change: Change) -> str:
    """Return the spelling of UPDATE.

    Without a WHERE, it changes the rows that don't have the new value yet.
    """
    table, assignments = name_literal(change, "table"), change.parts.get("assignments", "")
    if "cte" in change.parts or split_before(assignments, r"FROM\b")[1]:
        # the author must turn the other tables into subqueries
        return safely_call("backfill", table, "…", "where=…") + RESUMED
    column, _, value = (text.strip() for text in items(assignments)[0].partition("="))
    condition = change.parts.get("where")
    where = condition or f"{column} IS DISTINCT FROM {value}"
    where = where.replace(f"{change.parts['table']}.", "")  # SQLAlchemy writes it before columns
    assigned = string_literal(assignments)
    spelling = safely_call("backfill", table, assigned, f"where={string_literal(where)}")
    if condition:
        becomes_false = not overwrites(change)
    else:
        becomes_false = identifiers(column).isdisjoint(identifiers(value))
    return spelling if becomes_false else spelling + RESUMED


def overwrites(change: Change) -> bool:
    """Return whether an UPDATE overwrites values; where it only replaces NULLs, none is lost."""
    where = change.parts.get("where", "")
    columns = [item.partition("=")[0] for item in items(change.parts.get("assignments", ""))]
    return not columns or not all(
        re.search(rf"\b{re.escape(column.strip())} IS NULL\b", where, re.IGNORECASE)
        for column in columns
    )


def type_of(definition: str) -> str:
    """Return the SQLAlchemy type for a column definition; `…` for a rare one."""
    name, _ = split_before(definition, AFTER_TYPE)
    return TYPES.get(name.lower(), "…")


def add_column(change: Change) -> str:
    """Return the spelling of ADD COLUMN, with its default and NOT NULL."""
    definition = change.parts["definition"]
    default, (_, not_null) = default_of(definition), split_before(definition, r"NOT NULL\b")
    options = [f", server_default={text_literal(default)}"] if default else []
    return add_plain_column(change, *options, ", nullable=False" if not_null else "")


def add_plain_column(change: Change, *options: str) -> str:
    """Return the spelling of ADD COLUMN with the type only, and with these options."""
    type_ = type_of(change.parts["definition"])
    column = f"sa.Column({name_literal(change, 'column')}, {type_}{''.join(options)})"
    return safely_call("add_column", name_literal(change, "table"), column)


def add_required_column(change: Change) -> str:
    """Return the spelling of ADD COLUMN NOT NULL without a default: in two steps."""
    return f"{add_plain_column(change)}\n{of_change(change._replace(kind='not null'))}"


def add_checked_column(change: Change) -> str:
    """Return the spelling of ADD COLUMN CHECK: in two steps."""
    table, column = (unqualified(change.parts[part]) for part in ("table", "column"))
    _, check = split_before(change.parts["definition"], r"CHECK\b")
    condition, _ = parenthesized(check[len("CHECK") :].strip())
    arguments = map(string_literal, (f"ck_{table}_{column}", table, condition))
    return f"{add_plain_column(change)}\n{safely_call('create_check_constraint', *arguments)}"


def default_of(definition: str) -> str:
    """Return the default in a column definition; empty if it has none."""
    _, default = split_before(definition, r"DEFAULT\b")
    return split_before(default.partition(" ")[2], AFTER_TYPE)[0]


def add_volatile_column(change: Change, add_column: str) -> str:
    """Return the spelling of ADD COLUMN with a default that differs from row to row.

    `add_column` is the code that adds the column without its default.
    """
    default = default_of(change.parts["definition"]) or "…"  # `…`: generated, or an identity
    table, column = name_literal(change, "table"), name_literal(change, "column")
    name = unqualified(change.parts["column"])
    assignment, where = string_literal(f"{name} = {default}"), f'where="{name} IS NULL"'
    return "\n".join(
        (
            add_column,
            safely_call("change_default", table, column, text_literal(default)),
            safely_call("backfill", table, assignment, where),
        )
    )


def require_column(table: str, column: str) -> str:
    """Return the spelling of SET NOT NULL, for two Python expressions."""
    call = safely_call("require_column", table, column, "fill=…")
    return f"{call}  # fill: the value for existing rows, and for builds that write none"


def change_enum(change: Change) -> str:
    """Return the spelling of ADD VALUE and RENAME VALUE."""
    label, *old = (
        string_literal(change.parts[part][1:-1].replace("''", "'"))
        for part in ("label", "old")
        if part in change.parts
    )
    options = [f"renamed={{{former}: {label}}}" for former in old]
    call = safely_call("change_enum", name_literal(change, "name"), "…", label, *options)
    return f"{call}  # all labels, in their order"


def with_names(function: str, *parts: str) -> Callable[[Change], str]:
    """Return a function that spells a change as a call with these parts as its arguments."""
    return lambda change: safely_call(function, *(name_literal(change, part) for part in parts))


def of_column(function: str, last_argument: Callable[[Change], str]) -> Callable[[Change], str]:
    """Return a function that spells a change as a call with table, column and one more argument."""
    return lambda change: safely_call(
        function,
        name_literal(change, "table"),
        name_literal(change, "column"),
        last_argument(change),
    )


SPELLINGS: dict[str, Callable[[Change], str]] = {
    "add column": add_column,
    "add label": change_enum,
    "check": create_check,
    "create index": create_index,
    "default": of_column("change_default", lambda change: text_literal(change.parts["default"])),
    "drop column": with_names("drop_column", "table", "column"),
    "drop constraint": with_names("drop_constraint", "name", "table"),
    "drop index": with_names("drop_index", "name", "table"),
    "drop table": with_names("drop_table", "table"),
    "drop type": with_names("drop_enum", "name"),
    "foreign key": create_foreign_key,
    "no default": of_column("change_default", lambda _: "None"),
    "not null": lambda change: require_column(
        name_literal(change, "table"), name_literal(change, "column")
    ),
    "null": with_names("allow_null", "table", "column"),
    "rename label": change_enum,
    "rename column": with_names("rename_column", "table", "column", "new"),
    "rename constraint": with_names("rename_constraint", "name", "table", "new"),
    "rename table": with_names("rename_table", "table", "new"),
    "truncate": with_names("drop_table", "table"),
    "type": of_column("change_type", lambda change: type_of(change.parts["type"])),
    "unique": create_unique,
    "update": backfill,
}
