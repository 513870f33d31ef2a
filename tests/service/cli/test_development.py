"""The development database of `python -m service`: which settings mean it, and where it lacks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.development import with_database
from service.settings import Settings
from tests.paths import ROOT


def test_a_database_that_is_set_is_left_alone() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "sqlite:///users.sqlite"})
    assert with_database(settings) is settings


@pytest.mark.parametrize("command", ["serve", "export"])
def test_without_the_embedded_database_a_missing_url_is_one_line(
    tmp_path: Path, command: str
) -> None:
    """Production images have `safely` without its scratch databases."""
    shutil.copytree(ROOT / "service", tmp_path / "service")
    shutil.copytree(ROOT / "safely", tmp_path / "safely", ignore=shutil.ignore_patterns("scratch"))
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    process = subprocess.run(
        [sys.executable, "-m", "service", command],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PORT": "0"},
    )
    assert process.returncode == 2
    assert process.stderr.startswith(f"can't {'start' if command == 'serve' else command}: ")
    assert "DATABASE_URL is not set" in process.stderr
    assert "set DATABASE_URL=postgresql://user:password@host/database" in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_directory_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    for name in ("service", "safely"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".data").touch()  # a file, where the directory would be
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    process = subprocess.run(
        [sys.executable, "-m", "service", "export"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert process.returncode == 2
    assert process.stderr == (
        f"can't export: the embedded database can't use {tmp_path}/.data: File exists. "
        "Move it away; set DATABASE_URL to use another database\n"
    )
