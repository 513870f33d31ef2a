"""Replace a trigger in place."""

from alembic import op

import safely

# rehearse: no, trigger orders_touch on orders: was
# lock: SHARE ROW EXCLUSIVE on orders
revision = "replace_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- trigger
        "CREATE OR REPLACE TRIGGER orders_touch BEFORE UPDATE ON orders FOR EACH ROW WHEN "
        "(NEW.note IS NULL) EXECUTE FUNCTION touch()"
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
