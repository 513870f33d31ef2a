"""Let replicas have all tables."""

from alembic import op

# rehearse: no, publication everything: was added
# lock: no table
revision = "publication"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE PUBLICATION everything FOR ALL TABLES")  # <- replication


def downgrade() -> None:
    op.execute("DROP PUBLICATION everything")
