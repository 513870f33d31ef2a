"""The safe spelling of a call of `op`, with what it is called with.

`…` stands where only the author knows what belongs there.
"""

import ast
import inspect
import io
import tokenize

import sqlalchemy as sa
from alembic import op

import safely
from safely.lint.plain_sql import FILL
from safely.lint.source import Call, Source

# what goes by the same name in both, and is another thing in each
COUNTERPARTS = {
    name
    for name in safely.__all__
    if hasattr(op, name) and getattr(op, name) is not getattr(safely, name)
}
NEEDLESS = {
    "if_exists",
    "if_not_exists",
    "postgresql_concurrently",
    "postgresql_not_valid",
    "schema",
}
STEPS = ("server_default", "nullable", "unique", "index", "primary_key")


def of_call(source: Source, call: Call, metadata: sa.MetaData) -> str | None:
    """What to write in the place of a call of `op`; None where plain Alembic is fine."""
    if call.by not in ("op", "batch"):
        return None
    if call.name == "alter_column":
        return altered(call)
    if call.name not in COUNTERPARTS:
        return None
    given = call.arguments()
    arguments = [code(argument) for argument in given]
    if call.name.endswith(("check_constraint", "drop_constraint")) and is_check(call):
        arguments[:1] = [check_name(source, call, given[0], metadata)]
    arguments += keywords(call)
    return f"safely.{call.name}({', '.join(arguments)})".replace("op.f(", "safely.f(")


def is_check(call: Call) -> bool:
    """Whether it is about a CHECK, to whose name Alembic gives the house's beginning."""
    kind = [keyword.value for keyword in call.node.keywords if keyword.arg == "type_"]
    return call.name == "create_check_constraint" or any(ast.unparse(k) == "'check'" for k in kind)


def check_name(source: Source, call: Call, name: ast.expr, metadata: sa.MetaData) -> str:
    """Return the name of a CHECK as the database has it, which is what `safely` takes."""
    table = source.table(call)
    if table is None or not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return code(name)  # op.f(…) says that it is the whole name
    check = sa.CheckConstraint("true", name=name.value)
    # SQLAlchemy applies the naming convention, if there is one for CHECK
    sa.Table(table, sa.MetaData(naming_convention=metadata.naming_convention), check)
    return f'"{check.name}"'


def keywords(call: Call) -> list[str]:
    """The keyword arguments that the safe one takes as well."""
    taken = inspect.signature(getattr(safely, call.name)).parameters
    others = any(p.kind is p.VAR_KEYWORD and p.name != "_" for p in taken.values())
    return [
        f"{keyword.arg}={code(keyword.value)}"
        for keyword in call.node.keywords
        if keyword.arg in taken or (others and keyword.arg not in NEEDLESS)
    ]


def altered(call: Call) -> str | None:
    """One line for each thing that `op.alter_column` changes."""
    column = ", ".join(map(code, call.arguments()[:2]))
    given = {keyword.arg: keyword.value for keyword in call.node.keywords}
    lines = []
    if "type_" in given:
        lines.append(f"safely.change_type({column}, {code(given['type_'])})")
    if "server_default" in given:
        lines.append(f"safely.change_default({column}, {code(given['server_default'])})")
    if nullable := given.get("nullable"):
        required = isinstance(nullable, ast.Constant) and nullable.value is False
        lines.append(
            f"safely.require_column({column}{FILL}" if required else f"safely.allow_null({column})"
        )
    if "new_column_name" in given:
        lines.append(f"safely.rename_column({column}, {code(given['new_column_name'])})")
    return "\n".join(lines) or None


def column_only(source: Source, call: Call) -> str | None:
    """A call that adds a column, without what comes in steps of its own; None for other calls."""
    if call.name != "add_column" or len(call.arguments()) < 2:  # noqa: PLR2004  # table, column
        return None
    table, column = call.arguments()[:2]
    if isinstance(column, ast.Name):
        column = source.assigned.get(column.id, column)
    if not isinstance(column, ast.Call):
        return None
    kept = [word for word in column.keywords if word.arg not in STEPS]
    parts = [part for part in column.args if "ForeignKey" not in ast.unparse(part)]
    return f"safely.add_column({code(table)}, {code(ast.Call(column.func, parts, kept))})"


def code(node: ast.expr) -> str:
    """An expression as the house writes it: in double quotes where they fit."""
    text = ast.unparse(node)
    tokens = [
        token._replace(string=f'"{token.string[1:-1]}"')
        if token.string.startswith("'") and not set('"\\') & set(token.string)
        else token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]
    return tokenize.untokenize(tokens).strip()
