"""Put SQL together."""

from alembic import op

revision = "0034"
down_revision = "0033"


SCHEMA = "public"


def upgrade():
    for table, column in {"orders": "state", "users": "status"}.items():
        op.execute(f'ALTER TABLE {SCHEMA}."{table}" ALTER COLUMN "{column}" SET NOT NULL')  # <- not-null-at-once, two-tables
    op.execute("ALTER TABLE %s DROP COLUMN %s" % ("users", "locale"))  # <- plain-drop
    op.execute("CREATE INDEX {0} ON {1} (id)".format("ix_again", "orders"))  # <- plain-index


def downgrade():
    op.execute("ALTER TABLE users ADD COLUMN locale text")  # <- raw-op
