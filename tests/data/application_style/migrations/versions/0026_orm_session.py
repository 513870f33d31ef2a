"""Change rows by a session."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session, declarative_base

revision = "0026"
down_revision = "0025"


Base = declarative_base()


class User(Base):
    __tablename__ = "users"
    id = sa.Column(sa.BigInteger, primary_key=True)
    status = sa.Column(sa.Text)
    nickname = sa.Column(sa.Text)


def upgrade():
    session = Session(bind=op.get_bind())
    session.query(User).filter(User.status == "gone").delete()  # <- delete-at-once
    session.query(User).update({"nickname": "none"})  # <- backfill-at-once
    for user in session.query(User).all():  # <- reads-database
        user.nickname = user.status  # <- unseen
    session.commit()
    op.drop_column("users", "nickname")  # <- plain-drop


def downgrade():
    op.add_column("users", sa.Column("nickname", sa.Text()))  # <- raw-op
