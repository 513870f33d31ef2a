"""Change rows by text with bound values."""

import datetime

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade():
    op.execute(  # <- backfill-at-once
        sa.text("UPDATE orders SET state = :state WHERE total > :total").bindparams(
            state="large", total=100
        )
    )
    op.execute(  # <- backfill-at-once
        sa.text("UPDATE users SET status = :status WHERE seen_at < :then").bindparams(
            status="gone", then=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        )
    )


def downgrade():  # <- empty-downgrade
    pass
