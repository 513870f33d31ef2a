"""require email.

What:   `users.email` is NOT NULL; who writes none gets an address that is nobody's.
Why:    the test wants a rule that a service breaks which doesn't know it. Addresses are unique,
        so each user's is made from its id.
Lock:   users, SHARE ROW EXCLUSIVE for an instant (the trigger), then ACCESS EXCLUSIVE for three
        instants (a CHECK as NOT VALID, NOT NULL, the CHECK goes); the rows of one batch at a
        time; all of them are checked in a transaction that blocks nobody.
Older builds: may go on writing NULL, and read the address that was filled in.
Undone: NULL is allowed again and the trigger goes; addresses that were filled in stay.
"""

import sqlalchemy as sa

import safely


def upgrade() -> None:
    unknown = sa.text("'unknown-' || id || '@example.invalid'")
    safely.require_column("users", "email", fill=unknown)


def downgrade() -> None:
    safely.allow_null("users", "email")
