"""Run the statements of a body one by one, both branches of each condition, past each error.

A body that runs shows one of its ways: the others, and what comes after an error, would stay
unseen. Here an expression whose value only a database knows is UNKNOWN, and written as `…`.
"""

import ast
import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from safely.lint import stand_in
from safely.lint.rendering import ERRORS, Recorder, simple_values
from safely.lint.source import Source

MOST_ROUNDS = 200  # of a loop
DEEPEST = 10  # calls of functions in the file, one inside the other
RUN_ASYNC = "run_async"
Functions = Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef]


class Unknown(str):
    """A value that only a database knows: any name, any object, any row."""

    __slots__ = ()

    def __getattr__(self, name: str) -> "Unknown":
        """Return another unknown value, unless Python asks for a protocol."""
        if name.startswith("__"):
            raise AttributeError(name)
        return UNKNOWN

    def __call__(self, *_: Any, **__: Any) -> "Unknown":
        """Return another unknown value."""
        return UNKNOWN

    def __getitem__(self, _: Any) -> "Unknown":
        """Return another unknown value."""
        return UNKNOWN

    def __iter__(self) -> Iterator[str]:
        """Yield one unknown value."""
        yield UNKNOWN

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


UNKNOWN = Unknown("…")


class Ended(NamedTuple):
    """The statement with which a block ended before its last one."""

    by: type[ast.stmt]


class Failed(NamedTuple):
    """A call that can't be told even with unknown arguments."""

    error: BaseException
    line: int
    is_statement: bool
    """Whether it stands there for its effect."""


class WithoutAwait(ast.NodeTransformer):
    """Turn asynchronous code into the synchronous code with the same calls."""

    def visit_Await(self, node: ast.Await) -> ast.expr:  # ast's own spelling
        """Return the expression that is awaited."""
        value: ast.expr = self.visit(node.value)
        return value


