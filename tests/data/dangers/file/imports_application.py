"""Import the models, which go on changing."""

import sqlalchemy as sa

import safely
from service.models import SCHEMA_REVISION  # <- imports-application

# rehearse: yes, it hurts on the day when the module has changed
# lock: no table
revision = "imports_application"
down_revision = "schema"


def upgrade() -> None:
    safely.add_column("customers", sa.Column(SCHEMA_REVISION, sa.Text()))


def downgrade() -> None:
    safely.drop_column("customers", SCHEMA_REVISION)
