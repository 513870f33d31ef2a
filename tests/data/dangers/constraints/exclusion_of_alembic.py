"""Add an exclusion constraint."""

from alembic import op

import safely

# rehearse: no, rows of bookings were read under a lock on
# lock: ACCESS EXCLUSIVE on bookings
revision = "exclusion_of_alembic"
down_revision = "schema"


def upgrade() -> None:
    op.create_exclude_constraint(  # <- exclusion-at-once
        "ex_bookings", "bookings", ("during", "&&"), using="gist"
    )


def downgrade() -> None:
    safely.drop_constraint("ex_bookings", "bookings")
