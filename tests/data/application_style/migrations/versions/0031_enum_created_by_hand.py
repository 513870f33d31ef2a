"""Create an enum on the connection."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0031"
down_revision = "0030"


state = postgresql.ENUM("open", "paid", name="payment_state", create_type=False)


def upgrade():
    state.create(op.get_bind(), checkfirst=True)
    op.add_column("orders", sa.Column("payment", state, nullable=True))  # <- raw-op
    op.create_index(op.f("ix_orders_payment"), "orders", ["payment"])  # <- plain-index


def downgrade():
    op.drop_column("orders", "payment")  # <- lossy-downgrade
    state.drop(op.get_bind(), checkfirst=False)  # <- raw-op
