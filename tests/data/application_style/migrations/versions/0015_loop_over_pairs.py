"""Create indexes."""

from alembic import op

revision = "0015"
down_revision = "0014"


INDEXES = (
    ("ix_orders_state", "orders", ["state"]),
    ("ix_users_status", "users", ["status"]),
)


def upgrade():
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)  # <- plain-index, two-tables


def downgrade():
    for name, table, _columns in INDEXES:
        op.drop_index(name, table_name=table)  # <- plain-index-drop
