"""Finds alembic.ini above the current directory: for `alembic`, as a plugin, and for our commands.

Alembic itself looks in the current directory alone.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

NAME = "alembic.ini"
VARIABLE = "ALEMBIC_CONFIG"  # of Alembic; its option -c goes before it


def setup(_: Any) -> None:
    """Let the command `alembic` use the configuration of the directory above that has one.

    Alembic calls this where it is imported. Other programs are left alone: their children would
    inherit the variable, and migrate another project. `alembic init` writes a new file.
    """
    is_module = sys.argv[0] == "-m" and "alembic" in sys.orig_argv
    if not (is_module or Path(sys.argv[0]).stem == "alembic"):
        return
    if VARIABLE in os.environ or "init" in sys.argv:
        return
    if (file := above(Path.cwd())) is not None:
        print(f"using {file}", file=sys.stderr)
        os.environ[VARIABLE] = str(file)


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
