"""create users.

What:   the table `users`: `id`, and a `name` that may be missing.
Why:    the first thing the service keeps.
Lock:   none; the table is new.
Older builds: there are none.
Undone: the table is set aside with its rows, and comes back with them.
"""

import sqlalchemy as sa

import safely

revision = "0001"
down_revision = None


def upgrade() -> None:
    safely.create_table(
        "users",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=safely.f("pk_users")),
        # without it SQLite gives the id of the last deleted user to the next one
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    safely.drop_table("users")
