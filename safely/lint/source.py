"""A revision file as it is written: the operations that it calls, and where."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OP, SAFELY = "alembic.op", "safely"
EXECUTING = {"execute", "exec_driver_sql", "scalar", "scalars"}
NAME_FIRST = {  # what these are called with comes before their table
    "create_check_constraint",
    "create_exclude_constraint",
    "create_foreign_key",
    "create_index",
    "create_primary_key",
    "create_unique_constraint",
    "drop_constraint",
    "drop_index",
}
TABLE_KEYWORDS = ("table_name", "source_table")
VALUES = {"comment", "fill", "name", "server_default", "type_"}  # keywords that name no column


class Call(NamedTuple):
    """A call of `op`, of what `op.batch_alter_table` gives, of `safely`, or that runs SQL."""

    by: str  # "op", "batch", "safely", or "sql" for what runs it on a connection
    name: str
    node: ast.Call
    function: str  # within which it stands
    batch: ast.expr | None = None  # the table of the batch

    @property
    def lines(self) -> tuple[int, int]:
        """The first and the last."""
        return self.node.lineno, self.node.end_lineno or self.node.lineno

    @property
    def up(self) -> bool:
        """Whether it belongs to the way up; what both ways use does."""
        return self.function != "downgrade"

    def arguments(self) -> list[ast.expr]:
        """Those by position, the table of a batch among them as `op` would have it."""
        given = list(self.node.args)
        if self.batch is not None:
            given.insert(1 if self.name in NAME_FIRST else 0, self.batch)
        return given


class Source(NamedTuple):
    """A file, parsed."""

    path: Path
    lines: list[str]
    tree: ast.Module
    assigned: dict[str, ast.expr]  # what a name stands for that is assigned once
    calls: list[Call]

    def function(self, name: str) -> ast.FunctionDef | None:
        """One of the file's functions."""
        return next(
            (
                node
                for node in self.tree.body
                if isinstance(node, ast.FunctionDef) and node.name == name
            ),
            None,
        )

    def head(self, *, up: bool) -> tuple[int, int]:
        """Where what belongs to no line is told: at the function's first."""
        function = self.function("upgrade" if up else "downgrade")
        return (1, 1) if function is None else (function.lineno, function.lineno)

    def call_at(self, line: int) -> Call | None:
        """The operation whose call begins there, or else the innermost around."""
        for call in self.calls:
            if call.lines[0] == line:
                return call
        around = [call for call in self.calls if call.lines[0] <= line <= call.lines[1]]
        return min(around, key=lambda call: call.lines[1] - call.lines[0], default=None)

    def text(self, node: ast.expr | None) -> str | None:
        """A string that stands there, as SQL or plainly, or that the name there stands for."""
        if isinstance(node, ast.Name):
            node = self.assigned.get(node.id, node)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("text"):
            node = node.args[0]
        if isinstance(node, ast.Name):
            node = self.assigned.get(node.id, node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return None

    def strings(self, node: ast.AST, known: frozenset[str] = frozenset()) -> Iterator[str]:
        """The texts in an expression that may name columns, and in what its names stand for."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in self.assigned and node.id not in known:
            yield from self.strings(self.assigned[node.id], known | {node.id})
        elif not (isinstance(node, ast.keyword) and node.arg in VALUES):
            for child in ast.iter_child_nodes(node):
                yield from self.strings(child, known)

    def table(self, call: Call) -> str | None:
        """The table that an operation is about; None if that can't be read."""
        given = {keyword.arg: keyword.value for keyword in call.node.keywords}
        for keyword in TABLE_KEYWORDS:
            if keyword in given:
                return self.text(given[keyword])
        arguments, at = call.arguments(), 1 if call.name in NAME_FIRST else 0
        return self.text(arguments[at]) if len(arguments) > at else None


def read(path: Path) -> Source:
    """Parse a file; it was loaded already, so it can be."""
    text = read_text(path)
    tree = ast.parse(text)
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                values.setdefault(target.id, []).append(node.value)
    assigned = {name: found[0] for name, found in values.items() if len(found) == 1}
    calls = sorted(operations(tree), key=lambda call: (call.lines[0], call.node.col_offset))
    return Source(path, text.splitlines(), tree, assigned, calls)


def read_text(path: Path) -> str:
    """Return the text of a Python file, in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()


def operations(tree: ast.Module) -> Iterator[Call]:
    """Every operation that the file calls, by whatever name it has imported it."""
    names = imported(tree)
    for function in tree.body:
        within = getattr(function, "name", "")
        batches = batch_tables(function, names)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            owner, _, name = dotted(node.func, names).rpartition(".")
            if owner == OP or owner.startswith(SAFELY):
                yield Call("op" if owner == OP else "safely", name, node, within)
            elif owner in batches:
                yield Call("batch", name, node, within, batches[owner])
            elif isinstance(node.func, ast.Attribute) and node.func.attr in EXECUTING:
                yield Call("sql", node.func.attr, node, within)


def imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """A name with its dots, as its module has it; empty for other expressions."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return ""


def batch_tables(within: ast.AST, names: dict[str, str]) -> dict[str, ast.expr]:
    """The names that `with op.batch_alter_table(…) as …` gives, with their tables."""
    found = {}
    for node in ast.walk(within):
        if isinstance(node, ast.With):
            for item in node.items:
                call, name = item.context_expr, item.optional_vars
                if (
                    isinstance(call, ast.Call)
                    and dotted(call.func, names) == f"{OP}.batch_alter_table"
                    and isinstance(name, ast.Name)
                    and call.args
                ):
                    found[name.id] = call.args[0]
    return found


def comments(source: Source) -> Iterator[tuple[int, str, bool]]:
    """Each comment: its line, its text, and whether it stands alone there."""
    code = io.StringIO("\n".join(source.lines) + "\n")
    for token in tokenize.generate_tokens(code.readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, not token.line[: token.start[1]].strip()
