"""Checks of a revision file that no SQL allows: imports, calls, and a missing downgrade."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from alembic.script import ScriptDirectory

from safely.lint.directions import Direction
from safely.lint.findings import Finding
from safely.lint.source import Call, Source
from safely.lint.spellings import calls, plain_sql
from safely.lint.spellings.rows import overwrites
from safely.lint.statement_kinds import ROW_EXCLUSIVE
from safely.lint.statements import changes

ALLOWED_IMPORTS = {"alembic", "safely", "sqlalchemy"} | sys.stdlib_module_names
LIBRARIES = {"site-packages", "dist-packages"}  # directories of installed packages
IMPORT_FUNCTIONS = ("import_module", "__import__")
UNDOES_NOTHING = 'safely.nothing_to_undo("what stays as it is, and does no harm")'
COPY = (
    "# a copy of what the revision needs, as it is today, such as\n"
    'customers = sa.table("customers", sa.column("id"), sa.column("full_name"))'
)


def check(
    upgrade: Direction, downgrade: Direction, script: ScriptDirectory, *, is_undone: bool
) -> Iterator[Finding]:
    """Yield the findings in the file of a revision.

    `is_undone`: the downgrade printed something, or the upgrade printed nothing. A revision that
    does nothing, such as a merge, has nothing to undo.
    """
    source = upgrade.source
    yield from imports(source, Path(script.dir))
    if not is_empty(source):
        yield from empty_downgrade(upgrade, is_undone=is_undone)
    for call in source.calls:
        direction = upgrade if call.up else downgrade
        if call.owner != "safely" and calls.is_known(call) and (safe := direction.spelled(call)):
            names = {"code": f"op.{call.name}", "lock": direction.lock_of_call(call)}
            yield Finding.of("raw-op", call.lines, safe, **names)._replace(up=call.up)
        if call.owner == "safely" and call.name == "backfill" and not call.up:
            yield from lossy_backfill(source, call)


def imports(source: Source, script_directory: Path) -> Iterator[Finding]:
    """Yield a finding for each import of the application's code."""
    for node in ast.walk(source.tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [str(node.module)]
        elif (
            isinstance(node, ast.Call)
            and node.args
            and ast.unparse(node.func).endswith(IMPORT_FUNCTIONS)
        ):
            modules = [source.text(node.args[0]) or ""]
        for module in modules:
            if isinstance(node, ast.stmt | ast.expr) and is_application(module, script_directory):
                lines = (node.lineno, node.end_lineno or node.lineno)
                yield Finding.of("imports-application", lines, COPY, module=module)


def is_application(module: str, script_directory: Path) -> bool:
    """Return whether a module is the application's code.

    That is a module below the current directory or the parent of the script directory, unless it is
    installed as a library or lies in the script directory itself.
    """
    package, _, rest = module.partition(".")
    if not package or package in ALLOWED_IMPORTS:
        return False
    try:
        spec = find_spec(package)
    except ValueError:  # the module was made without a file
        return False
    if spec is None:
        return False
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return any(
        LIBRARIES.isdisjoint(path.parts)
        and not path.is_relative_to(script_directory.resolve())
        and any(
            path.is_relative_to(root.resolve()) for root in (Path.cwd(), script_directory.parent)
        )
        for path in (Path(place, *rest.split(".")).resolve() for place in places)
    )


def empty_downgrade(direction: Direction, *, is_undone: bool) -> Iterator[Finding]:
    """Yield a finding if the downgrade is missing, does nothing silently, or only raises."""
    source = direction.source
    downgrade = source.function("downgrade")
    body = direction.way_down() or [UNDOES_NOTHING]
    safe = "\n".join(["def downgrade() -> None:", *(f"    {line}" for line in body)])
    if downgrade is None:
        yield Finding.of("empty-downgrade", source.first_line(up=True), safe)
    elif not is_undone or all(does_nothing(statement) for statement in downgrade.body):
        lines = (downgrade.lineno, downgrade.end_lineno or downgrade.lineno)
        yield Finding.of("empty-downgrade", lines, safe)


def is_empty(source: Source) -> bool:
    """Return whether neither upgrade nor downgrade does anything."""
    functions = [source.function(name) for name in ("upgrade", "downgrade")]
    bodies = [function.body for function in functions if function is not None]
    return all(does_nothing(statement) for body in bodies for statement in body)


def does_nothing(statement: ast.stmt) -> bool:
    """Return whether a statement changes nothing: pass, return, raise or a docstring."""
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Raise)


def lossy_backfill(source: Source, call: Call) -> Iterator[Finding]:
    """Yield a finding if a backfill in the downgrade overwrites values."""
    keywords = {keyword.arg: keyword.value for keyword in call.node.keywords}
    parameters = dict(zip(("table", "assignments"), call.arguments(), strict=False)) | keywords
    parts = {str(name): text for name, node in parameters.items() if (text := source.text(node))}
    sql = f"UPDATE t SET {parts.get('assignments')} WHERE {parts.get('where')}"
    if all(map(overwrites, changes(sql))):
        what = f"values of {parts.get('table', 'the table')}"
        finding = Finding.of("lossy-downgrade", call.lines, plain_sql.NOTHING_TO_UNDO, what=what)
        yield finding._replace(locks=((parts.get("table", ""), ROW_EXCLUSIVE),), up=False)
