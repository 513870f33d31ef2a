"""Add an index in the way of each database."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade():
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_users_email_lower ON users (lower(email))")  # <- plain-index
    elif bind.dialect.name == "mysql":
        op.execute("CREATE INDEX ix_users_email_lower ON users (email(100))")
    else:
        with op.batch_alter_table("users", recreate="always") as batch_op:
            batch_op.drop_column("name")


def downgrade():
    op.drop_index("ix_users_email_lower", table_name="users")  # <- plain-index-drop
