"""Drop a view that clients read."""

from alembic import op

# rehearse: no, view customer_list was dropped, not set aside
# lock: ACCESS EXCLUSIVE on customer_list
revision = "drop_view"
down_revision = "schema"


def upgrade() -> None:
    op.execute("DROP VIEW customer_list")  # <- drop-object


def downgrade() -> None:
    op.execute("CREATE VIEW customer_list AS SELECT id, name FROM customers")