class Interpreter:
    """Runs the statements of a function in a namespace of its own."""

    def __init__(self, source: Source, module: Any, recorder: Recorder) -> None:
        self.path = str(module.__file__)
        self.module = vars(module)
        self.recorder = recorder
        self.functions: Functions = {
            node.name: node
            for node in source.tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        self.visited: set[int] = set()
        """The lines of the statements to which it came."""
        self.errors: list[Failed] = []
        """Calls for which nothing could be put into the place of what is unknown."""
        self.depth = 0

    def run(self, name: str) -> None:
        """Run the function of this name, if the file has it."""
        if name in self.functions:
            self.function(self.functions[name], {})

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, arguments: Mapping[str, Any]
    ) -> None:
        """Run the body of a function."""
        if self.depth == DEEPEST:
            return
        self.depth += 1
        names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        body = WithoutAwait().visit(copy.deepcopy(node)).body
        self.block(body, dict.fromkeys((name.arg for name in names), UNKNOWN) | dict(arguments))
        self.depth -= 1

    def block(self, statements: Iterable[ast.stmt], names: dict[str, Any]) -> Ended | None:
        """Run statements; return how the block ended, if not by its end."""
        for statement in statements:
            self.visited.update(header_lines(statement))
            if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
                if isinstance(statement, ast.Return) and statement.value is not None:
                    self.expression(statement.value, names)
                return Ended(type(statement))
            if ended := self.statement(statement, names):
                return ended
        return None

    def statement(  # noqa: C901, PLR0912  # a case for each kind of statement
        self, statement: ast.stmt, names: dict[str, Any]
    ) -> Ended | None:
        """Run a statement; return how it ended the block in which it stands, if it did."""
        match statement:
            case ast.If():
                return self.condition(statement, names)
            case ast.For() | ast.AsyncFor():
                return self.loop(statement, names)
            case ast.While():
                self.expression(statement.test, names)
                self.block(statement.body, names)
            case ast.With() | ast.AsyncWith():
                return self.with_(statement, names)
            case ast.Try():
                for handler in statement.handlers:
                    if handler.name:
                        names[handler.name] = UNKNOWN
                parts = [statement.body, *(handler.body for handler in statement.handlers)]
                for part in (*parts, statement.orelse, statement.finalbody):
                    self.block(part, names)
            case ast.Match():
                self.match(statement, names)
            case ast.Expr():
                self.expression(statement.value, names, is_statement=True)
            case ast.Assign() | ast.AnnAssign() if statement.value is not None:
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                value = self.expression(statement.value, names)
                for target in targets:
                    self.bind(target, value, names)
            case _:
                self.execute(ast.Module([statement], []), names)
        return None

    def condition(self, statement: ast.If, names: dict[str, Any]) -> Ended | None:
        """Run both branches of a condition; only one where the file itself decides."""
        decided = self.decided(statement.test, names)
        if decided is not None:
            return self.block(statement.body if decided else statement.orelse, names)
        for branch in (statement.body, statement.orelse):
            self.block(branch, names)
        return None

    def decided(self, test: ast.expr, names: dict[str, Any]) -> bool | None:
        """Return the value of a test if the file or the dialect decides it; None if it doesn't."""
        here = self.truth(test, names)
        if here is None:
            return None
        if not any(isinstance(node, ast.Call | ast.Attribute) for node in ast.walk(test)):
            return here
        connection = self.recorder.connection
        self.recorder.use(stand_in.connection(self.recorder.executed, stand_in.OTHER_DIALECT))
        elsewhere = {
            name: self.recorder.connection if value is connection else value
            for name, value in names.items()
        }
        try:
            return here if self.truth(test, elsewhere) is not here else None
        finally:
            self.recorder.use(connection)

    def truth(self, test: ast.expr, names: dict[str, Any]) -> bool | None:
        """Return the value of a test; None if it depends on something unknown."""
        mentioned = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
        if any(is_unknown(names[name]) for name in mentioned & names.keys()):
            return None
        try:
            value = self.evaluate(test, names)
            return None if is_unknown(value) else bool(value)
        except ERRORS:  # whatever it raises, the value is unknown
            return None

    def loop(self, statement: ast.For | ast.AsyncFor, names: dict[str, Any]) -> Ended | None:
        """Run the body of a loop for each item; once, with an unknown one, if there is none."""
        values = self.expression(statement.iter, names)
        try:
            items = list(values)[:MOST_ROUNDS]
        except ERRORS:  # a result without rows, a cursor
            items = []
        for item in items or [UNKNOWN]:
            self.bind(statement.target, item, names)
            ended = self.block(statement.body, names)
            if ended and ended.by is ast.Break:
                break
            if ended and ended.by in (ast.Return, ast.Raise):
                return ended
        return self.block(statement.orelse, names)

    def with_(self, statement: ast.With | ast.AsyncWith, names: dict[str, Any]) -> Ended | None:
        """Run a block in its context, such as a batch."""
        stack = ExitStack()
        for item in statement.items:
            manager = self.expression(item.context_expr, names)
            try:
                value = stack.enter_context(manager)
            except ERRORS:  # an asynchronous one, or one that needs a server
                value = UNKNOWN
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, names)
        ended = self.block(statement.body, names)
        try:
            stack.close()
        except ERRORS as error:  # a batch with something unknown in it
            self.errors.append(Failed(error, statement.lineno, is_statement=True))
        return ended

    def match(self, statement: ast.Match, names: dict[str, Any]) -> None:
        """Run each case that may match."""
        subject = self.expression(statement.subject, names)
        for case in statement.cases:
            pattern = case.pattern
            values = pattern.patterns if isinstance(pattern, ast.MatchOr) else [pattern]
            constants = [
                value.value.value
                for value in values
                if isinstance(value, ast.MatchValue) and isinstance(value.value, ast.Constant)
            ]
            if is_unknown(subject) or len(constants) < len(values):
                self.block(case.body, names)
            elif subject in constants:
                self.block(case.body, names)
                break

    def expression(
        self, node: ast.expr, names: dict[str, Any], *, is_statement: bool = False
    ) -> Any:
        """Return the value of an expression; UNKNOWN if it can't be told.

        `is_statement`: it stands there for its effect.
        """
        if isinstance(node, ast.Call):
            if called := self.called(node, names):
                function, arguments = called
                self.function(function, arguments)
                return UNKNOWN
            if is_sleep(node):
                return UNKNOWN
        try:
            return self.evaluate(node, names)
        except ERRORS as error:  # see below
            if not isinstance(node, ast.Call):
                return UNKNOWN
            before = len(self.recorder.statements)
            try:
                return self.call(node, names)
            except ERRORS:  # not even with unknown arguments
                if len(self.recorder.statements) == before:
                    self.errors.append(Failed(error, node.lineno, is_statement))
                return UNKNOWN

    def called(
        self, node: ast.Call, names: dict[str, Any]
    ) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, dict[str, Any]] | None:
        """Return the function of the file that a call runs for its effect, and its arguments."""
        given, first = list(node.args), {}
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if isinstance(node.func, ast.Attribute) and node.func.attr == RUN_ASYNC and given:
            head = given.pop(0)
            name = head.id if isinstance(head, ast.Name) else ""
            first = {"": self.recorder.connection}
        function = self.functions.get(name)
        if function is None or not any(isinstance(inner, ast.Expr) for inner in ast.walk(function)):
            return None
        if name in names or any(isinstance(part, ast.Starred) for part in given):
            return None
        positional = [*first.values(), *(self.tolerant(part, names) for part in given)]
        named = {
            keyword.arg: self.tolerant(keyword.value, names)
            for keyword in node.keywords
            if keyword.arg
        }
        try:
            bound = inspect.signature(self.module[name]).bind(*positional, **named)
        except TypeError:
            return None
        bound.apply_defaults()
        return function, dict(bound.arguments)

    def call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        """Return the value of a call in which each argument that can't be told is UNKNOWN."""
        function = self.evaluate(node.func, names)
        arguments = [
            self.tolerant(part, names) for part in node.args if not isinstance(part, ast.Starred)
        ]
        options = {
            keyword.arg: self.tolerant(keyword.value, names)
            for keyword in node.keywords
            if keyword.arg
        }
        # called from the line of the file, which the recorder looks for in the call stack
        place = ast.copy_location(ast.Expression(CALL), node)
        located = ast.fix_missing_locations(relocated(place, node.lineno))
        code = compile(located, self.path, "eval")
        self.recorder.values = simple_values(names)
        return eval(code, {"f": function, "a": arguments, "k": options})  # noqa: S307  # see above

    def tolerant(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """Return the value of an argument; UNKNOWN if it can't be told."""
        try:
            return self.evaluate(node, names)
        except ERRORS:  # it may be a column whose type can't be told
            if isinstance(node, ast.Call):
                try:
                    return self.call(node, names)
                except ERRORS:  # nor with unknown arguments
                    return column(node)
            return UNKNOWN

    def evaluate(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """Return the value of an expression; raise what it raises."""
        self.recorder.values = simple_values(names)
        code = compile(ast.fix_missing_locations(ast.Expression(node)), self.path, "eval")
        return eval(code, {**self.module, **names})  # noqa: S307  # a piece of the body

    def execute(self, module: ast.Module, names: dict[str, Any]) -> None:
        """Execute a statement such as an import, and keep the names that it binds."""
        namespace = {**self.module, **names}
        try:
            exec(compile(module, self.path, "exec"), namespace)  # noqa: S102  # likewise
        except ERRORS:  # the names that it binds stay unknown
            return
        names |= {
            name: value
            for name, value in namespace.items()
            if self.module.get(name, names) is not value
        }

    def bind(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        """Give a value to a name, or its parts to several."""
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            try:
                values = list(value)
            except TypeError:
                values = []
            if len(values) != len(target.elts):
                values = [UNKNOWN] * len(target.elts)
            for part, inner in zip(target.elts, values, strict=True):
                self.bind(part, inner, names)


CALL = ast.parse("f(*a, **k)", mode="eval").body


def relocated(node: ast.AST, line: int) -> Any:
    """Return a copy of the code, all of it on one line."""
    node = copy.deepcopy(node)
    for inner in ast.walk(node):
        if hasattr(inner, "lineno") or isinstance(inner, ast.expr):
            inner.lineno = inner.end_lineno = line  # type: ignore[attr-defined]  # see hasattr
            inner.col_offset = inner.end_col_offset = 0  # type: ignore[attr-defined]  # likewise
    return node


def header_lines(statement: ast.stmt) -> Iterator[int]:
    """Yield the lines of a statement without those of the blocks in it."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.lineno
        return
    blocks = [
        inner
        for field in ("body", "orelse", "finalbody", "handlers", "cases")
        for inner in getattr(statement, field, [])
    ]
    inner_lines = {
        line
        for block in blocks
        if isinstance(first := block, ast.stmt | ast.ExceptHandler)
        for line in range(first.lineno, (first.end_lineno or first.lineno) + 1)
    }
    last = statement.end_lineno or statement.lineno
    yield from (line for line in range(statement.lineno, last + 1) if line not in inner_lines)


def is_unknown(value: Any) -> bool:
    """Return whether a value, or an item of it, can't be told."""
    if isinstance(value, str):
        return str(UNKNOWN) in str(value)
    if isinstance(value, dict):
        return any(map(is_unknown, (*value, *value.values())))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(is_unknown, value))
    return False


def is_sleep(node: ast.Call) -> bool:
    """Return whether a call only waits."""
    return ast.unparse(node.func).endswith("sleep")


def column(node: ast.Call) -> Any:
    """Return a column with the name that stands in the call of Column, and UNKNOWN for others."""
    if ast.unparse(node.func).rpartition(".")[2] == "Column" and node.args:
        name = node.args[0]
        text = name.value if isinstance(name, ast.Constant) else UNKNOWN
        return sa.Column(str(text), sa.Text())
    return UNKNOWN
