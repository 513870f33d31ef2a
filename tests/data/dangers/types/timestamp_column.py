"""Store a time without its time zone."""

import sqlalchemy as sa

import safely

# rehearse: yes, the type keeps what is written; the advice is about later
# lock: ACCESS EXCLUSIVE on orders
revision = "timestamp_column"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("orders", sa.Column("paid_at", sa.DateTime()))  # <- prefer-timestamp-tz


def downgrade() -> None:
    safely.drop_column("orders", "paid_at")
