"""Change tables in comprehensions."""

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"


def names():
    yield "size"
    yield "color"


def upgrade():
    [op.add_column("items", sa.Column(name, sa.Text(), nullable=False)) for name in names()]  # <- required-column
    op.create_table("sizes", *(sa.Column(name, sa.Text()) for name in names()))  # <- two-subjects


def downgrade():
    op.drop_table("sizes")  # <- lossy-downgrade
    for name in names():
        op.drop_column("items", name)  # <- lossy-downgrade
