"""FastAPI, pydantic and SQLAlchemy's ORM on uvicorn, as their documentation shows them."""

import os
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, status
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from sqlalchemy import BigInteger, Identity, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

POOL = 10  # connections, as many as the service has; 32 are no faster

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
engine = create_async_engine(url, pool_size=POOL, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    """The tables."""


class UserRow(Base):
    """A row."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    full_name: Mapped[str]
    email: Mapped[str | None]
    age: Mapped[int | None]


class NewUser(BaseModel):
    """What creates a user."""

    full_name: Annotated[str, Field(min_length=1, max_length=200)]
    email: EmailStr | None = None
    age: Annotated[int | None, Field(ge=0, le=150)] = None


class User(BaseModel):
    """A user as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    full_name: str
    email: str | None
    age: int | None


class Page(BaseModel):
    """A stretch of the list."""

    items: list[User]
    next: int | None


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for a request."""
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


@app.get("/users/{user_id}", response_model=User)
async def read_user(user_id: int, session: Session) -> UserRow:
    """Look a user up."""
    user = await session.get(UserRow, user_id)
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    return user


@app.get("/users", response_model=Page)
async def list_users(
    session: Session, limit: Annotated[int, Query(ge=1, le=1000)] = 50, after: int = 0
) -> dict[str, Any]:
    """A page by keyset; one row more tells whether there is a next."""
    statement = select(UserRow).where(UserRow.id > after).order_by(UserRow.id).limit(limit + 1)
    users: Sequence[UserRow] = (await session.scalars(statement)).all()
    more = len(users) > limit
    return {"items": users[:limit], "next": users[limit - 1].id if more else None}


@app.post("/users", response_model=User, status_code=status.HTTP_201_CREATED)
async def create_user(new: NewUser, session: Session) -> UserRow:
    """Keep a new user."""
    user = UserRow(**new.model_dump())
    session.add(user)
    await session.commit()
    return user


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
