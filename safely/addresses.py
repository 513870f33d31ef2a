"""Addresses of databases: what libpq documents of a connection URI, as asyncpg understands it.

A parameter is obeyed, or is the default of asyncpg, or is refused by its name: one that guards the
connection is never left out silently.

The application and its migrations each have this file, word for word, and a test compares the two:
an application that starts need not load Alembic, which every part of `safely` does.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, unquote_plus, urlencode

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DRIVERS = {  # by scheme; those for psycopg have the same parameters, which are libpq's
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "postgresql+psycopg": "postgresql+asyncpg",
    "postgresql+psycopg2": "postgresql+asyncpg",
    "postgresql+psycopg_async": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "sqlite+pysqlite": "sqlite+aiosqlite",
}
PORT = 5432
LARGEST_PORT = 65535
SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
# a password may have a raw / or ?, which SQLAlchemy accepts, too
PARTS = re.compile(
    r"(?:(?P<user>[^:/?]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")
IPV6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%.+)?")
NAME = re.compile(r"[a-z][a-z_]*")

ALIASES = {"ssl": "sslmode", "database": "dbname"}  # asyncpg's names: libpq's
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = ("verify-ca", "verify-full")
TLS_VERSION = r"TLSv1(\.[123])?"
OBEYED = {  # by parameter: its values as a regular expression
    "connect_timeout": r"[1-9]\d{0,5}",
    "gsslib": "gssapi|sspi",
    "krbsrvname": ".+",
    "options": "(?s:.+)",
    "passfile": ".+",
    "prepared_statement_cache_size": r"\d{1,6}",  # SQLAlchemy's
    "ssl_max_protocol_version": TLS_VERSION,
    "ssl_min_protocol_version": TLS_VERSION,
    "sslcert": ".+",
    "sslcrl": ".+",
    "sslkey": ".+",
    "sslmode": "|".join(SSL_MODES),
    "sslnegotiation": "postgres|direct",
    "sslrootcert": "(?!system$).+",
    "target_session_attrs": "any|primary|standby|read-write|read-only|prefer-standby",
}
WORDS = {  # that describe the values of such a parameter
    "connect_timeout": "whole seconds, at least 1",
    "gsslib": "gssapi or sspi",
    "prepared_statement_cache_size": "a number",
    "ssl_max_protocol_version": "TLSv1.2 or TLSv1.3",
    "ssl_min_protocol_version": "TLSv1.2 or TLSv1.3",
    "sslmode": f"one of {', '.join(SSL_MODES)}",
    "sslnegotiation": "postgres or direct",
    "sslrootcert": "a file, such as /etc/ssl/certs/ca-certificates.crt for the system's",
    "target_session_attrs": "any, primary, standby, read-write, read-only or prefer-standby",
}
FILES = ("sslcert", "sslcrl", "sslkey", "sslrootcert")
BY_SQLALCHEMY = ("prepared_statement_cache_size",)
DEFAULTS = {  # by parameter: the values that ask for what asyncpg does anyway; None: any value
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "utf-8", "unicode"),
    "fallback_application_name": None,  # sessions have a name
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "keepalives": ("0",),
    "load_balance_hosts": ("disable",),
    "max_protocol_version": ("3.0", "3.2", "latest"),
    "min_protocol_version": ("3.0",),
    "replication": ("0", "false", "no", "off"),
    "requiressl": ("0",),
    "sslcertmode": ("allow",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
TLS = "prove the server by sslmode=verify-full and sslrootcert=FILE instead"
REFUSED = {  # by parameter: why asyncpg can't obey it, and what to write
    "application_name": "sessions are named after their build, which purge looks for: leave it out",
    "channel_binding": f"asyncpg has no channel binding: leave it out, and {TLS}",
    "client_encoding": "asyncpg speaks UTF-8: leave it out",
    "gssdelegation": "asyncpg delegates no credentials: leave it out",
    "gssencmode": f"asyncpg does not encrypt by GSSAPI: leave it out, and {TLS}",
    "hostaddr": "asyncpg looks names up itself: write the address in the place of the host",
    "keepalives": "asyncpg leaves keepalives to the operating system: leave it out",
    "keepalives_count": "asyncpg leaves keepalives to the operating system: leave it out",
    "keepalives_idle": "asyncpg leaves keepalives to the operating system: leave it out",
    "keepalives_interval": "asyncpg leaves keepalives to the operating system: leave it out",
    "load_balance_hosts": "asyncpg tries the hosts in their order: leave it out",
    "max_protocol_version": "asyncpg speaks version 3.0 of the protocol: leave it out",
    "min_protocol_version": "asyncpg speaks version 3.0 of the protocol: leave it out",
    "oauth_client_id": "asyncpg has no OAuth: use a password or a certificate",
    "oauth_client_secret": "asyncpg has no OAuth: use a password or a certificate",
    "oauth_issuer": "asyncpg has no OAuth: use a password or a certificate",
    "oauth_scope": "asyncpg has no OAuth: use a password or a certificate",
    "replication": "a connection for replication runs no queries: leave it out",
    "require_auth": f"asyncpg answers whatever the server asks for: leave it out, and {TLS}",
    "requirepeer": "asyncpg does not check who owns a socket: leave it out",
    "requiressl": "write sslmode=require",
    "scram_client_key": "asyncpg needs the password: give that",
    "scram_server_key": "asyncpg needs the password: give that",
    "service": "asyncpg reads a part of that file only: write host, dbname and user here",
    "servicefile": "asyncpg reads a part of that file only: write host, dbname and user here",
    "sslcertmode": "asyncpg sends a certificate where it has one: leave it out",
    "sslcompression": "TLS is not compressed any more: leave it out",
    "sslcrldir": "asyncpg reads one file: name it as sslcrl",
    "sslkeylogfile": "asyncpg has the variable SSLKEYLOGFILE instead",
    "sslpassword": "addresses are printed, and this would be: keep the key in a file without one",
    "sslsni": "asyncpg always sends the name of the host: leave it out",
    "tcp_user_timeout": "asyncpg leaves timeouts of TCP to the operating system: leave it out",
}
# what libpq reads from the environment, and asyncpg does not
GUARDS = ("channel_binding", "gssencmode", "require_auth", "requirepeer", "sslcertmode")

# a host that is starting, stopping, or closes the connection: another one may answer
NEXT_HOST = (
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ConnectionDoesNotExistError,
)


class AddressError(ValueError):
    """An address can't be used. The message is the rest of a sentence, and shows no password."""


