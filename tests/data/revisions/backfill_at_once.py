"""give every user an age.

Bad on purpose: one UPDATE keeps each row locked until it has changed all of them.
"""

from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("UPDATE users SET age = 18 WHERE age IS NULL")


def downgrade() -> None:
    safely.nothing_to_undo("users keep the age that 0010 gave them")
