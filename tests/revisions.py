"""Revisions that a test writes into a clone."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.chain import later
from tests.paths import ROOT

Revision = Callable[..., None]  # takes the bodies of upgrade and downgrade
REVISION = """\
import sqlalchemy as sa
import safely

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
"""


def copy_repository(directory: Path) -> None:
    """Copy what migrates into a directory."""
    half_written = shutil.ignore_patterns("*.pyc.*")
    # .pyc files too: compiling takes longer than copying
    for name in ("service", "migrations", "safely"):
        shutil.copytree(ROOT / name, directory / name, ignore=half_written)
    shutil.copy(ROOT / "alembic.ini", directory)


def write_revision(clone: Path, steps: int, up: str, down: str) -> None:
    """Write the revision that comes so many `steps` after the head, with these bodies."""
    number, before = later(steps), later(steps - 1)
    source = REVISION.format(revision=number, before=before, up=indented(up), down=indented(down))
    (clone / f"migrations/versions/{number}_scratch.py").write_text(source, encoding="utf-8")


def indented(body: str) -> str:
    """Indent a function's body."""
    return "\n".join("    " + line for line in body.splitlines())


# the CHECK fails where a user is younger than 18; column and index are committed by then
FAILS_HALFWAY = (
    'safely.add_column("users", sa.Column("phone", sa.Text()))\n'
    'safely.create_index("idx_users_phone", "users", ["phone"])\n'
    'safely.create_check_constraint("ck_users_adult", "users", "age >= 18")'
)
