"""Run a program, and a thread."""

import subprocess
import threading

from alembic import op

revision = "0057"
down_revision = "0056"


def upgrade():
    thread = threading.Thread(target=op.execute, args=("UPDATE items SET sku = NULL",))
    thread.start()  # <- acts-outside
    op.drop_column("items", "color")  # <- plain-drop


def downgrade():
    subprocess.run(["/bin/true"], check=True)  # <- acts-outside
