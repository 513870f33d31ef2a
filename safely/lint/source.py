"""A revision file as source code: the operations that it calls, and on which lines."""

import ast
import copy
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alembic.operations import Operations

import safely
from safely.lint.parsing import UNKNOWN

OP, SAFELY = "alembic.op", "safely"
BATCH = f"{OP}.batch_alter_table"
EXECUTING = {"execute", "exec_driver_sql", "scalar", "scalars"}  # methods that run SQL
NAME_FIRST = {  # operations whose first argument is the name of a constraint or index
    "create_check_constraint",
    "create_exclude_constraint",
    "create_foreign_key",
    "create_index",
    "create_primary_key",
    "create_unique_constraint",
    "drop_constraint",
    "drop_index",
    "rename_constraint",
    "rename_index",
}
TABLE_KEYWORDS = ("table_name", "source_table", "old_table_name")
VALUE_KEYWORDS = {"comment", "fill", "name", "server_default", "type_"}  # they name no column


ONLY_DOWN = "downgrade's"  # the `function` of calls in functions that only the downgrade runs


class Call(NamedTuple):
    """A call of an operation, or of a method that runs SQL."""

    owner: str
    """`op`; `batch` for what op.batch_alter_table() yields; `safely`; or `sql` for a connection."""
    name: str
    node: ast.Call
    function: str
    """The function of the file in which the call stands."""
    batch_table: ast.expr | None = None
    batch: ast.Call | None = None
    """The call of op.batch_alter_table() to which it belongs."""

    @property
    def lines(self) -> tuple[int, int]:
        """The first and the last line of the call."""
        return self.node.lineno, self.node.end_lineno or self.node.lineno

    @property
    def up(self) -> bool:
        """Whether the upgrade may run it, and not only the downgrade."""
        return self.function not in ("downgrade", ONLY_DOWN)

    def arguments(self) -> list[ast.expr]:
        """Return the required arguments in their order, and the other positional ones.

        It makes no difference whether they are named; the table of a batch is among them.
        """
        arguments = list(self.node.args)
        if self.batch_table is not None:
            arguments.insert(1 if self.name in NAME_FIRST else 0, self.batch_table)
        named = {keyword.arg: keyword.value for keyword in self.node.keywords}
        for name in self.required_parameters()[len(arguments) :]:
            if name not in named:
                break
            arguments.append(named[name])
        return arguments

    def options(self) -> list[ast.keyword]:
        """Return the named arguments that aren't required."""
        required = self.required_parameters()
        return [keyword for keyword in self.node.keywords if keyword.arg not in required]

    def required_parameters(self) -> list[str]:
        """Return the names of the parameters that every call of the operation sets."""
        function = getattr(safely if self.owner == "safely" else Operations, self.name, None)
        if self.owner == "sql" or function is None:
            return []
        return [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "self"
            and parameter.default is parameter.empty
            and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]


