"""Do two things in one revision."""

import sqlalchemy as sa

import safely

# rehearse: yes, it hurts the operator who has to undo one of the two
# lock: SHARE UPDATE EXCLUSIVE on customers
revision = "two_subjects"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("nickname", sa.Text()))
    safely.create_index("ix_customers_age", "customers", ["age"])  # <- two-subjects


def downgrade() -> None:
    safely.drop_index("ix_customers_age", "customers")
    safely.drop_column("customers", "nickname")
