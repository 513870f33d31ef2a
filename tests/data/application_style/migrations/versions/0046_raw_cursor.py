"""Use the cursor of the driver."""

from alembic import op

revision = "0046"
down_revision = "0045"


def upgrade():
    cursor = op.get_bind().connection.cursor()
    cursor.execute("ALTER TABLE items DROP COLUMN weight")  # <- plain-drop
    cursor.execute("VACUUM FULL items")  # <- not-in-transaction, rewrite


def downgrade():
    op.execute("ALTER TABLE items ADD COLUMN weight integer")  # <- raw-op