class Source(NamedTuple):
    """A parsed revision file."""

    path: Path
    lines: list[str]
    tree: ast.Module
    assignments: dict[str, ast.expr]
    """The value of each name that is assigned exactly once."""
    calls: list[Call]
    names: dict[str, str] = {}  # noqa: RUF012  # nobody changes it
    """The full name, such as `alembic.op`, of each imported name."""

    @property
    def batches(self) -> set[str]:
        """The names of what op.batch_alter_table() yields."""
        return {
            call.node.func.value.id
            for call in self.calls
            if call.owner == "batch"
            and isinstance(call.node.func, ast.Attribute)
            and isinstance(call.node.func.value, ast.Name)
        }

    def function(self, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return the function of this name; None if the file has none."""
        return next(
            (
                node
                for node in self.tree.body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
            ),
            None,
        )

    def first_line(self, *, up: bool) -> tuple[int, int]:
        """Return the first line of upgrade or downgrade, for findings about no line in it."""
        function = self.function("upgrade" if up else "downgrade")
        return (1, 1) if function is None else (function.lineno, function.lineno)

    def reached(self, *, up: bool) -> set[str]:
        """Return the names of the functions that upgrade or downgrade may run, with its own."""
        bodies = {name_of(node): node for node in self.tree.body}
        names, added = set(), {"upgrade" if up else "downgrade"}
        while added:
            names |= added
            mentioned = {
                node.id
                for name in added & bodies.keys()
                for node in ast.walk(bodies[name])
                if isinstance(node, ast.Name)
            }
            added = mentioned & bodies.keys() - names
        return names

    def call_at(self, line: int) -> Call | None:
        """Return the call that begins on a line, else the innermost call around the line."""
        for call in self.calls:
            if call.lines[0] == line:
                return call
        around = [call for call in self.calls if call.lines[0] <= line <= call.lines[1]]
        return min(around, key=lambda call: call.lines[1] - call.lines[0], default=None)

    def lines_at(self, line: int) -> tuple[int, int]:
        """Return the lines of the call that begins on a line, or stands around it."""
        call = self.call_at(line)
        return (line, line) if call is None else call.lines

    def text(self, node: ast.expr | None) -> str | None:
        """Return a string that stands in the file as a literal, in sa.text() or behind a name.

        None for any other expression.
        """
        node = self.resolve(node)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("text"):
            node = self.resolve(node.args[0])
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return None

    def resolve(self, node: ast.expr | None) -> ast.expr | None:
        """Return the value of a name that is assigned exactly once; any other node as it is."""
        return self.assignments.get(node.id, node) if isinstance(node, ast.Name) else node

    def strings(self, node: ast.AST, visited: frozenset[str] = frozenset()) -> Iterator[str]:
        """Yield the strings in an expression that may name columns, also those behind names."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in self.assignments and node.id not in visited:
            yield from self.strings(self.assignments[node.id], visited | {node.id})
        elif not (isinstance(node, ast.keyword) and node.arg in VALUE_KEYWORDS):
            for child in ast.iter_child_nodes(node):
                yield from self.strings(child, visited)

    def table(self, call: Call) -> str | None:
        """Return the name of an operation's table; None if none is there, or can be told."""
        if call.name in ("create_enum", "change_enum", "drop_enum"):
            return None
        keywords = {keyword.arg: keyword.value for keyword in call.node.keywords}
        for keyword in TABLE_KEYWORDS:
            if keyword in keywords:
                return self.text(keywords[keyword])
        arguments, at = call.arguments(), 1 if call.name in NAME_FIRST else 0
        return self.text(arguments[at]) if len(arguments) > at else None


def read(path: Path) -> Source:
    """Parse a revision file; the caller has loaded it before, so its syntax is right."""
    text = read_text(path)
    tree = ast.parse(text)
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                values.setdefault(target.id, []).append(node.value)
    assignments = {name: nodes[0] for name, nodes in values.items() if len(nodes) == 1}
    calls = sorted(operations(tree), key=lambda call: (call.lines[0], call.node.col_offset))
    source = Source(path, text.splitlines(), tree, assignments, calls, imported_names(tree))
    only_down = source.reached(up=False) - source.reached(up=True) - {"downgrade"}
    return source._replace(
        calls=[
            call._replace(function=ONLY_DOWN) if call.function in only_down else call
            for call in calls
        ]
    )


def read_text(path: Path) -> str:
    """Return the text of a Python file, in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()


def operations(tree: ast.Module) -> Iterator[Call]:
    """Yield every call of an operation, whatever the file calls its module."""
    full_names = imported_names(tree)
    for function in tree.body:
        name = name_of(function)
        if name and any(full_name(node, full_names) == BATCH for node in expressions(function)):
            full_names[name] = BATCH  # a function that opens a batch
    for function in tree.body:
        yield from operations_in(function, name_of(function), full_names, {})


def name_of(statement: ast.stmt) -> str:
    """Return the name of a function, a class or a lambda; empty for another statement."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return str(getattr(statement, "name", ""))


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions in a piece of code."""
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.expr))


def operations_in(
    node: ast.AST, function: str, full_names: dict[str, str], batches: dict[str, ast.Call]
) -> Iterator[Call]:
    """Yield the calls of operations in a piece of code; `batches` has the call of each batch."""
    if isinstance(node, ast.Call):
        owner, _, name = full_name(node.func, full_names).rpartition(".")
        if owner == OP or owner.startswith(SAFELY):
            yield Call("op" if owner == OP else "safely", name, node, function)
        elif owner in batches:
            batch = batches[owner]
            yield Call("batch", name, node, function, table_of_batch(batch), batch)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in EXECUTING:
            yield Call("sql", node.func.attr, node, function)
    if isinstance(node, ast.With):
        batches = batches | batch_calls(node, full_names)
    for child in ast.iter_child_nodes(node):
        yield from operations_in(child, function, full_names, batches)


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Return the full name, such as `alembic.op`, of each imported name."""
    full_names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            full_names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Import):
            full_names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return full_names


