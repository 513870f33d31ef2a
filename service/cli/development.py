"""The development database of the commands that need one, where DATABASE_URL names none."""

import msgspec

from service.settings import Settings, SettingsError


def with_database(settings: Settings) -> Settings:
    """Return the settings with the URL of a database that runs.

    The development database is started, and used until the process exits. Raise SettingsError
    where that fails, or where there is none, as in production images.
    """
    if settings.database_url != "embedded":
        return settings
    try:
        # production images leave it out, and Alembic comes with it: 8 MiB
        from alembic.util import CommandError  # noqa: PLC0415

        from safely.scratch import embedded  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SettingsError(
            "DATABASE_URL is not set, and only a development checkout has a database of its own: "
            "set DATABASE_URL=postgresql://user:password@host/database"
        ) from None
    try:
        database = embedded.locate(settings.database_address)
        database.start()
    except CommandError as error:
        raise SettingsError(f"{error}; set DATABASE_URL to use another database") from error
    return msgspec.structs.replace(settings, database_url=database.url)
