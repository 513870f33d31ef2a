"""record who invited whom.

Bad on purpose: without NOT VALID, PostgreSQL looks up every row while writes to users wait.
"""

import sqlalchemy as sa
from alembic import op

import safely

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("users", sa.Column("invited_by", sa.BigInteger()))
    op.create_foreign_key("fk_users_invited_by_users", "users", "users", ["invited_by"], ["id"])


def downgrade() -> None:
    safely.drop_constraint("fk_users_invited_by_users", "users", type_="foreignkey")
    safely.drop_column("users", "invited_by")
