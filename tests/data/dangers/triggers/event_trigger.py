"""Run a function for each change of the schema."""

from alembic import op

# rehearse: no, event trigger watch: was added
# lock: no table
revision = "event_trigger"
down_revision = "schema"


def upgrade() -> None:
    op.execute(  # <- event-trigger
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch_ddl()"
    )


def downgrade() -> None:
    op.execute("DROP EVENT TRIGGER watch")
