"""Run a script of SQL."""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade():
    op.execute(  # <- plain-index
        """
        CREATE TABLE tags (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
        CREATE INDEX ix_tags_name ON tags (name);
        ALTER TABLE items ADD COLUMN tag_id bigint;
        CREATE INDEX ix_items_tag ON items (tag_id);
        """
    )


def downgrade():
    op.execute("ALTER TABLE items DROP COLUMN tag_id; DROP TABLE tags")  # <- lossy-downgrade
