"""pytest-alembic's own tests, on PostgreSQL and on SQLite.

They are imported, not collected by its plugin: the plugin fails with pytest 9.
"""

import pytest
from alembic.config import Config
from pytest_alembic.plugin.fixtures import alembic_runner
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.paths import ROOT

__all__ = [
    "alembic_runner",
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]

pytestmark = pytest.mark.alembic  # their own mark


@pytest.fixture
def alembic_config(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("DATABASE_URL", empty_url)
    return Config(ROOT / "alembic.ini")


@pytest.fixture
def alembic_engine(empty: AsyncEngine) -> AsyncEngine:
    return empty
