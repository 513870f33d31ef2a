"""Alter every table in a block."""

from alembic import op

import safely

# rehearse: yes, the loop comes across no table
# lock: no table
revision = "do_block_with_loop"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- unseen
        """
        DO $$
        DECLARE name text;
        BEGIN
            FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'no such schema' LOOP
                EXECUTE format('ALTER TABLE %I ADD COLUMN tenant_id bigint', name);
            END LOOP;
        END
        $$
        """
    )


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
