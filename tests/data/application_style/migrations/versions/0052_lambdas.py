"""Change the settings."""

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"


upgrade = lambda: [op.add_column("settings", sa.Column(name, sa.Text())) for name in ("unit", "hint")]  # <- raw-op
downgrade = lambda: [op.drop_column("settings", name) for name in ("hint", "unit")]  # <- lossy-downgrade
