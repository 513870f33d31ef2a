"""add nickname.

What:   the column `users.nickname`, which may be missing.
Why:    the test wants a column more.
Lock:   users, ACCESS EXCLUSIVE for an instant; no row is touched.
Older builds: neither see nor write it; their users have no nickname.
Undone: the column is set aside, with its values.
"""

import sqlalchemy as sa

import safely


def upgrade() -> None:
    safely.add_column("users", sa.Column("nickname", sa.Text(), nullable=True))


def downgrade() -> None:
    safely.drop_column("users", "nickname")
