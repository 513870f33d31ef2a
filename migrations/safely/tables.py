"""Tables, created and dropped; one that a killed run got to already is left as it is."""

from typing import Any

import sqlalchemy as sa
from alembic import op


def create_table(table_name: str, *columns: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    """Create a table (locks nothing but what its foreign keys refer to, for an instant)."""
    return op.create_table(table_name, *columns, if_not_exists=True, **options)


def drop_table(table_name: str, **options: Any) -> None:
    """Drop a table with its rows (an instant's lock)."""
    op.drop_table(table_name, if_exists=True, **options)
