"""Create a table unless it exists."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    if not sa.inspect(op.get_bind()).has_table("coupons"):  # <- reads-database
        op.create_table(  # <- raw-op
            "coupons",
            sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
            sa.Column("code", sa.Text()),
        )
    op.create_index("ix_coupons_code", "coupons", ["code"])  # <- raw-op


def downgrade():
    op.drop_index("ix_coupons_code", table_name="coupons")
    op.drop_table("coupons")  # <- lossy-downgrade
