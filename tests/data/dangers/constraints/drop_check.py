"""Drop a check in plain SQL."""

from alembic import op

import safely

# rehearse: yes, the values that clients write are as before; what builds expect is not known
# lock: ACCESS EXCLUSIVE on customers
revision = "drop_check"
down_revision = "schema"


def upgrade() -> None:
    op.execute("ALTER TABLE customers DROP CONSTRAINT ck_customers_age")  # <- drop-constraint


def downgrade() -> None:
    safely.create_check_constraint("ck_customers_age", "customers", "age >= 0")
