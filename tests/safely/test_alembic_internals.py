"""The private names of Alembic that safely uses, and the globals that it does not change."""

import subprocess
import sys

from safely import alembic_internals
from tests.paths import ROOT

GLOBALS = """\
import alembic.autogenerate.render, alembic.ddl.impl, alembic.operations.base, sys
def state():
    return (
        dict(alembic.ddl.impl._impls),
        {str(key): value for key, value in alembic.autogenerate.render.renderers._registry.items()},
        dict(alembic.operations.base.Operations._to_impl._registry),
        sorted(vars(alembic.operations.base.Operations)),
    )
before = state()
"""
IMPORT_ALL = """\
import importlib, pkgutil, safely
for module in pkgutil.walk_packages(safely.__path__, "safely."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert state() == before
"""


def test_alembic_has_all_that_safely_uses_of_it() -> None:
    assert alembic_internals.missing() == []


def test_a_name_that_alembic_lacks_is_told_in_a_sentence() -> None:
    used = (
        ("alembic.runtime.migration", "NoSuchClass", ""),
        ("alembic.runtime.migration", "MigrationContext", "_no_such_attribute"),
    )
    assert alembic_internals.missing(used) == [
        "alembic.runtime.migration has no NoSuchClass any more",
        "alembic.runtime.migration.MigrationContext has no _no_such_attribute any more",
    ]


def test_private_names_of_alembic_stand_in_one_file() -> None:
    files = {
        path for path in (ROOT / "safely").rglob("*.py") if "alembic" in path.read_text("utf-8")
    }
    private = {
        path.relative_to(ROOT).as_posix()
        for path in files
        for line in path.read_text("utf-8").splitlines()
        if "SLF001" in line or ("from alembic" in line and " import _" in line)
    }
    assert private == {"safely/alembic_internals.py"}


def test_importing_safely_changes_no_global_of_alembic() -> None:
    command = [sys.executable, "-c", GLOBALS + IMPORT_ALL]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
