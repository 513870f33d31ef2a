"""Refuse to go down."""

from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade():
    op.execute("DROP TABLE IF EXISTS tags CASCADE")  # <- cascade, plain-drop


def downgrade():  # <- empty-downgrade
    raise NotImplementedError("restore a backup")
