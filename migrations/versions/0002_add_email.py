"""add email.

What:   the column `users.email`, which may be missing.
Why:    to write to people.
Lock:   users, ACCESS EXCLUSIVE for an instant; no row is touched.
Older builds: neither see nor write it; their users have no e-mail address.
Undone: the column is set aside with its values, and comes back with them.
"""

import sqlalchemy as sa

import safely

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    safely.add_column("users", sa.Column("email", sa.Text(), nullable=True))


def downgrade() -> None:
    safely.drop_column("users", "email")
