"""${message}.

What:   …
Why:    …
Lock:   …
Older builds: …
"""

import sqlalchemy as sa
from alembic import op

from migrations import safely
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else 'raise NotImplementedError("write what this revision does")'}


def downgrade() -> None:
    ${downgrades if downgrades else 'raise NotImplementedError("write how it is undone, or safely.nothing_to_undo(why)")'}
