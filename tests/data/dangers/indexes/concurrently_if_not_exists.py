"""Build an index CONCURRENTLY where an INVALID one may have its name."""

from alembic import op

import safely

# rehearse: yes, no index of this name is there
# lock: SHARE UPDATE EXCLUSIVE on orders
revision = "concurrently_if_not_exists"
down_revision = "schema"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(  # <- if-not-exists
            "ix_orders_note",
            "orders",
            ["note"],
            if_not_exists=True,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    safely.drop_index("ix_orders_note", "orders")
