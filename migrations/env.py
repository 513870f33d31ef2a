"""Alembic's async template, with `safely` around its steps."""

import logging
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection

from safely.env import Project, create_engine, guarded, in_one_line, offline_options, run
from service.models import SCHEMA_REVISION, Base
from service.settings import Settings, SettingsError

logging.basicConfig(level=logging.INFO, format="%(levelname)s [%(name)s] %(message)s")
logging.getLogger("alembic.util").setLevel("CRITICAL")  # Alembic prints its errors as well
with in_one_line(SettingsError):
    settings = Settings.from_environment(os.environ)
project = Project(
    name="users",
    metadata=Base.metadata,
    build=SCHEMA_REVISION,
    app_role=settings.app_role,
    numbered=True,
    metrics_textfile=settings.metrics_textfile,
)


def run_migrations_offline() -> None:
    context.configure(
        url=settings.dialect_url,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **offline_options(project),
    )
    with context.begin_transaction():
        context.run_migrations()


def do_run_migrations(connection: Connection, options: dict[str, Any]) -> None:
    plugins = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]
    compared: dict[str, Any] = {"compare_server_default": True, "autogenerate_plugins": plugins}
    context.configure(connection=connection, **compared, **options)
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations() -> None:
    engine = create_engine(settings.database_address)
    async with guarded(project, engine) as steps:
        async for step in steps:
            async with step as connection:
                await connection.run_sync(do_run_migrations, step.options)
    await engine.dispose()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run(run_async_migrations())