def parse(address: str | URL) -> URL:
    """Return the URL with its async driver, and with libpq's parameters that asyncpg can obey.

    `for_asyncpg` translates those when a connection is made. Raise AddressError for what can't be
    understood or obeyed. What `parse` returns can be parsed again.
    """
    if isinstance(address, URL):
        address = address.render_as_string(hide_password=False)
    address = address.strip()
    scheme = SCHEME.match(address)
    if scheme is None:
        raise AddressError(
            "is not a URL; write postgresql://user:password@host/database or sqlite:///file"
        )
    if scheme[1] not in DRIVERS:
        raise AddressError(
            f"has the unknown scheme {scheme[1]!r}: write postgresql (or postgresql+asyncpg) or "
            "sqlite (or sqlite+aiosqlite)"
        )
    driver = DRIVERS[scheme[1]]
    if driver.startswith("sqlite"):
        return sqlite(address).set(drivername=driver)
    return postgresql(address[scheme.end() :]).set(drivername=driver)


def sqlite(address: str) -> URL:
    """Return the URL of a file; raise AddressError for a database in memory, and for parameters."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise AddressError("is not a URL; write sqlite:///file") from None
    if url.query:
        raise AddressError("has options, and SQLite has none here: end it with the file")
    if not url.database or url.database == ":memory:" or url.host:
        raise AddressError(
            "names no file, and SQLite needs a file: sqlite:///relative or ////absolute"
        )
    return url


def postgresql(text: str) -> URL:
    """Return the URL for what follows the scheme; see `parse`."""
    parts = PARTS.fullmatch(text)
    if parts is None or "@" in text[parts.start("hosts") :]:
        raise AddressError("has an @ too many: write each but the last before the host as %40")
    if re.search(r"\?.*=", parts["password"] or "", re.DOTALL):
        # or it is a query with an @ in it; what is taken for the host might be a secret
        raise AddressError("has an @ after a ?: write ? in a password as %3F, @ elsewhere as %40")
    parameters = pairs(parts["query"] or "")
    hosts, ports = hosts_and_ports(parts["hosts"], parameters)
    query = {name: value for name, value in parameters.items() if name in OBEYED}
    check_values(query)
    location: dict[str, Any] = {}
    if len(hosts) == 1 and not hosts[0].startswith("/"):
        location = {"host": hosts[0], "port": ports[0]}
    elif hosts:
        query["host"] = ",".join(hosts)
        if len(hosts) > 1 or ports[0]:
            query["port"] = ",".join(str(port or PORT) for port in ports)
    elif ports[0]:
        location = {"port": ports[0]}
    database = parameters.get("dbname", unquote(parts["database"] or ""))
    if not database:
        raise AddressError("names no database; end it with /name")
    return URL.create(
        DRIVERS["postgresql"],
        username=parameters.get("user", decoded(parts["user"])),
        password=parameters.get("password", decoded(parts["password"])),
        database=database,
        query=query,
        **location,
    )


def decoded(text: str | None) -> str | None:
    """Return a part of a URL without percent-encoding; None where it is missing."""
    return None if text is None else unquote(text)


def pairs(query: str) -> dict[str, str]:
    """Return the parameters, under libpq's names; raise AddressError for those not understood.

    Several hosts are joined by commas. Parameters that asyncpg obeys by default are left out, and
    so are empty ones, which are the defaults to libpq.
    """
    known = {*OBEYED, *DEFAULTS, *REFUSED, "host", "port", "user", "password", "dbname"}
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        raw, equals, value = part.partition("=")
        name = ALIASES.get(unquote(raw), unquote(raw))
        if not equals or not NAME.fullmatch(name):
            raise AddressError("has a parameter that is not of the form name=value")
        if name not in known:
            raise AddressError(f"has the unknown option {name!r}: known are those of libpq")
        # SQLAlchemy writes a space as +; nobody means one in a password
        text = unquote(value) if name == "password" else unquote_plus(value)
        if not text:
            continue
        if name == "host" and name in parameters:
            text = f"{parameters[name]},{text}"
        elif name in parameters:
            raise AddressError(f"gives an option more than once: {name}")
        parameters[name] = text
    for name in GUARDS:
        variable = f"PG{name.replace('_', '').upper()}"
        refuse(name, os.environ.get(variable, ""), variable)
    for name, text in parameters.items():
        refuse(name, text, name)
    return {name: text for name, text in parameters.items() if name not in DEFAULTS}


def refuse(name: str, value: str, spelling: str) -> None:
    """Raise AddressError for a value that asyncpg can't obey; `spelling` is how it was written."""
    defaults = DEFAULTS.get(name, ())
    if value and defaults is not None and name in REFUSED and value.lower() not in defaults:
        raise AddressError(f"has an option that can't be obeyed, {spelling}: {REFUSED[name]}")


