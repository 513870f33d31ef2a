"""Checksums of revision files cover what the revisions do, and not their prose."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.ledger.checksum import KIND, checksum
from tests.chain import HEAD, NUMBERS, VERSIONS
from tests.commands import run_alembic, run_migrations
from tests.databases import query, write

REVISION = '''\
"""add email.

What: a column.
"""

import sqlalchemy as sa

import safely

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add it."""
    safely.add_column("users", sa.Column("email", sa.Text()))  # nullable


def downgrade() -> None:
    safely.drop_column("users", "email")
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What: a column.", "What: the column `users.email`."),
        ('    """Add it."""\n', ""),
        ("  # nullable", "  # may be missing"),
        ("import safely\n", "from migrations import safely\n"),
        (
            'sa.Column("email", sa.Text())',
            'sa.Column(\n        "email",\n        sa.Text(),\n    )',
        ),
        ("\n", "\r\n"),
    ],
)
def test_prose_and_imports_do_not_change_the_checksum(tmp_path: Path, old: str, new: str) -> None:
    assert old in REVISION
    assert checksum_of(tmp_path, REVISION.replace(old, new)) == checksum_of(tmp_path, REVISION)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sa.Text()", "sa.String()"),
        ('"email"', '"e_mail"'),
        ('down_revision = "0001"', "down_revision = None"),
        ('    safely.drop_column("users", "email")', "    pass"),
        ("sa.Text()", "sa.Text(), nullable=True"),
        ("sa.Text()", "sa.Text(5)"),
        ("safely.add_column", "not safely.add_column"),
    ],
)
def test_what_a_revision_does_changes_the_checksum(tmp_path: Path, old: str, new: str) -> None:
    assert old in REVISION
    assert checksum_of(tmp_path, REVISION.replace(old, new)) != checksum_of(tmp_path, REVISION)


def test_the_checksum_is_the_same_under_every_python(tmp_path: Path) -> None:
    """It was computed once, by Python 3.11."""
    recorded = "ast:6d124380a96e5f16ecf635d118a093f2a13cebb5040009e8cff2a704fe83b1c6"
    assert checksum_of(tmp_path, REVISION) == recorded


def checksum_of(directory: Path, source: str) -> str:
    path = directory / "0002_add_email.py"
    path.write_text(source, encoding="utf-8", newline="")
    return checksum(path)


async def test_checksums_of_the_old_kind_are_recorded_anew_once(
    url: str, engine: AsyncEngine
) -> None:
    """Earlier releases recorded the SHA-256 of the whole file, comments and all."""
    await write(engine, "UPDATE migration_log SET checksum = 'an old one of ' || revision")
    assert run_migrations(url, "drift").returncode == 0

    assert "9 applied revision(s) anew" in run_alembic(url, "upgrade", "head").stderr
    rows = await query(engine, "SELECT revision, checksum FROM migration_log ORDER BY id")
    assert rows == [(path.name[:4], checksum(path)) for path in VERSIONS]
    assert all(recorded.startswith(KIND) for _, recorded in rows)
    assert "anew" not in run_alembic(url, "upgrade", "head").stderr
    assert NUMBERS[-1] == HEAD
