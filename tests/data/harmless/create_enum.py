"""Create an enum."""

import safely

revision = "create_enum"
down_revision = "schema"


def upgrade() -> None:
    safely.create_enum("parcel_size", "small", "large")


def downgrade() -> None:
    safely.drop_enum("parcel_size")
