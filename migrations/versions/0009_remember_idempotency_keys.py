"""remember idempotency keys.

What:   the table `idempotency_key`: what a request with an Idempotency-Key was answered, under a
        hash of client and key, until it expires.
Why:    who repeats a request with its key gets the same answer, and nothing is created twice.
        Nobody sweeps the table: who adds an answer removes two that have expired, found by
        `idx_idempotency_key_expires`.
Lock:   none; the table is new. The index waits for transactions that are older than it.
Older builds: don't see it.
Undone: the table is set aside with its answers.
"""

import sqlalchemy as sa

import safely

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    safely.create_table(
        "idempotency_key",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=safely.f("pk_idempotency_key")),
    )
    safely.create_index("idx_idempotency_key_expires", "idempotency_key", ["expires"])


def downgrade() -> None:
    safely.drop_index("idx_idempotency_key_expires", "idempotency_key")
    safely.drop_table("idempotency_key")
