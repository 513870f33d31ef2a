"""widen age.

What:   `users.age` is a bigint.
Why:    the test wants another type under a service that reads and writes the old one.
Lock:   users, SHARE ROW EXCLUSIVE and ACCESS EXCLUSIVE for instants (a second column, a trigger,
        its rules as NOT VALID, the swap); the rows of one batch at a time; the rules are checked
        in a transaction that blocks nobody.
Older builds: go on with the column of the old type; a trigger keeps the two in step.
Undone: the two columns change places again.
"""

import sqlalchemy as sa

import safely


def upgrade() -> None:
    safely.change_type("users", "age", sa.BigInteger())


def downgrade() -> None:
    safely.change_type("users", "age", sa.Integer())
