"""Fail where a policy would hide rows."""

from alembic import op

import safely

# rehearse: yes, the connection of a migration has this setting already
# lock: no table
revision = "row_security_off"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET row_security = off")  # <- row-security-off


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
