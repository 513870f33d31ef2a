"""Litestar with the repositories of advanced-alchemy on granian, as its documentation shows."""

import os
from typing import Annotated

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyPlugin,
)
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from litestar import Litestar, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy import BigInteger, Identity, make_url
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.peers.serving import serve

POOL = 10  # connections, as many as the service has; 32 are no faster


class UserRow(DefaultBase):
    """A row."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    full_name: Mapped[str]
    email: Mapped[str | None]
    age: Mapped[int | None]


class NewUser(Struct):
    """What creates a user."""

    full_name: Annotated[str, Meta(min_length=1, max_length=200)]
    email: str | None = None
    age: Annotated[int, Meta(ge=0, le=150)] | None = None


class User(Struct):
    """A user as clients see it."""

    id: int
    full_name: str
    email: str | None
    age: int | None


class Page(Struct):
    """A stretch of the list."""

    items: list[User]
    next: int | None


class Users(SQLAlchemyAsyncRepository[UserRow]):
    """The table."""

    model_type = UserRow


async def provide_users(db_session: NamedDependency[AsyncSession]) -> Users:
    """The table, in the request's session."""
    return Users(session=db_session)


@get("/users/{user_id:int}")
async def read_user(user_id: FromPath[int], users: NamedDependency[Users]) -> User:
    """Look a user up."""
    return seen(await users.get(user_id))


@get("/users")
async def list_users(
    users: NamedDependency[Users],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
    after: FromQuery[int] = 0,
) -> Page:
    """A page by keyset; one row more tells whether there is a next."""
    rows = await users.list(UserRow.id > after, OrderBy("id"), LimitOffset(limit + 1, 0))
    more = len(rows) > limit
    return Page([seen(row) for row in rows[:limit]], rows[limit - 1].id if more else None)


@post("/users")
async def create_user(data: JSONBody[NewUser], users: NamedDependency[Users]) -> User:
    """Keep a new user."""
    row = UserRow(full_name=data.full_name, email=data.email, age=data.age)
    return seen(await users.add(row, auto_commit=True))


def seen(row: UserRow) -> User:
    """A row as clients see it."""
    return User(row.id, row.full_name, row.email, row.age)


def create() -> Litestar:
    """The application."""
    config = SQLAlchemyAsyncConfig(
        connection_string=make_url(os.environ["DATABASE_URL"])
        .set(drivername="postgresql+asyncpg")
        .render_as_string(hide_password=False),
        engine_config=EngineConfig(pool_size=POOL, max_overflow=0),
        session_config=AsyncSessionConfig(expire_on_commit=False),
    )
    return Litestar(
        [read_user, list_users, create_user],
        dependencies={"users": Provide(provide_users)},
        plugins=[SQLAlchemyPlugin(config)],
    )


if __name__ == "__main__":
    serve("__main__:create")
