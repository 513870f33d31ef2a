"""require names.

What:   `users.name` is NOT NULL; who writes none gets 'Unknown' by a trigger.
Why:    a user is somebody with a name, and code that reads need not ask.
Lock:   users, SHARE ROW EXCLUSIVE for an instant (the trigger), then ACCESS EXCLUSIVE for three
        instants (a CHECK as NOT VALID, NOT NULL, the CHECK goes); the rows are checked in
        between, in a transaction that blocks nobody.
Older builds: may go on writing NULL, and read 'Unknown'.
Undone: NULL is allowed again and the trigger goes; names that were filled in stay.
"""

import safely

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    safely.require_column("users", "name", fill="Unknown")


def downgrade() -> None:
    safely.allow_null("users", "name")