def check_values(values: Mapping[str, str]) -> None:
    """Raise AddressError for a value that is none of its parameter, or a file that is missing."""
    for name, value in values.items():
        if not re.fullmatch(OBEYED[name], value):
            raise AddressError(f"has a wrong {name}: it is {WORDS.get(name, 'a text')}")
    for name in FILES:
        if name in values and not os.access(values[name], os.R_OK):
            raise AddressError(f"names a file for {name} that can't be read")
    mode = values.get("sslmode", "")
    own = "~/.postgresql/root.crt"
    authority = values.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or own
    if mode in VERIFYING and not os.access(os.path.expanduser(authority), os.R_OK):  # noqa: PTH111  # as asyncpg
        raise AddressError(
            f"has sslmode={mode}, and there is no certificate of an authority to verify with: name "
            "its file by sslrootcert=FILE"
        )
    if values.get("sslnegotiation") == "direct" and mode not in {"require", *VERIFYING}:
        raise AddressError("has sslnegotiation=direct, which needs sslmode=require or stricter")


def hosts_and_ports(text: str, parameters: Mapping[str, str]) -> tuple[list[str], list[int | None]]:
    """Return the hosts, or directories of sockets, and the port of each; None: the default.

    Where no host is named, that is the port of the default host.
    """
    if "host" in parameters:
        pieces = [host_in_query(piece) for piece in parameters["host"].split(",")]
    else:
        pieces = [host_in_url(piece) for piece in text.split(",")]
    hosts, ports = [host for host, _ in pieces], [port for _, port in pieces]
    if not all(hosts):
        if len(hosts) > 1:
            raise AddressError("has an empty name among its hosts")
        hosts = []
    if "port" in parameters:
        ports = [port_of(port) for port in parameters["port"].split(",")]
        if len(ports) == 1:
            ports *= max(1, len(hosts))
        if len(ports) != max(1, len(hosts)):
            raise AddressError("has another number of ports than of hosts")
    return hosts, ports


