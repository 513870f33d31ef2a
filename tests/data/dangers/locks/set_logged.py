"""Write a table to the write-ahead log."""

from alembic import op

# rehearse: no, rows of visits were read under a lock on
# lock: ACCESS EXCLUSIVE on visits
revision = "set_logged"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE visits SET LOGGED")  # <- rewrite


def downgrade() -> None:
    op.execute("ALTER TABLE visits SET UNLOGGED")
