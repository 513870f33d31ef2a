"""Create a table, and a trigger and a policy of its own."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, policy "everybody" for table "invoices" already exists
revision = "parts_of_new_table"
down_revision = "schema"


def upgrade() -> None:
    safely.create_table(
        "invoices", sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True)
    )
    op.execute("ALTER TABLE invoices ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY everybody ON invoices USING (true)")
    op.execute(
        "CREATE TRIGGER invoices_touch BEFORE UPDATE ON invoices "
        "FOR EACH ROW EXECUTE FUNCTION touch()"
    )


def downgrade() -> None:
    safely.drop_table("invoices")
