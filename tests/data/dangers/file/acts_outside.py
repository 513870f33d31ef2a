"""Tell another program about the change."""

import subprocess

import safely

# rehearse: yes, what the program does is outside of the database
# lock: no table
revision = "acts_outside"
down_revision = "schema"


def upgrade() -> None:
    subprocess.run(["/bin/true"], check=True)  # <- acts-outside


def downgrade() -> None:
    safely.nothing_to_undo("the program has no memory")
