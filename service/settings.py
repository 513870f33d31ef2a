"""The settings, which are read from the environment once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import URL

from service.addresses import PORT, AddressError, parse

PATTERNS = {  # by setting: its regular expression, and the words that describe it
    "rate_limit": (r"[1-9]\d{0,8}/[1-9]\d{0,8}", "requests per seconds, such as 600/60"),
    "cors_origins": (
        r"\*|https?://[\w.:\[\]-]+(\s*,\s*https?://[\w.:\[\]-]+)*",
        "origins without a path, such as https://app.example.org, separated by commas, or *",
    ),
    "otel_exporter_otlp_endpoint": (r"https?://\S+", "a URL, such as http://localhost:4318"),
}
# each may also come from the file named by NAME_FILE
SECRETS = ("DATABASE_URL", "READ_DATABASE_URL")

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=512)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=2_147_483)]  # PostgreSQL counts up to 2**31 ms
Lag = Annotated[float, msgspec.Meta(ge=0.5, le=3600)]
SecondsOrZero = Annotated[float, msgspec.Meta(ge=0, le=2_147_483)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class SettingsError(Exception):
    """A setting can't be used; the message is one line for the operator, without secrets."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, by the name of its environment variable in lower case.

    `database_url` may be `embedded`: see `database_address`.
    Times are seconds, sizes are bytes.
    """

    database_url: Text = "embedded"
    read_database_url: str = ""
    replica_lag: Lag = 1.0
    app_role: str = ""
    host: Text = "127.0.0.1"
    port: Port = 8000
    workers: Workers = 1
    tokens_file: str = ""
    allow_anonymous: bool = False
    pool_size: Count = 10
    pool_timeout: Seconds = 1.5
    statement_timeout: Seconds = 2.5
    request_timeout: Seconds = 4.5
    transfer_timeout: Seconds = 3600.0
    transfer_rate: Count = 65536
    max_body: Count = 1024 * 1024
    rate_limit: str = ""
    cors_origins: str = ""
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    access_log: Text = "stderr"
    metrics: bool = True
    metrics_textfile: str = ""
    otel_exporter_otlp_endpoint: str = ""
    drain_time: SecondsOrZero = 0.0

    def __repr__(self) -> str:
        """Return the settings without the database's address, which may contain a password."""
        shown = (name for name in self.__struct_fields__ if name.upper() not in SECRETS)
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def dialect_url(self) -> str:
        """Return the driver's URL without an address, for SQL that is only printed."""
        if self.database_url == "embedded":
            return "postgresql+asyncpg://"
        return async_url(self.database_url).drivername + "://"

    @property
    def database_address(self) -> str:
        """Return the `database_url`; for `embedded` the address of the development database.

        `safely.scratch.embedded` starts that database.
        """
        return "embedded:///users" if self.database_url == "embedded" else self.database_url

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings; raise SettingsError for the first that can't be used."""
        values = {
            name: environ[name.upper()]
            for name in cls.__struct_fields__
            if environ.get(name.upper())
        }
        for name in SECRETS:
            if path := environ.get(f"{name}_FILE"):
                if name.lower() in values:
                    raise SettingsError(f"{name} and {name}_FILE are both set; keep one")
                values[name.lower()] = read_secret(path, f"{name}_FILE")
        settings = convert(values)
        if settings.database_url != "embedded":
            async_url(settings.database_url)
        replica_urls(settings)
        for name, (pattern, words) in PATTERNS.items():
            if (text := getattr(settings, name)) and not re.fullmatch(pattern, text, re.ASCII):
                raise SettingsError(f"{name.upper()} must be {words}")
        return settings


def convert(values: dict[str, Any]) -> Settings:
    """Return settings from texts; raise SettingsError, which shows the variable but no value."""
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        problem, _, field = str(error).partition(" - at `$.")
        raise SettingsError(f"{field.rstrip('`').upper()}: {problem}") from None


def read_secret(path: str, name: str) -> str:
    """Return the content of a secret's file, without the newline that editors add.

    Raise SettingsError if the variable `name` gives a path that can't be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"{name}: can't read {path}: {reason}") from None


def async_url(text: str, name: str = "DATABASE_URL") -> URL:
    """Return a database's URL with its async driver; see `addresses.parse` for what it may say.

    Raise SettingsError, which names the setting; its message never shows the URL, which may contain
    a password.
    """
    try:
        return parse(text)
    except AddressError as error:
        raise SettingsError(f"{name} {error}") from None


def replica_urls(settings: Settings) -> dict[str, URL]:
    """Return the URL of each replica, by `host:port`; raise SettingsError."""
    if not settings.read_database_url:
        return {}
    url = async_url(settings.read_database_url, "READ_DATABASE_URL")
    servers = {settings.database_url, settings.read_database_url} - {"embedded"}
    if any(async_url(server).get_backend_name() == "sqlite" for server in servers):
        raise SettingsError(
            "READ_DATABASE_URL names replicas, which SQLite has not: leave it out, or let both "
            "addresses be PostgreSQL's"
        )
    if url.query.get("target_session_attrs") in {"primary", "read-write"}:
        raise SettingsError(
            "READ_DATABASE_URL asks for the primary, by target_session_attrs: name the replicas, "
            "and leave that out"
        )
    urls: dict[str, URL] = {}
    for host, port in hosts_of(url):
        name = f"{host}:{port}"
        if name in urls:
            raise SettingsError(f"READ_DATABASE_URL names {name} twice: name each replica once")
        query = {key: value for key, value in url.query.items() if key not in {"host", "port"}}
        one = url.set(host=None, port=None, query=query)
        if host.startswith("/"):  # the directory of a socket
            urls[name] = one.update_query_dict({"host": host, "port": str(port)})
        else:
            urls[name] = one.set(host=host, port=port)
    return urls


def hosts_of(url: URL) -> list[tuple[str, int]]:
    """Return the hosts of a parsed URL, or the directories of sockets, each with its port."""
    hosts, ports = url.query.get("host"), url.query.get("port")
    if not isinstance(hosts, str):
        return [((url.host or "localhost").lower(), url.port or PORT)]
    names = hosts.split(",")
    numbers = ports.split(",") if isinstance(ports, str) else [str(PORT)] * len(names)
    return [
        (name if name.startswith("/") else name.lower(), int(number))
        for name, number in zip(names, numbers, strict=True)
    ]
