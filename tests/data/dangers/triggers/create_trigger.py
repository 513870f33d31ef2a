"""Add a trigger to a table in use."""

from alembic import op

# rehearse: no, trigger payments_touch on payments: was added
# lock: SHARE ROW EXCLUSIVE on payments
revision = "create_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- trigger
        "CREATE TRIGGER payments_touch BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION "
        "touch()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER payments_touch ON payments")
