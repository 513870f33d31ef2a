"""Run the statements of a body one by one, both branches of each condition, past each error.

A body that runs shows one of its ways: the others, and what comes after an error, would stay
unseen. Here an expression whose value only a database knows is UNKNOWN, and written as `…`.
"""

import ast
import copy
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import sqlalchemy as sa
from alembic import op

from safely.lint import parsing, stand_in
from safely.lint.rendering import ERRORS, SAFELY, Place, Recorder
from safely.lint.source import read_text

MOST_ROUNDS = 200  # of a loop
DEEPEST = 10  # calls of functions in the file, one inside the other
RUN_ASYNC = "run_async"
ORM_WRITES = {
    "add", "add_all", "bulk_insert_mappings", "bulk_save_objects", "bulk_update_mappings", "delete",
    "merge",
}  # fmt: skip
LIBRARIES = ("alembic.", "sqlalchemy.")
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Unknown(str):
    """A value that only a database knows: any name, any object, any row."""

    __slots__ = ()

    def __getattr__(self, name: str) -> "Unknown":
        """Return another unknown value, unless Python or SQLAlchemy asks for a protocol."""
        if name.startswith("_"):
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


UNKNOWN = Unknown(parsing.UNKNOWN)


class Ended(NamedTuple):
    """The statement with which a block ended before its last one."""

    by: type[ast.stmt]


class Failed(NamedTuple):
    """A call that can't be told even with unknown arguments."""

    error: BaseException
    line: int
    has_effect: bool
    """Whether it may write, as a function of the application may that stands there by itself."""


class WithoutAwait(ast.NodeTransformer):
    """Turn asynchronous code into the synchronous code with the same calls."""

    def visit_Await(self, node: ast.Await) -> ast.expr:  # ast's own spelling
        """Return the expression that is awaited."""
        value: ast.expr = self.visit(node.value)
        return value


