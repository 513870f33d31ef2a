"""set age aside.

What:   builds from now on have no `users.age`.
Why:    the test wants a column less under a service that reads and writes it.
Lock:   users, ACCESS EXCLUSIVE for an instant; no row is touched.
Older builds: go on reading and writing it.
Undone: the column is brought back, with its values and its rule.
"""

import sqlalchemy as sa

import safely


def upgrade() -> None:
    safely.drop_column("users", "age")


def downgrade() -> None:
    age = sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))
    safely.add_column("users", sa.Column("age", sa.BigInteger(), age, nullable=True))
