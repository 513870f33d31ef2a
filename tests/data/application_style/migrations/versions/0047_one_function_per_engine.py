"""Change several databases, as the multidb template has it."""

from alembic import op

revision = "0047"
down_revision = "0046"


def upgrade(engine_name):  # <- unrendered
    globals()["upgrade_%s" % engine_name]()  # <- unseen


def downgrade(engine_name):  # <- unrendered
    globals()["downgrade_%s" % engine_name]()  # <- unseen


def upgrade_shop():
    op.execute("UPDATE items SET title = ''")


def downgrade_shop():
    pass
