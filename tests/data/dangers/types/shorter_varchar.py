"""Shorten a varchar, which looks at every value."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot alter type of a column used
# lock: ACCESS EXCLUSIVE on payments
revision = "shorter_varchar"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("payments", "receipt", type_=sa.String(20))  # <- type-change


def downgrade() -> None:
    safely.change_type("payments", "receipt", sa.String(50))
