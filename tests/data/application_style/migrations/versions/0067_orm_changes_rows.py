"""Change rows whose keys the file knows, in a session of the ORM."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import orm

revision = "0067"
down_revision = "0066"


class Order(orm.declarative_base()):
    __tablename__ = "orders"
    id = sa.Column(sa.BigInteger, primary_key=True)
    state = sa.Column(sa.Text)


def upgrade():
    session = orm.Session(bind=op.get_bind())
    session.bulk_update_mappings(Order, [{"id": 3, "state": "paid"}, {"id": 4, "state": "sent"}])
    session.query(Order).filter(Order.state == "old").delete()  # <- delete-at-once
    session.commit()


def downgrade():  # <- empty-downgrade
    pass
