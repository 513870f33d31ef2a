"""add age.

What:   the column `users.age`, which may be missing, between 0 and 150.
Why:    to know how old people are; the rule stands in the database, so that it holds for
        writers of every build.
Lock:   users, ACCESS EXCLUSIVE for an instant, twice (the column, the CHECK as NOT VALID);
        the rows are checked in a later transaction that blocks nobody.
Older builds: neither see nor write it.
Undone: the column is set aside with its values and its rule, and comes back with them.
"""

import sqlalchemy as sa

import safely

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    age = sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))
    safely.add_column("users", sa.Column("age", sa.Integer(), age, nullable=True))


def downgrade() -> None:
    safely.drop_column("users", "age")
