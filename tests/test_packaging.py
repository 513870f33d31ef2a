"""The project as a package: what `pip install .` installs."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_editable

from tests.paths import ROOT

CODE = {
    str(path.relative_to(ROOT))
    for package in ("service", "migrations", "safely")
    for path in (ROOT / package).rglob("*")
    if path.is_file() and path.parent.name != "__pycache__"
}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a wheel and an sdist, made by the locked build backend."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return directory


def test_the_wheel_has_the_two_packages_and_nothing_else(distributions: Path) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == CODE
    assert "service/evolution/evolution.css" in names
    assert "migrations/script.py.mako" in names
    assert "migrations/versions/0001_create_users.py" in names


def test_the_sdist_has_beside_them_what_the_wheel_is_built_from(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names - CODE == {".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_users_service_is_a_command(distributions: Path) -> None:
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        text = wheel.read(name).decode()
    assert text.split() == ["[console_scripts]", "users-service", "=", "service.cli.main:main"]


def test_an_editable_install_adds_a_directory_to_the_path_and_no_import_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a command that is started in a copy of the repository runs the copy."""
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_editable(str(tmp_path))) as wheel:
        files = {name: wheel.read(name).decode() for name in wheel.namelist()}
    assert {name for name in files if ".dist-info/" not in name} == {"_users_service.pth"}
    assert files["_users_service.pth"].strip() == str(ROOT)
