"""Add an exclusion constraint, in SQL."""

from alembic import op

import safely

# rehearse: no, rows of bookings were read under a lock on
# lock: ACCESS EXCLUSIVE on bookings
revision = "exclusion_of_sql"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- exclusion-at-once
        "ALTER TABLE bookings ADD CONSTRAINT ex_bookings EXCLUDE USING gist (during WITH &&)"
    )


def downgrade() -> None:
    safely.drop_constraint("ex_bookings", "bookings")
