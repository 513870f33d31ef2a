"""Addresses of databases: what libpq documents of them, for the service and for migrations."""

import asyncio
import shutil
import socket
import ssl
import string
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote

import psycopg.pq
import pytest
from alembic.util import CommandError
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from safely.database import connected, engine_for, place_of, usable
from service import addresses
from service.addresses import AddressError, parse
from service.database import create_engine
from service.settings import Settings, SettingsError, async_url
from tests.app import serving
from tests.commands import run_alembic
from tests.databases import Databases, name_of
from tests.paths import ROOT
from tests.replication import standby_of


def test_the_service_and_safely_understand_the_same() -> None:
    own, other = (ROOT / place / "addresses.py" for place in ("service", "safely"))
    assert own.read_bytes() == other.read_bytes()


READ = {  # an address, and the same one as asyncpg's driver of SQLAlchemy has it
    "postgres://u:p@h/d": "postgresql+asyncpg://u:p@h/d",
    "postgresql://u:p%40%25@h:5433/d": "postgresql+asyncpg://u:p%40%25@h:5433/d",
    "postgresql+asyncpg://u@h/d": "postgresql+asyncpg://u@h/d",
    "postgresql+psycopg://u:p@h/d": "postgresql+asyncpg://u:p@h/d",
    "postgresql+psycopg2://u@h:5433/d": "postgresql+asyncpg://u@h:5433/d",
    "  postgresql://h/d\n": "postgresql+asyncpg://h/d",
    "postgresql:///d": "postgresql+asyncpg:///d",
    "postgresql://u@tenant:p@h/d": "postgresql+asyncpg://u%40tenant:p@h/d",
    "postgresql://[::1]:5433/d": "postgresql+asyncpg://[::1]:5433/d",
    "postgresql:///d?host=::1": "postgresql+asyncpg://[::1]/d",
    "postgresql:///?host=h&port=5433&dbname=d&user=u&password=p+q%2Br":
        "postgresql+asyncpg://u:p+q+r@h:5433/d",
    "postgresql://%2Frun%2Fpostgresql/d": "postgresql+asyncpg:///d?host=%2Frun%2Fpostgresql",
    "postgresql://u@/d?host=/run": "postgresql+asyncpg://u@/d?host=%2Frun",
    "postgresql://u:p@a,b:5433/d": "postgresql+asyncpg://u:p@/d?host=a%2Cb&port=5432%2C5433",
    "postgresql://u@/d?host=a,b&port=1,2": "postgresql+asyncpg://u@/d?host=a%2Cb&port=1%2C2",
    "postgresql://u@/d?host=a,b&port=1": "postgresql+asyncpg://u@/d?host=a%2Cb&port=1%2C1",
    "postgresql://u@/d?host=a:1&host=b": "postgresql+asyncpg://u@/d?host=a%2Cb&port=1%2C5432",
    "postgresql://[::1]:1,h/d": "postgresql+asyncpg:///d?host=%3A%3A1%2Ch&port=1%2C5432",
    "postgresql://h/d?ssl=require": "postgresql+asyncpg://h/d?sslmode=require",
    "postgresql://h/d?sslmode=": "postgresql+asyncpg://h/d",
    "postgresql://h/d?sslmode=require&channel_binding=prefer&gssencmode=disable&keepalives=0"
    "&client_encoding=UTF8&fallback_application_name=x&sslsni=1":
        "postgresql+asyncpg://h/d?sslmode=require",
    "postgresql://h/d?options=-c%20geqo%3Doff&connect_timeout=9&target_session_attrs=primary":
        "postgresql+asyncpg://h/d?connect_timeout=9&options=-c+geqo%3Doff"
        "&target_session_attrs=primary",
    "sqlite:///users.sqlite": "sqlite+aiosqlite:///users.sqlite",
    "sqlite+aiosqlite:////var/users.sqlite": "sqlite+aiosqlite:////var/users.sqlite",
    "sqlite+pysqlite:////var/a@b.sqlite": "sqlite+aiosqlite:////var/a%40b.sqlite",
}  # fmt: skip


@pytest.mark.parametrize("address", READ)
def test_an_address_is_read_as_libpq_reads_it(address: str) -> None:
    url = parse(address)
    assert url.render_as_string(hide_password=False) == READ[address]
    assert parse(url) == parse(READ[address]) == url
    assert async_url(address) == usable(address) == url


