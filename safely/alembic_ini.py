"""Finds alembic.ini above the current directory; Alembic itself looks in the current one alone.

A plugin of Alembic: `alembic` in a subdirectory works as in the directory of the file.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

NAME = "alembic.ini"
VARIABLE = "ALEMBIC_CONFIG"  # of Alembic; names the file
CONFIG = ("-c", "--conf")  # with these letters begins Alembic's option that names the file


def setup(_: Any) -> None:
    """Let the command `alembic` run in the directory above that has its configuration.

    It needs that directory: alembic.ini may have paths and addresses that are relative to it.
    Alembic calls this where it is imported; programs that import it are left alone. So is
    `alembic init`, which writes a new file.
    """
    is_module = sys.argv[0] == "-m" and "alembic" in sys.orig_argv
    if not (is_module or Path(sys.argv[0]).stem == "alembic"):
        return
    if VARIABLE in os.environ or "init" in sys.argv or any(map(names_file, sys.argv[1:])):
        return
    if (file := above(Path.cwd())) is not None:
        print(f"in {file.parent}, which has {file.name}", file=sys.stderr)
        os.chdir(file.parent)


def names_file(argument: str) -> bool:
    """Return whether an argument is the option of `alembic` that names the configuration."""
    return argument.startswith(CONFIG)


def above(directory: Path) -> Path | None:
    """Return the configuration in the nearest directory above this one.

    None if there is none, or if this directory has its own. The search ends at the root of the
    repository.
    """
    for place in (directory, *directory.parents):
        if (file := configuration_in(place)) is not None:
            return None if place == directory else file
        if (place / ".git").exists():
            break
    return None


def configuration_in(directory: Path) -> Path | None:
    """Return the file that Alembic would read in the directory; None if there is none."""
    if (file := directory / NAME).is_file():
        return file
    file = directory / "pyproject.toml"
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return None
    return file if "alembic" in tool else None
