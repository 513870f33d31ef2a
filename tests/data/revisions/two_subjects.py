"""give users a phone number, and index their age.

Bad on purpose: two subjects in one file can be judged and undone only together.
"""

import sqlalchemy as sa

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    safely.add_column("users", sa.Column("phone", sa.Text()))
    safely.create_index("idx_users_age", "users", ["age"])


def downgrade() -> None:
    safely.drop_index("idx_users_age", "users")
    safely.drop_column("users", "phone")
