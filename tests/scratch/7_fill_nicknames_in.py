"""fill nicknames in.

What:   who has no nickname gets the first word of the display name.
Why:    the test wants every row changed while a service writes them.
Lock:   the rows of one batch at a time, for some milliseconds; the table never.
Older builds: don't notice; the users that they create afterwards have no nickname.
Undone: not at all: a nickname does no harm, and 1_add_nickname sets its column aside.
"""

import safely


def upgrade() -> None:
    first_word = "nickname = split_part(display_name, ' ', 1)"
    safely.backfill("users", first_word, where="nickname IS NULL")


def downgrade() -> None:
    safely.nothing_to_undo("users keep the nicknames that were filled in")
