"""Delete rows, one by one, in a session of the ORM."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import orm

revision = "0066"
down_revision = "0065"


class Order(orm.declarative_base()):
    __tablename__ = "orders"
    id = sa.Column(sa.BigInteger, primary_key=True)
    state = sa.Column(sa.Text)


def upgrade():
    session = orm.Session(bind=op.get_bind())
    for order in session.scalars(sa.select(Order).where(Order.state == "old")):  # <- reads-database
        session.delete(order)  # <- unseen
    session.commit()


def downgrade():  # <- empty-downgrade
    pass
