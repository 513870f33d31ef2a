"""rename full_name to display_name.

What:   `users.full_name` is called `display_name`.
Why:    the test wants a name changed under a service that reads and writes it.
Lock:   users, ACCESS EXCLUSIVE for an instant; only the catalogue changes.
Older builds: know the column by its old name only.
Undone: the column gets its old name back.
"""

import safely


def upgrade() -> None:
    safely.rename_column("users", "full_name", "display_name")


def downgrade() -> None:
    safely.rename_column("users", "display_name", "full_name")