REFUSED = {  # an address, and words of the line about it
    "postgresql://u:hunter2@h/d?channel_binding=require": "channel_binding: asyncpg has no",
    "postgresql://u:hunter2@h/d?gssencmode=require": "gssencmode",
    "postgresql://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/no/such/file": "for sslrootcert",
    "postgresql://u:hunter2@h/d?sslmode=verify-full&sslrootcert=system": "wrong sslrootcert",
    "postgresql://u:hunter2@h/d?sslnegotiation=direct": "sslmode=require or stricter",
    "postgresql://u:hunter2@h/d?connect_timeout=0": "whole seconds",
    "postgresql://u:hunter2@h/d?connect_timeout=soon": "whole seconds",
    "postgresql://u:hunter2@h/d?target_session_attrs=any-but-this": "read-write",
    "postgresql://u:hunter2@h/d?service=x": "service: asyncpg reads a part",
    "postgresql://u@h/d?sslpassword=hunter2": "sslpassword",
    "postgresql://u:hunter2@a,,b/d": "an empty name",
    "postgresql://u:hunter2@a,b/d?port=1,2,3": "another number of ports",
    "postgresql://u:hunter2@h:99999/d": "wrong port",
    "postgresql://u:hunter2/d": "can't be read",
    "postgresql://u:p@hunter2@h/d": "an @ too many",
    "postgresql://h:5432/d?password=p@hunter2": "an @ after a ?",
    "postgresql://h/d?password=p@hunter2": "an @ too many",
    "postgresql://u:p@h/d?hunter2": "not of the form name=value",
    "postgresql://u:hunter2@h/d?Hunter=2": "not of the form name=value",
    "postgresql+pg8000://u:hunter2@h/d": "unknown scheme 'postgresql+pg8000'",
    "u:hunter2@h/d": "is not a URL",
    "hunter2": "is not a URL",
    "mysql://u:hunter2@h/d": "unknown scheme 'mysql'",
    "postgresql://u:hunter2@h:port/d": "is not a URL",
    "postgresql://u:hunter2@h/": "names no database",
    "postgresql://u:hunter2@h/d?color=red": "unknown option 'color'",
    "postgresql://u:hunter2@h/d?sslmode=maybe": "one of disable, allow",
    "postgresql://u:hunter2@h/d?port=x": "port is a number",
    "postgresql://u:hunter2@h/d?sslmode=allow&sslmode=require": "an option more than once",
    "sqlite://": "needs a file",
    "sqlite:///:memory:": "needs a file",
    "sqlite:///users.sqlite?key=hunter2": "has options",
    "sqlite://hunter2/x": "needs a file",
}


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_can_not_be_obeyed_is_refused_without_its_password(address: str) -> None:
    for kind, read in KINDS.items():
        with pytest.raises(kind) as refusal:
            read(address)
        assert REFUSED[address] in str(refusal.value)
        trace = "".join(traceback.format_exception(refusal.value))
        assert "hunter2" not in f"{refusal.value!r} {trace}"


def settings_of(address: str) -> Settings:
    return Settings.from_environment({"DATABASE_URL": address})


