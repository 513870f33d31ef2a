"""The tables as they stand at the head of migrations/versions.

To change them: edit here, then `alembic revision --autogenerate -m "what it does"`.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    func,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SCHEMA_REVISION = "0009"  # the revision that these models describe


class Base(DeclarativeBase):
    """The base of all models; names every constraint, so that revisions and errors can name it."""

    metadata = MetaData(
        naming_convention={
            "ix": "idx_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class folded(FunctionElement[str]):  # noqa: N801  # reads as the SQL function that it is
    """SQL function: a text in lower case, ordered by code points: `folded(User.full_name)`.

    The collation is explicit because the database's default may order differently, and then
    neither a prefix range nor keyset paging could use the index. SQLite orders by code points
    by default, and folds ASCII letters only.
    """

    inherit_cache = True
    name = "folded"
    type = Text()


@compiles(folded)
def compile_folded(element: folded, compiler: SQLCompiler, **options: Any) -> str:
    """Render `folded` for SQLite."""
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(folded, "postgresql")
def compile_folded_c(element: folded, compiler: SQLCompiler, **options: Any) -> str:
    """Render `folded` for PostgreSQL."""
    return f'lower({compiler.process(element.clauses, **options)}) COLLATE "C"'


class User(Base):
    """A user: a name, and optionally an e-mail address and an age."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True
    )
    full_name: Mapped[str] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    age: Mapped[int | None] = mapped_column(
        Integer, CheckConstraint("age BETWEEN 0 AND 150", name="age")
    )

    __table_args__ = (
        Index("idx_user_full_name", folded(full_name), id),  # noqa: A003  # the column
        Index("idx_user_email", func.lower(email), unique=True),
        # without it SQLite would reuse the id of the last user after that user is deleted
        {"sqlite_autoincrement": True},
    )


class IdempotencyKey(Base):
    """The response to a request with an Idempotency-Key, stored to be sent again."""

    __tablename__ = "idempotency_key"

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)  # hash of client and key
    request: Mapped[bytes] = mapped_column(LargeBinary)  # hash of the request
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[bytes] = mapped_column(LargeBinary)  # JSON, of the headers that are sent again
    body: Mapped[bytes] = mapped_column(LargeBinary)
    expires: Mapped[int] = mapped_column(BigInteger)  # seconds since 1970

    __table_args__ = (Index("idx_idempotency_key_expires", expires),)
