"""Change a type in the way of a database that is neither PostgreSQL nor SQLite."""

from alembic import op

revision = "0064"
down_revision = "0063"


def upgrade():
    bind = op.get_bind()
    if bind.dialect.name == "mysql":
        op.execute("ALTER TABLE users MODIFY name VARCHAR(200)")
    if bind.engine.name == "mssql":
        op.execute("EXEC sp_rename 'users.name', 'title'")
    if bind.dialect.name != "oracle":
        op.execute("DELETE FROM users")  # <- delete-at-once


def downgrade():  # <- empty-downgrade
    if op.get_context().dialect.name == "mariadb":
        op.execute("ALTER TABLE users MODIFY name TEXT")
