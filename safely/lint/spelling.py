"""The safe spelling of a call of `op`, with the arguments of the call.

`…` stands for what only the author knows.
"""

import ast
import inspect
import io
import re
import tokenize

import sqlalchemy as sa
from alembic import op

import safely
from safely.lint.plain_sql import require_column
from safely.lint.source import Call, Source

# the operations of `op` for which `safely` has its own, unless Alembic's is as safe
COUNTERPARTS = {name for name in safely.__all__ if hasattr(op, name)} - {
    "create_table_comment",
    "drop_table_comment",
    "f",
}
SUPERFLUOUS = {  # keywords whose work `safely` does by itself
    "if_exists",
    "if_not_exists",
    "postgresql_concurrently",
    "postgresql_not_valid",
}
LATER_STEPS = ("server_default", "nullable", "unique", "index", "primary_key")


def of_call(source: Source, call: Call, metadata: sa.MetaData) -> str | None:
    """Return the code to write instead of a call of `op`; None where plain Alembic is fine."""
    if call.owner not in ("op", "batch"):
        return None
    if call.name == "alter_column":
        return alter_column(call)
    if call.name not in COUNTERPARTS:
        return None
    nodes = call.arguments()
    arguments = [code(node) for node in nodes]
    if is_check(call) and nodes:
        arguments[:1] = [check_name(source, call, nodes[0], metadata)]
    arguments += keywords(call)
    spelling = f"safely.{call.name}({', '.join(arguments)})"
    return re.sub(r"\b\w+\.f\(", "safely.f(", spelling)  # op.f() and that of a batch


def is_check(call: Call) -> bool:
    """Return whether a call adds or drops a CHECK."""
    if call.name != "drop_constraint":
        return call.name == "create_check_constraint"
    types = [keyword.value for keyword in call.options() if keyword.arg == "type_"]
    return "'check'" in map(ast.unparse, [*call.arguments()[2:], *types])


def check_name(source: Source, call: Call, name: ast.expr, metadata: sa.MetaData) -> str:
    """Return the name of a CHECK as the database has it, which is what `safely` takes.

    Alembic's operations apply the naming convention of the metadata to a name without op.f().
    """
    table = source.table(call)
    if table is None or not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return code(name)
    check = sa.CheckConstraint("true", name=name.value)
    # attaching the CHECK to a table applies the convention, if there is one for CHECKs
    sa.Table(table, sa.MetaData(naming_convention=metadata.naming_convention), check)
    return f'"{check.name}"'


def keywords(call: Call) -> list[str]:
    """Return the keyword arguments that the function of `safely` takes as well."""
    parameters = inspect.signature(getattr(safely, call.name)).parameters.keys() - SUPERFLUOUS
    return [
        f"{keyword.arg}={code(keyword.value)}"
        for keyword in call.options()
        if keyword.arg in parameters
    ]


def alter_column(call: Call) -> str | None:
    """Return one line for each change that op.alter_column makes; None if it makes none."""
    if len(call.arguments()) < 2:  # noqa: PLR2004  # table, column
        return None  # a starred argument hides them
    table, column_name = (code(node) for node in call.arguments()[:2])
    column = f"{table}, {column_name}"
    values = {keyword.arg: keyword.value for keyword in call.node.keywords}
    lines = []
    if "type_" in values:
        using = values.get("postgresql_using")
        conversion = "" if using is None else f", using={code(using)}"
        lines.append(f"safely.change_type({column}, {code(values['type_'])}{conversion})")
    if "server_default" in values:
        lines.append(f"safely.change_default({column}, {code(values['server_default'])})")
    if nullable := values.get("nullable"):
        not_null = isinstance(nullable, ast.Constant) and nullable.value is False
        lines.append(
            require_column(table, column_name) if not_null else f"safely.allow_null({column})"
        )
    if "comment" in values:
        lines.append(f"safely.change_comment({column}, {code(values['comment'])})")
    if "new_column_name" in values:
        lines.append(f"safely.rename_column({column}, {code(values['new_column_name'])})")
    return "\n".join(lines) or None


def add_plain_column(source: Source, call: Call) -> str | None:
    """Return a call that adds the column without what later steps add; None for other calls."""
    if call.name != "add_column" or len(call.arguments()) < 2:  # noqa: PLR2004  # table, column
        return None
    table, column = call.arguments()[:2]
    column = source.resolve(column) or column
    if not isinstance(column, ast.Call):
        return None
    options = [keyword for keyword in column.keywords if keyword.arg not in LATER_STEPS]
    parts = [part for part in column.args if "ForeignKey" not in ast.unparse(part)]
    return f"safely.add_column({code(table)}, {code(ast.Call(column.func, parts, options))})"


def code(node: ast.expr) -> str:
    """Return an expression as source code, in double quotes where they need no escape."""
    text = ast.unparse(node)
    tokens = [
        token._replace(string=f'"{token.string[1:-1]}"')
        if token.string.startswith("'") and not set('"\\') & set(token.string)
        else token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]
    return tokenize.untokenize(tokens).strip()
