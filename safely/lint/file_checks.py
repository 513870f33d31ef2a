"""What no SQL shows: what the file imports, calls, and leaves out."""

import ast
from collections.abc import Iterator

from safely.lint import plain_sql, spelling
from safely.lint.findings import Finding, found
from safely.lint.source import Call, Source
from safely.lint.statements import Change
from safely.lint.ways import raw

FOREIGN = "service"
LOADERS = ("import_module", "__import__")
WAY_BACK = (
    'def downgrade() -> None:\n    safely.nothing_to_undo("what stays as it is, and does no harm")'
)


def check(source: Source, made: set[str], *, idle: bool) -> Iterator[Finding]:
    """Everything that is checked here; `idle`: the way down printed nothing."""
    yield from imports(source)
    yield from empty_downgrade(source, idle=idle)
    for call in source.calls:
        table = source.table(call) or "the table"
        if safe := spelling.of_call(source, call):
            yield found("raw-op", call.lines, safe, **raw(call, table, new=table in made))
        elif call.by == "op" and call.name in ("get_bind", "run_async"):
            yield found("unseen", call.lines, stopped="")
        elif call.by == "safely" and call.name == "backfill" and not call.up:
            yield from overwritten(source, call)


def imports(source: Source) -> Iterator[Finding]:
    """The service's code, by any of the ways to import it."""
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith(LOADERS):
            names = [source.text(node.args[0]) or ""]
        for name in names:
            if name.partition(".")[0] == FOREIGN and isinstance(node, ast.stmt | ast.expr):
                lines = (node.lineno, node.end_lineno or node.lineno)
                yield found("imports-service", lines, COPY, module=name)


COPY = (
    "# what the revision needs of it, written down here as it is today:\n"
    'users = sa.table("users", sa.column("id"), sa.column("full_name"))'
)


def empty_downgrade(source: Source, *, idle: bool) -> Iterator[Finding]:
    """A way down that is missing, does nothing and doesn't say so, or only raises."""
    down = source.function("downgrade")
    if down is None:
        yield found("empty-downgrade", source.head(up=True), WAY_BACK)
    elif all(says_nothing(statement) for statement in down.body) or idle:
        yield found("empty-downgrade", (down.lineno, down.end_lineno or down.lineno), WAY_BACK)


def says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement undoes nothing."""
    if isinstance(statement, ast.Return):
        return statement.value is None
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Raise)


def overwritten(source: Source, call: Call) -> Iterator[Finding]:
    """A backfill on the way down, which writes over what was there."""
    keywords = {keyword.arg: keyword.value for keyword in call.node.keywords}
    given = dict(zip(("table", "assignments"), call.arguments(), strict=False)) | keywords
    parts = {str(name): text for name, node in given.items() if (text := source.text(node))}
    if plain_sql.overwrites(Change("update", parts)):
        what = parts.get("table", "rows")
        yield found("lossy-downgrade", call.lines, plain_sql.LEFT_ALONE, what=what)
