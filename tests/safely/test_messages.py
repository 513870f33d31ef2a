"""The message of `alembic revision -m`: whatever it says, the file can be loaded and says it."""

import ast
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safely.autogenerate import as_docstring
from tests.chain import HEAD, NEXT, later
from tests.commands import run_alembic, run_migrations

MESSAGES = (
    r"paths such as C:\new\users\N{x}",
    'three """ quotes, and """" four',
    'ends with a quote "',
    "ends with a backslash \\",
    "first line\nsecond line",
    "${message} % <%def> ## ü 😀 :name",
)


@given(st.text(max_size=40))
@example('"')
@example('"""""')
@example('\\"""\\')
@example("\r\n\x00\x0c")
@example("\udcff")
def test_a_docstring_says_what_it_was_made_of(message: str) -> None:
    for template in ('"""{}."""', '"""{}"""', '"""{}\n\nRevision ID: x\n"""'):
        [statement] = ast.parse(template.format(as_docstring(message))).body
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Constant)
        docstring = str(statement.value.value)
        assert docstring == template.strip('"').format(message.encode("utf-8", "replace").decode())


@pytest.mark.only("sqlite")
def test_a_revision_with_any_message_is_written_and_runs(url: str, clone: Path) -> None:
    for steps, message in enumerate(MESSAGES, start=1):
        run_alembic(url, "revision", "-m", message, cwd=clone)
        [path] = (clone / "migrations/versions").glob(f"{later(steps)}_*.py")
        source = path.read_text(encoding="utf-8")
        module = ast.parse(source)
        assert (ast.get_docstring(module, clean=False) or "").startswith(f"{message}.\n\n")
        lines = [line for line in source.splitlines() if "raise NotImpl" not in line]
        body = '    safely.nothing_to_undo("a test")'
        text = "\n".join(lines).replace("() -> None:", f"() -> None:\n{body}")
        path.write_text(text, encoding="utf-8")
    run_alembic(url, "upgrade", f"{HEAD}:head", "--sql", cwd=clone)
    run_alembic(url, "upgrade", "head", cwd=clone)
    log = run_migrations(url, "log", cwd=clone).stdout
    for message in MESSAGES:
        assert " ".join(message.split())[:50] in log
    assert NEXT in run_alembic(url, "history", cwd=clone).stdout
