"""rename name to full_name.

What:   `users.name` is called `full_name`.
Why:    it always held the whole name, and everybody asked which part it was.
Lock:   users, ACCESS EXCLUSIVE for an instant; only the catalogue changes.
Older builds: know the column by its old name only.
Undone: the column gets its old name back.
"""

import safely

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    safely.rename_column("users", "name", "full_name")


def downgrade() -> None:
    safely.rename_column("users", "full_name", "name")
