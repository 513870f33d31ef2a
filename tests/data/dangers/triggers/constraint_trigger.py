"""Add a constraint trigger."""

from alembic import op

# rehearse: no, trigger payments_check on payments: was added
# lock: SHARE ROW EXCLUSIVE on payments
revision = "constraint_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- trigger
        "CREATE CONSTRAINT TRIGGER payments_check AFTER INSERT ON payments DEFERRABLE INITIALLY "
        "DEFERRED FOR EACH ROW EXECUTE FUNCTION touch()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER payments_check ON payments")