def host_in_url(piece: str) -> tuple[str, int | None]:
    """Return the host and the port of `host:port` or `[IPv6]:port`; either may be missing."""
    parts = HOST.fullmatch(piece)
    if parts is None:
        raise AddressError("is not a URL: its host or its port can't be read")
    port = port_of(parts["port"]) if parts["port"] else None
    return unquote(parts["ipv6"] or parts["name"]), port


def host_in_query(piece: str) -> tuple[str, int | None]:
    """Return a directory, an IPv6 address without brackets, or what a URL has, as host and port."""
    if piece.startswith("/") or IPV6.fullmatch(piece):
        return piece, None
    return host_in_url(piece)


def port_of(text: str) -> int:
    """Return a port; raise AddressError, which does not show it: it may be a password."""
    if not text.isdecimal() or not 0 < int(text) <= LARGEST_PORT:
        raise AddressError(f"has a wrong port: port is a number, at most {LARGEST_PORT}")
    return int(text)


def for_asyncpg(_dialect: Any, _entry: Any, _arguments: Any, options: dict[str, Any]) -> None:
    """Give asyncpg the parameters of an address; a listener of an engine's `do_connect`.

    Most are understood in a DSN only. `options` become a setting of the session, which those that
    the engine makes go before. Several hosts are tried by `connect_to_one`.
    """
    names = OBEYED.keys() - BY_SQLALCHEMY
    parameters = {name: options.pop(name) for name in sorted(names & options.keys())}
    hosts = options["host"] if isinstance(options.get("host"), list) else []
    if timeout := parameters.pop("connect_timeout", None):
        options["timeout"] = float(timeout) * max(1, len(hosts))  # libpq's is each host's own
    if parameters:
        options["dsn"] = f"postgresql:///?{urlencode(parameters)}"
    if len(hosts) > 1:
        options["async_creator_fn"] = connect_to_one
        options["target_session_attrs"] = parameters.get("target_session_attrs")


async def connect_to_one(
    *arguments: Any,
    host: Sequence[str],
    port: Sequence[int],
    timeout: float,  # noqa: ASYNC109  # asyncpg's signature
    target_session_attrs: str | None,
    **options: Any,
) -> Any:
    """Return a connection to the first of the hosts that is of the kind that is asked for.

    asyncpg would give the first host all the time, so that a frozen one hides the others. Here each
    gets its part of what is left, and those after it what it does not use.
    Where one host answers and none is of that kind, that is raised and not what became of the rest.
    """
    kinds = [target_session_attrs]
    if target_session_attrs == "prefer-standby":
        kinds = ["standby", "any"]
    deadline = time.monotonic() + timeout
    attempts = [(kind, *place) for kind in kinds for place in zip(host, port, strict=True)]
    failure: Exception | None = None
    for number, (kind, name, number_of_port) in enumerate(attempts):
        part = max(deadline - time.monotonic(), 0.0) / (len(attempts) - number)
        try:
            return await asyncpg.connect(
                *arguments,
                host=name,
                port=number_of_port,
                timeout=part,
                target_session_attrs=kind,
                **options,
            )
        except asyncpg.TargetServerAttributeNotMatched as error:
            failure = error
        except (OSError, *NEXT_HOST) as error:
            if not isinstance(failure, asyncpg.TargetServerAttributeNotMatched):
                failure = error
    assert failure is not None  # noqa: S101  # there are hosts
    raise failure


def why_no_host(error: asyncpg.TargetServerAttributeNotMatched) -> str:
    """Return why none of the hosts that answered will do, by what was asked of them."""
    if any(kind in str(error) for kind in ("read-write", "primary")):
        return "no host accepts writes: the cluster has no leader, or it can't be reached"
    return "none of the hosts is of the kind that target_session_attrs asks for"
