"""Change the scale of a number, which rewrites the table."""

import sqlalchemy as sa
from alembic import op

import safely

# rehearse: no, cannot alter type of a column used
# lock: ACCESS EXCLUSIVE on payments
revision = "numeric_scale"
down_revision = "schema"


def upgrade() -> None:
    op.alter_column("payments", "amount", type_=sa.Numeric(12, 4))  # <- type-change


def downgrade() -> None:
    safely.change_type("payments", "amount", sa.Numeric(10, 2))
