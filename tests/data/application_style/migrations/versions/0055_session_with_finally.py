"""Change rows by a session, and close it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import sessionmaker

revision = "0055"
down_revision = "0054"


def upgrade():
    session = sessionmaker(bind=op.get_bind())()
    try:
        session.execute(sa.text("UPDATE orders SET channel = 'web' WHERE channel IS NULL"))  # <- backfill-at-once
        session.commit()
    except:
        session.rollback()
        raise
    finally:
        session.close()
    op.drop_column("items", "price")  # <- plain-drop, two-subjects


def downgrade():
    with sessionmaker(op.get_bind()).begin() as session:
        session.execute(sa.text("DELETE FROM items"))  # <- lossy-downgrade
