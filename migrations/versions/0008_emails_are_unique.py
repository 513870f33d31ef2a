"""emails are unique.

What:   the unique index `idx_user_email` on the e-mail address in lower case.
Why:    two accounts with one address are one person or a mistake.
        Where there are such already, nothing is changed and they are named by a query.
Lock:   none that blocks a reader or a writer (CONCURRENTLY); it waits for transactions that
        are older than it.
Older builds: are refused a second user with an address, which the new rule forbids.
Undone: the index is dropped, concurrently too.
"""

import sqlalchemy as sa

import safely

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    safely.create_index("idx_user_email", "users", [sa.text("lower(email)")], unique=True)


def downgrade() -> None:
    safely.drop_index("idx_user_email", "users")
