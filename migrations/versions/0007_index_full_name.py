"""index full_name.

What:   `idx_user_full_name` on the name in lower case, ordered by code points, then `id`.
Why:    search by the beginning of a name, and pages sorted by name, forwards and back, without
        sorting. SQLite folds ASCII letters only.
Lock:   none that blocks a reader or a writer (CONCURRENTLY); it waits for transactions that
        are older than it.
Older builds: don't notice.
Undone: the index is dropped, concurrently too.
"""

import sqlalchemy as sa

import safely

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    safely.create_index(
        "idx_user_full_name", "users", [sa.text('lower(full_name) COLLATE "C"'), "id"]
    )


def downgrade() -> None:
    safely.drop_index("idx_user_full_name", "users")