def full_name(node: ast.expr, full_names: dict[str, str]) -> str:
    """Return the full dotted name of an expression; empty if it is no name."""
    if isinstance(node, ast.Name):
        return full_names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, full_names)}.{node.attr}"
    return ""


def batch_calls(node: ast.With, full_names: dict[str, str]) -> dict[str, ast.Call]:
    """Return the call behind each name in `with op.batch_alter_table(table) as name`."""
    calls = {}
    for item in node.items:
        call, name = item.context_expr, item.optional_vars
        if (
            isinstance(call, ast.Call)
            and full_name(call.func, full_names) == BATCH
            and isinstance(name, ast.Name)
            and table_of_batch(call) is not None
        ):
            calls[name.id] = call
    return calls


def table_of_batch(call: ast.Call) -> ast.expr | None:
    """Return the table that op.batch_alter_table() is called with."""
    named = (keyword.value for keyword in call.keywords if keyword.arg == "table_name")
    return call.args[0] if call.args else next(named, None)


def with_values(call: Call, values: Mapping[str, Any], source: Source) -> Call:
    """Return a call in which values stand for local variables, such as that of a loop.

    A name that is assigned once in the file stays.
    """
    replacing = Replacing(
        {name: value for name, value in values.items() if name not in source.assignments}
    )
    if not replacing.mentions(call.node) and not (
        call.batch_table and replacing.mentions(call.batch_table)
    ):
        return call
    node = copy.deepcopy(call.node)
    node.args = [replacing.visit(part) for part in node.args]
    node.keywords = [replacing.visit(part) for part in node.keywords]
    batch_table = call.batch_table and replacing.visit(copy.deepcopy(call.batch_table))
    return call._replace(node=node, batch_table=batch_table)


class Replacing(ast.NodeTransformer):
    """Puts strings, numbers and lists of them into the place of what variables stand for."""

    SIMPLE = (
        ast.Name,
        ast.Attribute,
        ast.Subscript,
        ast.Constant,
        ast.JoinedStr,
        ast.FormattedValue,
        ast.BinOp,
        ast.operator,
        ast.expr_context,
    )

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def mentions(self, node: ast.AST) -> bool:
        """Return whether code mentions one of the variables."""
        return any(
            isinstance(inner, ast.Name) and inner.id in self.values for inner in ast.walk(node)
        )

    def visit(self, node: ast.AST) -> Any:
        """Return an expression of variables as its value; else replace those inside it."""
        is_simple = all(isinstance(inner, self.SIMPLE) for inner in ast.walk(node))
        if isinstance(node, ast.expr) and is_simple and self.mentions(node):
            try:
                code = compile(ast.Expression(node), "", "eval")
                value = eval(code, {**self.values})  # noqa: S307  # an argument of the body's
                written = ast.parse(repr(plain(value)), mode="eval").body
            except Exception:  # noqa: BLE001  # a name of the module's, a value without a literal
                return node
            return ast.copy_location(written, node)
        return super().visit(node)


def plain(value: Any) -> Any:
    """Return a string, a number, or a list or tuple of them; raise ValueError for other values."""
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, str) and UNKNOWN not in value:
        return str(value)  # SQLAlchemy's names are strings of a class of their own
    if isinstance(value, int):
        return value
    raise ValueError(value)


def comments(source: Source) -> Iterator[tuple[int, str, bool]]:
    """Yield the line and the text of each comment, and whether the line has nothing else."""
    code = io.StringIO("\n".join(source.lines) + "\n")
    for token in tokenize.generate_tokens(code.readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, not token.line[: token.start[1]].strip()
