"""Move a table to another schema."""

from alembic import op

# rehearse: yes, the views of older builds lead to the table, wherever it is
# lock: ACCESS EXCLUSIVE on payments
revision = "move_table"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE payments SET SCHEMA archive")  # <- rename


def downgrade() -> None:
    op.execute("ALTER TABLE archive.payments SET SCHEMA public")
