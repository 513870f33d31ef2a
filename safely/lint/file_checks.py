"""What no SQL shows: what the file imports, calls, and leaves out."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from alembic.script import ScriptDirectory

from safely.lint import plain_sql, spelling
from safely.lint.findings import Finding, found
from safely.lint.source import Call, Source
from safely.lint.statements import Change
from safely.lint.ways import Way, raw

NO_APPLICATION = {"alembic", "safely", "sqlalchemy"} | sys.stdlib_module_names
LIBRARIES = {"site-packages", "dist-packages"}  # where Python keeps what is installed
LOADERS = ("import_module", "__import__")
WAY_BACK = (
    'def downgrade() -> None:\n    safely.nothing_to_undo("what stays as it is, and does no harm")'
)


def check(way: Way, script: ScriptDirectory, *, merge: bool, idle: bool) -> Iterator[Finding]:
    """Yield the findings in the file of a revision, whose way up is given.

    `merge`: the revision merges branches; `idle`: the way down printed nothing.
    """
    source = way.source
    yield from imports(source, Path(script.dir))
    if not (merge and is_empty(source)):
        yield from empty_downgrade(source, idle=idle)
    for call in source.calls:
        table = source.table(call) or "the table"
        if safe := spelling.of_call(source, call, way.metadata):
            yield found("raw-op", call.lines, safe, **raw(call, table, new=table in way.made))
        elif call.by == "op" and call.name in ("get_bind", "run_async"):
            yield found("unseen", call.lines, stopped="")
        elif call.by == "safely" and call.name == "backfill" and not call.up:
            yield from overwritten(source, call)


def imports(source: Source, scripts: Path) -> Iterator[Finding]:
    """Yield a finding for each import of the application's code, however it is spelled."""
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith(LOADERS):
            names = [source.text(node.args[0]) or ""]
        for name in names:
            if isinstance(node, ast.stmt | ast.expr) and is_application(name, scripts):
                lines = (node.lineno, node.end_lineno or node.lineno)
                yield found("imports-service", lines, COPY, module=name)


def is_application(module: str, scripts: Path) -> bool:
    """Return whether a module belongs to the project, but not to its directory of revisions.

    A module belongs to the project if its file is below the current directory or the parent of
    the script directory, and nobody has installed it as a library.
    """
    package, _, rest = module.partition(".")
    if not package or package in NO_APPLICATION:
        return False
    try:
        spec = find_spec(package)
    except ValueError:  # Python started from this file, which is no module that others import
        return False
    if spec is None:
        return False
    folders = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return any(
        LIBRARIES.isdisjoint(path.parts)
        and not path.is_relative_to(scripts.resolve())
        and any(path.is_relative_to(root.resolve()) for root in (Path.cwd(), scripts.parent))
        for path in (Path(folder, *rest.split(".")).resolve() for folder in folders)
    )


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


def is_empty(source: Source) -> bool:
    """Return whether neither upgrade nor downgrade does anything."""
    bodies = [source.function(name) for name in ("upgrade", "downgrade")]
    return all(says_nothing(statement) for body in bodies if body for statement in body.body)


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
