"""name the nameless.

What:   users without a name are called 'Unknown'.
Why:    the next revision requires a name.
Lock:   the rows of one batch at a time, for some milliseconds; the table never.
Older builds: see the new name; what they write without one in the meantime, 0005 takes care of.
Undone: not at all: which users were called so by this revision and which by themselves is not
        recorded, and a name does no harm.
"""

import safely

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    safely.backfill("users", "name = 'Unknown'", where="name IS NULL")


def downgrade() -> None:
    safely.nothing_to_undo("users keep the name 'Unknown' that 0004 gave them")
