"""index age.

Bad on purpose: writes to users wait until the index is built.
"""

from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_index("idx_users_age", "users", ["age"])


def downgrade() -> None:
    safely.drop_index("idx_users_age", "users")
