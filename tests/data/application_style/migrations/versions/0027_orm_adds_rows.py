"""Add a row by a session."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import orm

revision = "0027"
down_revision = "0026"


class Base(orm.DeclarativeBase):
    pass


class Setting(Base):
    __tablename__ = "settings"
    key = sa.Column(sa.Text, primary_key=True)
    value = sa.Column(sa.Text)


def upgrade():
    with orm.Session(op.get_bind()) as session:
        session.add(Setting(key="country", value="DE"))
        session.flush()
        session.execute(sa.update(Setting).values(value="?"))  # <- backfill-at-once
        session.commit()


def downgrade():
    op.execute("DELETE FROM settings WHERE key = 'country'")  # <- lossy-downgrade
