"""Call operations by other names."""

from alembic import op
from alembic.operations import ops

revision = "0058"
down_revision = "0057"


def upgrade():
    getattr(op, "drop_column")("items", "size")  # <- lossy-downgrade, plain-drop
    change = op.execute
    change("UPDATE items SET sku = '' WHERE sku IS NULL")  # <- backfill-at-once
    op.invoke(ops.DropTableOp("sizes"))  # <- lossy-downgrade, plain-drop, two-tables


def downgrade():
    globals()["upgrade"]()
