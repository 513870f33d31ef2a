"""forget how old users are.

Bad on purpose: the values are lost, and older builds fail; PostgreSQL refuses it while a
published version shows the column.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.drop_column("users", "age")


def downgrade() -> None:
    age = sa.CheckConstraint("age BETWEEN 0 AND 150", name=safely.f("ck_users_age"))
    safely.add_column("users", sa.Column("age", sa.Integer(), age, nullable=True))
