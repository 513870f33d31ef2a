"""COPY: the only place that takes the driver's connection, which SQLAlchemy has no COPY for."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession


async def copy_connection(session: AsyncSession) -> Any:
    """Return the asyncpg connection on which the session's transaction runs (PostgreSQL).

    SQLAlchemy sends BEGIN with the first statement of the session, and COPY is none of its
    statements: the caller must have executed one before, or COPY runs outside the transaction.
    """
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection
