"""The house stays as DESIGN draws it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.models import SCHEMA_REVISION
from tests.world import ROOT

MODULES = sorted(
    path for place in ("service", "migrations") for path in (ROOT / place).rglob("*.py")
)
ALLOWED = {  # a module may import these of its own package, and nothing else
    "__init__": set(),
    "errors": set(),
    "settings": set(),
    "outages": set(),
    "models": set(),
    "limits": set(),
    "head": set(),
    "answers": set(),
    "gathering": set(),
    "compression": set(),
    "spool": set(),
    "unread": set(),
    "origins": set(),
    "tokens": {"settings"},
    "database": {"settings"},
    "embedded": {"settings"},
    "evolution_wire": set(),
    "evolution_html": set(),
    "evolution_words": {"evolution_html"},
    "evolution_chain": {"evolution_html", "evolution_wire", "evolution_words"},
    "evolution_beside": {
        "evolution_chain", "evolution_html", "evolution_wire", "evolution_words",
    },
    "evolution_page": {
        "evolution_beside", "evolution_chain", "evolution_html", "evolution_wire",
        "evolution_words",
    },
    "evolution": {
        "access", "answers", "errors", "evolution_page", "evolution_wire", "listings",
        "parameters", "problems",
    },
    "logs": {"settings"},
    "access_log": {"logs", "settings"},
    "tracing": {"database", "logs", "models"},
    "wire": {"errors"},
    "lines": {"wire", "errors"},
    "users": {"wire", "errors", "models"},
    "transfer": {"users", "lines", "wire", "errors", "models"},
    "listings": {"users", "wire", "errors"},
    "together": {"database", "gathering", "outages", "settings", "users", "wire"},
    "idempotency": {"answers", "errors", "models"},
    "problems": {"answers", "wire", "errors", "head", "outages"},
    "parameters": {"users", "wire"},
    "requests": {"answers", "deadline", "wire", "errors"},
    "directly": {"answers", "errors", "problems", "requests"},
    "access": {"errors", "limits", "settings", "tokens"},
    "deadline": {"errors"},
    "routes": {
        "access", "answers", "compression", "directly", "errors", "idempotency", "listings",
        "parameters", "problems", "requests", "users", "wire",
    },
    "transfer_routes": {
        "access", "answers", "compression", "errors", "idempotency", "lines", "listings",
        "parameters", "problems", "requests", "routes", "spool", "transfer", "users", "wire",
    },
    "health": {"errors", "models", "problems", "wire"},
    "metrics": {"access", "database", "errors", "health", "models", "problems"},
    "observing": {"access_log", "database", "logs", "metrics", "settings", "tracing"},
    "documentation": {"access", "evolution_wire", "models", "wire"},
    "app": {
        "access", "database", "deadline", "documentation", "evolution", "head", "health", "logs",
        "models", "observing", "origins", "problems", "requests", "routes", "settings", "together",
        "tokens", "transfer_routes", "unread",
    },
    "serving": {"access_log", "embedded", "logs", "settings", "tokens"},
    "transfer_commands": {
        "database", "embedded", "errors", "lines", "models", "settings", "transfer", "users",
        "wire",
    },
    "commands": {"errors", "outages", "serving", "settings", "tokens", "transfer_commands"},
    "__main__": {"commands"},
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, with what it imports from a package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_run_one_way(name: str) -> None:
    own = {
        match.group(1)
        for module in imports(ROOT / f"service/{name}.py")
        if (match := re.match(r"service\.(\w+)", module))
    }
    assert own <= ALLOWED[name]


def test_every_module_of_the_service_has_its_place() -> None:
    assert {path.stem for path in (ROOT / "service").glob("*.py")} == set(ALLOWED)


def test_one_module_of_the_service_imports_migrations() -> None:
    found = {
        path.stem
        for path in (ROOT / "service").glob("*.py")
        if any(module.startswith("migrations") for module in imports(path))
    }
    assert found == {"evolution"}
    wanted = {name for name in imports(ROOT / "service/evolution.py") if "migrations" in name}
    assert all(re.match(r"migrations(\.report|$)", name) for name in wanted)


def test_what_the_service_imports_of_migrations_knows_nothing_above_the_models() -> None:
    """Otherwise the two would import one another."""
    seen: set[str] = set()
    found: set[str] = set()
    left = {"migrations.report"}
    while left:
        name = left.pop()
        seen.add(name)
        path = ROOT / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.exists():  # a name in a module
            continue
        for module in imports(file):
            found |= {module.split(".")[1]} if module.startswith("service.") else set()
            left |= {module} - seen if module.startswith("migrations.") else set()
    assert found == {"evolution_wire", "models", "outages"}


def test_users_know_nothing_of_http() -> None:
    found = set(imports(ROOT / "service/users.py"))
    assert not {module for module in found if module.startswith(("litestar", "granian"))}


def test_only_the_database_module_commits_on_a_requests_way() -> None:
    for path in (ROOT / "service").glob("*.py"):
        assert not re.search(r"\.(commit|rollback)\(", path.read_text(encoding="utf-8")), path


def test_the_readmes_map_has_every_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    house = readme.split("## The map of the house")[1].split("\n## ")[0]
    for path in MODULES:
        if path.name != "__init__.py" and path.parent.name != "versions":
            assert re.search(rf"\b{re.escape(path.name)}\s", house), path


def test_alembic_ini_is_short() -> None:
    assert len((ROOT / "alembic.ini").read_text(encoding="utf-8").splitlines()) <= 25


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_dependencies_are_locked_with_hashes_and_no_addresses(name: str) -> None:
    lock = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in lock
    for block in re.split(r"\n(?=\S)", lock):
        assert "==" in block
        assert "--hash=sha256:" in block


def test_the_models_describe_the_head() -> None:
    numbers = [path.name[:4] for path in (ROOT / "migrations/versions").glob("[0-9]*.py")]
    assert max(numbers) == SCHEMA_REVISION
