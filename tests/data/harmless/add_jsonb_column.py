"""Add a document."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

import safely

revision = "add_jsonb_column"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("products", sa.Column("tags", postgresql.JSONB()))


def downgrade() -> None:
    safely.drop_column("products", "tags")
