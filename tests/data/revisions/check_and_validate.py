"""limit names to 200 characters.

Bad on purpose: both statements run in one transaction, so VALIDATE checks every row under the lock
that adding the CHECK has taken.
"""

from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_check_constraint(
        "full_name_length", "users", "length(full_name) <= 200", postgresql_not_valid=True
    )
    op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_full_name_length")


def downgrade() -> None:
    safely.drop_constraint("ck_users_full_name_length", "users", type_="check")
