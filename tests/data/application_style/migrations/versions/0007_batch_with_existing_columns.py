"""Change columns in a batch."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade():
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.add_column(sa.Column("phone", sa.String(length=20), nullable=True))
        batch_op.alter_column(  # <- two-subjects, type-change
            "age",
            existing_type=sa.INTEGER(),
            type_=sa.BigInteger(),
            existing_nullable=True,
        )
        batch_op.alter_column("name", existing_type=sa.TEXT(), nullable=False)  # <- not-null-at-once
        batch_op.create_index(batch_op.f("ix_users_phone"), ["phone"], unique=False)  # <- plain-index


def downgrade():
    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_users_phone"))  # <- plain-index-drop
        batch_op.alter_column("name", existing_type=sa.TEXT(), nullable=True)  # <- raw-op
        batch_op.drop_column("phone")  # <- lossy-downgrade
