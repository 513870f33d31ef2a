"""Store a document as JSON, which has no operators of equality."""

import sqlalchemy as sa

import safely

# rehearse: yes, the type keeps what is written; the advice is about later
# lock: ACCESS EXCLUSIVE on customers
revision = "json_column"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column("settings", sa.JSON()))  # <- prefer-jsonb


def downgrade() -> None:
    safely.drop_column("customers", "settings")