KINDS: dict[type[Exception], Callable[[str], object]] = {
    SettingsError: settings_of,
    CommandError: engine_for,
}
PARAMETERS = [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()]
PARTS_OF_URLS = {"host", "port", "user", "password", "dbname"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_of_libpq_is_obeyed_or_refused_by_its_name(name: str) -> None:
    """psycopg lists those of the libpq that it was built with."""
    if name in addresses.OBEYED or name in PARTS_OF_URLS:
        return
    allowed = addresses.DEFAULTS.get(name, ())
    for value in allowed or ():
        assert not parse(f"postgresql://h/d?{name}={value}").query
    if allowed is None:
        assert not parse(f"postgresql://h/d?{name}=anything").query
        return
    for read in KINDS.values():
        with pytest.raises((SettingsError, CommandError), match=f"can't be obeyed, {name}: "):
            read(f"postgresql://h/d?{name}=something")


def test_what_guards_connections_of_libpq_is_refused_in_the_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGCHANNELBINDING", "require")
    with pytest.raises(AddressError, match="PGCHANNELBINDING: asyncpg has no channel binding"):
        parse("postgresql://h/d")
    monkeypatch.setenv("PGCHANNELBINDING", "prefer")
    parse("postgresql://h/d")


SPECIAL = st.text(alphabet=string.punctuation + " \n\tü😀01ab", max_size=6)


@given(before=SPECIAL, after=SPECIAL)
@example(before="?", after="=1@")
@example(before="1/d?x=@", after="")
def test_no_message_shows_a_part_of_a_password(before: str, after: str) -> None:
    """A raw password is read as it is meant, or refused."""
    password = f"{before}hunter2{after}"
    for address, meant in (
        (f"postgresql://u:{quote(password, safe='')}@h/d", password),
        (f"postgresql://u:{password}@h/d", unquote(password)),
        (f"postgresql://u:{password}@h:5432/d?sslmode=require", unquote(password)),
    ):
        try:
            url = parse(address)
        except AddressError as error:
            trace = "".join(traceback.format_exception(error))
            is_refused = "@" in password or "?" in password
        else:
            trace, is_refused = "", False
        assert "hunter2" not in trace
        if trace:
            assert is_refused
            continue
        assert (url.password, url.host, url.database) == (meant, "h", "d")
        assert "hunter2" not in f"{url} {url!r} {place_of(engine_for(address))}"
        assert "hunter2" not in repr(settings_of(address))


@pytest.fixture
def forms(all_databases: dict[str, Databases], url: str) -> dict[str, str]:
    """Return addresses of one database in several forms, and what the session has then."""
    directory, name = str(all_databases["postgresql"].server.directory), name_of(url)
    socket = quote(directory, safe="")
    geqo = "options=-c%20geqo%3Doff%20-c%20work_mem%3D4711kB"
    return {
        f"postgresql+psycopg://postgres@{socket}/{name}?{geqo}": "off 4711kB",
        f"postgresql://postgres@/{name}?host=/no/such,{directory}&{geqo}": "off 4711kB",
        f"postgresql://postgres@%2Fno%2Fsuch,{socket}:5432/{name}?target_session_attrs=read-write"
        "&connect_timeout=7&channel_binding=prefer&sslmode=prefer&gssencmode=prefer": "on 4MB",
        f"postgresql:///?host={directory}&dbname={name}&user=postgres&krbsrvname=x"
        "&target_session_attrs=primary": "on 4MB",
    }


async def session_of(engine: AsyncEngine) -> str:
    query = text("SELECT current_setting('geqo') || ' ' || current_setting('work_mem')")
    async with engine.connect() as connection:
        return str(await connection.scalar(query))


@pytest.mark.only("postgresql")
async def test_addresses_of_every_form_lead_to_the_database(forms: dict[str, str]) -> None:
    for address, expected in forms.items():
        service = create_engine(Settings(database_url=address), size=1)
        assert await session_of(service) == expected
        await service.dispose()
        async with connected(address) as engine:
            assert await session_of(engine) == expected
    address = next(iter(forms))
    assert "0009 (head)" in run_alembic(address, "current").stdout
    for change, wrong, words in (
        ("session_attrs=primary", "session_attrs=standby", "none of the hosts"),
        ("geqo", "no_such_setting", "no_such_setting"),
        ("geqo%3Doff", "geqo%3Dperhaps", "geqo"),
    ):
        [address] = [form for form in forms if change in form][:1]
        process = run_alembic(address.replace(change, wrong), "current", check=False)
        assert process.returncode == 255
        [line] = process.stdout.splitlines()
        assert words in line
        assert process.stderr == ""


@pytest.mark.only("postgresql")
async def test_a_host_that_never_answers_does_not_hide_the_others(
    all_databases: dict[str, Databases], url: str
) -> None:
    directory = all_databases["postgresql"].server.sockets
    with TemporaryDirectory() as frozen, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{frozen}/.s.PGSQL.5432")
        listener.listen()  # nobody accepts
        address = (
            f"postgresql://postgres@/{name_of(url)}?host={frozen},{directory}"
            "&target_session_attrs=read-write"
        )
        service = create_engine(Settings(database_url=address), size=1)
        assert await session_of(service) == "on 4MB"
        await service.dispose()
        async with connected(address) as engine:
            assert await session_of(engine) == "on 4MB"


@pytest.mark.only("postgresql")
async def test_a_cluster_without_a_leader_is_said_in_one_line(
    all_databases: dict[str, Databases], url: str
) -> None:
    server = all_databases["postgresql"].server
    with (
        TemporaryDirectory() as place,
        standby_of(server, Path(place) / "standby", "-c", "max_connections=200") as standby,
    ):
        address = (
            f"postgresql://postgres@/{name_of(url)}?host={standby.sockets},/no/such"
            "&target_session_attrs=read-write"
        )
        process = run_alembic(address, "upgrade", "head", check=False)
        assert (process.returncode, process.stderr) == (255, "")
        [line] = process.stdout.splitlines()
        assert "no host accepts writes: the cluster has no leader" in line
        async with serving(database_url=address) as client:
            ready, answer = await client.get("/health/ready"), await client.get("/users/1")
    assert (ready.status_code, answer.status_code) == (503, 503)


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that vouches for itself; return its file and its key's."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl makes the certificates")
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@asynccontextmanager
async def tls_server(certificate: Path, key: Path) -> AsyncIterator[tuple[int, list[bool]]]:
    """Yield the port of a server that only negotiates TLS, and whether clients trusted it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    seen: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(8)  # the request for TLS
            writer.write(b"S")
            await writer.start_tls(context)
            await reader.readexactly(8)  # the beginning of a session
            seen.append(bool(writer.get_extra_info("peercert")))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen


async def test_certificates_are_verified_and_sent(tmp_path: Path) -> None:
    """A server whose certificate is of another authority gets nothing of a session."""
    (own, key), (other, _) = (make_certificate(tmp_path, name) for name in ("own", "other"))
    async with tls_server(own, key) as (port, seen):
        address = f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=verify-full&sslrootcert="
        for file, end in ((other, ""), (own, ""), (own, f"&sslcert={own}&sslkey={key}")):
            service = create_engine(Settings(database_url=f"{address}{file}{end}"), size=1)
            with pytest.raises((OSError, DBAPIError)):
                await session_of(service)
            await service.dispose()
            words = "certificate" if file == other else "connection was lost"
            with pytest.raises(CommandError, match=words):
                async with connected(f"{address}{file}{end}") as engine:
                    await session_of(engine)
    assert seen == [False, False, True, True]
