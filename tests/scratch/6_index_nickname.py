"""index nickname.

What:   `idx_user_nickname` on the nickname.
Why:    the test wants an index built over rows that are being written.
Lock:   none that blocks a reader or a writer (CONCURRENTLY); it waits for transactions that
        are older than it.
Older builds: don't notice.
Undone: the index is dropped, concurrently too.
"""

import safely


def upgrade() -> None:
    safely.create_index("idx_user_nickname", "users", ["nickname"])


def downgrade() -> None:
    safely.drop_index("idx_user_nickname", "users")