class Interpreter:
    """Runs the statements of a function in a namespace of its own."""

    def __init__(self, tree: ast.Module, module: Any, recorder: Recorder, depth: int = 0) -> None:
        self.path = str(module.__file__)
        self.module = vars(module)
        self.recorder = recorder
        self.functions: dict[str, Function] = {
            node.name: node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        self.has_session = any(
            isinstance(node, ast.Name | ast.Attribute) and "session" in ast.unparse(node).lower()
            for node in ast.walk(tree)
        )
        self.visited: set[int] = set()
        """The lines of the statements to which it came."""
        self.errors: list[Failed] = []
        """Calls for which nothing could be put into the place of what is unknown."""
        self.depth = depth
        self.local: dict[Any, tuple[Function, dict[str, Any]]] = {}
        """The functions inside of functions, with the names around them."""

    def run(self, name: str) -> None:
        """Run the function of this name, if the file has it."""
        if name in self.functions:
            self.function(self.functions[name], {})

    def function(self, node: Function, arguments: Mapping[str, Any]) -> None:
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
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    self.local[names.get(statement.name)] = statement, names
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
        elsewhere = (self.elsewhere(test, names, other) for other in stand_in.OTHER_DIALECTS)
        return here if any(truth is not here for truth in elsewhere) else None

    def elsewhere(
        self, test: ast.expr, names: Mapping[str, Any], dialect: sa.Dialect
    ) -> bool | None:
        """Return the value of a test on a database of another dialect."""
        connection = self.recorder.connection
        self.recorder.use(stand_in.connection(self.recorder.executed, dialect))
        try:
            return self.truth(
                test,
                {
                    name: self.recorder.connection if value is connection else value
                    for name, value in names.items()
                },
            )
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
            items = list(islice(values, MOST_ROUNDS))
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
            self.errors.append(Failed(error, statement.lineno, has_effect=True))
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
        if isinstance(node, ast.Call) and (is_sleep(node) or self.calls(node, names)):
            return UNKNOWN
        try:
            return self.evaluate(node, names)
        except ERRORS as error:
            if not isinstance(node, ast.Call) or isinstance(error, SystemExit):
                return UNKNOWN
            before = len(self.recorder.statements)
            try:
                return self.call(node, names)
            except ERRORS:  # not even with unknown arguments
                if len(self.recorder.statements) == before:
                    has_effect = is_statement and (
                        not self.is_of_library(node.func, names) or self.is_of_session(node.func)
                    )
                    self.errors.append(Failed(error, node.lineno, has_effect))
                return UNKNOWN

    def calls(self, node: ast.Call, names: dict[str, Any]) -> bool:
        """Run the function of the application that a call runs for its effect; return if it is one.

        What a function of another module emits belongs to the line of the call.
        """
        given, first = list(node.args), []
        head = node.func
        if isinstance(head, ast.Attribute) and head.attr == RUN_ASYNC and given:
            head, first = given.pop(0), [self.recorder.connection]
        function = self.tolerant(head, names)
        if not inspect.isfunction(function) or function.__module__.startswith(SAFELY):
            return False  # an operation of `safely` runs as such, and is trusted
        inner: Interpreter | None = self
        body, around = self.local.get(function, (None, {}))
        if body is None:
            if function.__code__.co_filename != self.path:
                inner = of_module(sys.modules.get(function.__module__), self.recorder, self.depth)
            body = inner.functions.get(function.__name__) if inner else None
        if not inner or not body or not any(isinstance(part, ast.Expr) for part in ast.walk(body)):
            return False
        arguments = [
            self.tolerant(part, names) for part in given if not isinstance(part, ast.Starred)
        ]
        options = {
            keyword.arg: self.tolerant(keyword.value, names)
            for keyword in node.keywords
            if keyword.arg
        }
        try:
            bound = inspect.signature(function).bind_partial(*first, *arguments, **options)
        except TypeError:
            return False
        bound.apply_defaults()
        if inner is self:
            self.function(body, around | bound.arguments)
            return True
        queued = self.recorder.queued
        self.recorder.queued = queued or Place(node.lineno, from_safely=False, values={})
        inner.function(body, bound.arguments)
        self.recorder.queued = queued
        self.errors += [failed._replace(line=node.lineno) for failed in inner.errors]
        return True

    def is_of_library(self, node: ast.expr, names: dict[str, Any]) -> bool:
        """Return whether a function is one of SQLAlchemy's or Alembic's."""
        module = str(getattr(self.tolerant(node, names), "__module__", ""))
        return module.startswith(LIBRARIES)

    def is_of_session(self, node: ast.expr) -> bool:
        """Return whether a method tells a session of SQLAlchemy's ORM what to write."""
        return self.has_session and isinstance(node, ast.Attribute) and node.attr in ORM_WRITES

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
        self.recorder.values = dict(names)
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
        self.recorder.values = dict(names)
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
        elif isinstance(target, ast.Attribute) and self.has_session:
            if is_unknown(self.tolerant(target.value, names)):  # a row that a session will write
                error = stand_in.NoAnswer("no database has the row")
                self.errors.append(Failed(error, target.lineno, has_effect=True))
        elif isinstance(target, ast.Tuple | ast.List):
            try:
                values = list(value)
            except TypeError:
                values = []
            if len(values) != len(target.elts):
                values = [UNKNOWN] * len(target.elts)
            for part, inner in zip(target.elts, values, strict=True):
                self.bind(part, inner, names)


def of_module(module: Any, recorder: Recorder, depth: int) -> Interpreter | None:
    """Return an interpreter of an application's module that uses `op`; None for another."""
    if module is None or op not in vars(module).values():
        return None
    path = Path(module.__file__)
    is_library = f"{module.__name__}.".startswith((*LIBRARIES, "safely."))
    if is_library or "site-packages" in path.parts:
        return None
    return Interpreter(ast.parse(read_text(path)), module, recorder, depth)


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
        for field in ("body", "orelse", "finalbody", "handlers")
        for inner in getattr(statement, field, [])
    ]
    blocks += [inner for case in getattr(statement, "cases", []) for inner in case.body]
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
