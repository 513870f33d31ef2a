"""Ask before the change."""

from alembic import op

revision = "0049"
down_revision = "0048"


def upgrade():
    if input("Are you sure? ") == "y":  # <- acts-outside
        op.drop_column("settings", "extra")  # <- plain-drop


def downgrade():
    exec("op.execute('ALTER TABLE settings ADD COLUMN extra jsonb')")  # <- raw-op
