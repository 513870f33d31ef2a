"""The repository keeps its structure: imports by layer, a complete map, locked dependencies."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.models import SCHEMA_REVISION
from tests.paths import ROOT

MODULES = sorted(
    path for place in ("service", "migrations", "safely") for path in (ROOT / place).rglob("*.py")
)
LAYERS = {  # a package of the service, or a file beside them, may import these and itself
    "errors": set(),
    "addresses": set(),
    "settings": {"addresses"},
    "draining": set(),
    "signals": set(),
    "stopping": {"draining", "signals"},
    "models": set(),
    "schemas": set(),
    "etags": set(),
    "database_errors": {"addresses"},
    "batching": set(),
    "sqlite_writers": set(),
    "validation": {"errors", "schemas"},
    "connections": {"database_errors"},
    "positions": set(),
    "database": {
        "addresses", "batching", "connections", "database_errors", "errors", "positions",
        "settings", "sqlite_writers",
    },
    "replicas": {"connections", "database", "database_errors", "positions", "settings"},
    "schema_revision": {"errors", "models"},
    "users": {"errors", "etags", "models", "schemas"},
    "user_lists": {"errors", "models", "schemas", "users", "validation"},
    "user_batches": {
        "batching", "database", "database_errors", "positions", "replicas", "schemas",
        "user_lists", "users",
    },
    "idempotency": {"errors", "models"},
    "transfer": {
        "database", "database_errors", "errors", "models", "replicas", "schemas", "settings",
        "user_lists", "users", "validation",
    },
    "auth": {"errors", "settings"},
    "observability": {"database", "models", "replicas", "schema_revision", "settings"},
    "http": {
        "auth", "batching", "database", "database_errors", "draining", "errors", "etags",
        "evolution", "idempotency", "models", "observability", "positions", "replicas",
        "schema_revision", "schemas", "settings", "stopping", "transfer", "user_batches",
        "user_lists", "users", "validation",
    },
    "evolution": set(),
    "app": {
        "auth", "database", "draining", "http", "models", "observability", "replicas", "settings",
        "stopping", "transfer", "user_batches",
    },
    "cli": {
        "app", "auth", "database", "database_errors", "draining", "errors", "models",
        "observability", "schemas", "settings", "signals", "stopping", "transfer",
        "user_lists",
    },
    "__init__": set(),
    "__main__": {"cli", "signals"},
}  # fmt: skip

ENGINE_LAYERS = (  # packages of safely, and files beside them; each may import those before it
    "addresses", "alembic_ini", "alembic_internals", "cancellation", "errors", "closed_output",
    "files", "words", "standbys", "progress", "project", "revisions", "history", "database",
    "operations",
    "__init__", "arguments", "environment", "postgresql", "invocation", "scratch", "ledger",
    "autogenerate_enums", "autogenerate_sequences", "autogenerate", "lint", "run", "backup",
    "report", "env", "rehearsal", "cli", "__main__",
)  # fmt: skip
DEVELOPMENT_COMMANDS = {
    ("cli", "lint.py"),
    ("cli", "rehearse.py"),
    ("cli", "showing.py"),
    ("lint", "scratch_schema.py"),  # of `lint`
}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that the file imports, and every name it imports from one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", LAYERS)
def test_imports_run_one_way(name: str) -> None:
    place = ROOT / "service" / name
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    own = {
        match.group(1)
        for path in files
        for module in imports(path)
        if (match := re.match(r"service\.(\w+)", module))
    }
    assert own <= LAYERS[name] | {name}


def test_every_package_of_the_service_has_its_place() -> None:
    packages = {
        path.stem
        for path in (ROOT / "service").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert packages == set(LAYERS)


@pytest.mark.parametrize("name", ENGINE_LAYERS)
def test_imports_within_safely_run_one_way(name: str) -> None:
    place = ROOT / "safely" / name
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    own = {
        match.group(1)
        for path in files
        for module in imports(path)
        if (match := re.match(r"safely\.(\w+)", module)) and match.group(1) in ENGINE_LAYERS
    }
    assert own <= {*ENGINE_LAYERS[: ENGINE_LAYERS.index(name)], name}


def test_every_package_of_safely_has_its_place() -> None:
    packages = {
        path.stem
        for path in (ROOT / "safely").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert packages == set(ENGINE_LAYERS)


def test_safely_imports_neither_service_nor_migrations() -> None:
    foreign = {"service", "migrations", "tests", "benchmarks"}
    for path in (ROOT / "safely").rglob("*.py"):
        assert not foreign & {name.partition(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("word", ["service", "users", "DATABASE_URL", "SCHEMA_REVISION"])
def test_safely_knows_nothing_of_this_project(word: str) -> None:
    lines = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "safely").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf"\b{word}\b", line)
        and not line.startswith('    "service": ')  # a parameter of libpq
    ]
    assert lines == []


def test_production_code_of_safely_does_not_need_what_images_leave_out() -> None:
    """Imports inside of functions are for what may be missing; those say so in one line."""
    left_out = re.compile(r"safely\.(rehearsal|scratch)\b")
    for path in (ROOT / "safely").rglob("*.py"):
        parts = path.relative_to(ROOT / "safely").parts
        if parts[0] in ("rehearsal", "scratch") or parts[:2] in DEVELOPMENT_COMMANDS:
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in module.body if isinstance(node, ast.ImportFrom)], [])
        names = [str(node.module) for node in ast.walk(top) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if left_out.match(name)], path


def test_the_service_imports_only_addresses_the_report_and_the_development_database_of_safely() -> (
    None
):
    names = {
        name
        for path in (ROOT / "service").rglob("*.py")
        for name in imports(path)
        if name.startswith("safely.")
    }
    allowed = re.compile(r"safely\.(report|scratch$|scratch\.embedded)\b")
    assert {name for name in names if not allowed.match(name)} == set()


def test_the_service_does_not_import_migrations() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith("migrations")], path


def test_env_py_is_alembics_template_with_safely() -> None:
    lines = (ROOT / "migrations/env.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert "await connection.run_sync(do_run_migrations, step.options)" in "\n".join(lines)


def test_migrations_holds_the_history_and_no_machinery() -> None:
    files = {path.name for path in (ROOT / "migrations").glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "env.py"}


def test_users_know_nothing_of_http() -> None:
    modules = imports(ROOT / "service/users.py")
    assert not {module for module in modules if module.startswith(("litestar", "granian"))}


def test_the_service_commits_in_one_place() -> None:
    places = [
        path.name
        for path in (ROOT / "service").rglob("*.py")
        if re.search(r"\.(commit|rollback)\(", path.read_text(encoding="utf-8"))
    ]
    assert places == ["database.py"]


def test_no_test_imports_a_test_file() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        shared = [name for name in imports(path) if re.match(r"tests\.(\w+\.)*test_", name)]
        assert not shared, path


def test_only_copy_and_the_watch_over_connections_see_the_driver() -> None:
    driver = re.compile(r"raw_connection|driver_connection|AsyncConnection|greenlet")
    found = {
        path.relative_to(ROOT / "service").as_posix()
        for path in (ROOT / "service").rglob("*.py")
        if driver.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"transfer/copy.py", "connections.py", "database.py"}


@pytest.mark.parametrize("name", ["users", "user_lists"])
def test_functions_that_await_the_database_take_the_session_first(name: str) -> None:
    module = ast.parse((ROOT / f"service/{name}.py").read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.AsyncFunctionDef)]
    assert functions
    for function in functions:
        first = function.args.args[0]
        assert (first.arg, ast.unparse(first.annotation or first)) == ("session", "AsyncSession")


def test_the_readmes_map_has_every_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    the_map = readme.split("## The map of the house")[1].split("\n## ")[0]
    for path in MODULES:
        if path.name != "__init__.py" and path.parent.name != "versions":
            assert re.search(rf"\b{re.escape(path.name)}\s", the_map), path


def test_alembic_ini_is_short() -> None:
    assert len((ROOT / "alembic.ini").read_text(encoding="utf-8").splitlines()) <= 25


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-audit.txt",
        "requirements-build.txt",
        "requirements-dev.txt",
        "requirements-ha.txt",
        "requirements-programs.txt",
    ],
)
def test_dependencies_are_locked_with_hashes_and_no_addresses(name: str) -> None:
    lock = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in lock
    for block in re.split(r"\n(?=\S)", lock):
        assert "==" in block
        assert "--hash=sha256:" in block


def test_generators_of_clients_are_locked_with_hashes_and_no_addresses() -> None:
    lock = json.loads((ROOT / "tests/clients/package-lock.json").read_text(encoding="utf-8"))
    root, *packages = lock["packages"].values()
    assert root["devDependencies"]
    for package in packages:
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_the_models_describe_the_head() -> None:
    numbers = [path.name[:4] for path in (ROOT / "migrations/versions").glob("[0-9]*.py")]
    assert max(numbers) == SCHEMA_REVISION
