"""Reads from streaming replicas: no client misses its own write, and none notices a bad replica."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from safely.scratch.embedded import Server
from service.models import SCHEMA_REVISION
from service.positions import Position, parse_position, position_of
from service.replicas import Replicas
from service.settings import Settings, SettingsError, replica_urls
from tests.app import serving
from tests.commands import run_alembic
from tests.conftest import NOT_DURABLE
from tests.databases import Databases, execute
from tests.dying_databases import restart, stop
from tests.pgbouncer import pgbouncer
from tests.pgbouncer_packages import SUITES
from tests.replication import (
    Standby,
    catch_up,
    frozen,
    pause_replay,
    reads_by_server,
    resume_replay,
    standby_of,
    value,
)
from tests.servers import free_port, service_process, wait_until_ready

OPTIONS = NOT_DURABLE.split()
# replay cancels at once what is in its way
IMPATIENT = ("-c", "max_standby_streaming_delay=0", "-c", "hot_standby_feedback=off")
MANY = 100_000  # users, whose export is larger than what the buffers of a connection hold
LOAD = f"""\
INSERT INTO users (full_name)
SELECT 'Many ' || n || repeat('y', 190) FROM generate_series(1, {MANY}) AS n"""
CONFLICTS = "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = 'users'"
PATIENCE = 30.0  # seconds; other tests run at the same time
QUIET = {"ACCESS_LOG": "off", "LOG_LEVEL": "WARNING"}


class Cluster(NamedTuple):
    """A primary with two standbys; the database `users` is at the head."""

    primary: Server
    standbys: list[Standby]

    @property
    def url(self) -> str:
        return self.primary.url("users")

    @property
    def read_url(self) -> str:
        sockets = ",".join(str(standby.sockets) for standby in self.standbys)
        return f"postgresql://postgres@/users?host={sockets}"


@pytest.fixture(scope="module")
def cluster(directory: Path) -> Iterator[Cluster]:
    primary = Server(directory / "primary", *OPTIONS)
    primary.join()
    primary.create_database("users")
    run_alembic(primary.url("users"), "upgrade", "head")
    try:
        with (
            standby_of(primary, directory / "one", *OPTIONS, *IMPATIENT) as one,
            standby_of(primary, directory / "two", *OPTIONS) as two,
        ):
            yield Cluster(primary, [one, two])
    finally:
        primary.leave()


@asynccontextmanager
async def watching(url: str, read_url: str) -> AsyncIterator[Replicas]:
    """Yield replicas that are watched."""
    replicas = Replicas(Settings(database_url=url, read_database_url=read_url), SCHEMA_REVISION)
    async with replicas.watched():
        yield replicas


async def wait_for_states(replicas: Replicas, *states: str) -> float:
    """Return after how many seconds the replicas were in these states."""
    start = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while [replica.state for replica in replicas] != [*states]:
            await asyncio.sleep(0.01)
    return time.monotonic() - start


async def wait_for_use(client: httpx.AsyncClient) -> None:
    """Return as soon as the service reads from a replica."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await client.get("/users?limit=1")
            reads = reads_by_server((await client.get("/metrics")).text)
            if any(number for server, number in reads.items() if server != "primary"):
                return


class Client:
    """A client that writes users of its own, and reads each after a random pause."""

    def __init__(self, number: int, base: str, *, cookies: bool) -> None:
        self.number = number
        self.chance = random.Random(number)  # noqa: S311  # not a secret
        self.http = httpx.AsyncClient(base_url=base, timeout=PATIENCE)
        self.cookies = cookies
        self.position = ""
        self.numbers = count()
        self.checked = 0  # reads of what it had written

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        headers = dict(options.pop("headers", {}))  # type: ignore[call-overload]
        if not self.cookies:
            self.http.cookies.clear()
            if self.position:
                headers["Read-After"] = self.position
        response = await self.http.request(method, path, headers=headers, **options)  # type: ignore[arg-type]
        self.position = max(self.position, response.headers.get("Read-After", ""))
        return response

    async def check(self, name: str, user_id: int | None, email: str) -> None:
        """Fail unless a read by id, by list or by export shows the user as written last."""
        await asyncio.sleep(self.chance.choice([0, 0, 0.1, 0.6, 0.8]))
        kind = self.chance.choice(["list", "export"] if user_id is None else ["id", "id", "list"])
        if kind == "id":
            response = await self.ask("GET", f"/users/{user_id}")
        else:
            path = "/users" if kind == "list" else "/users/export"
            response = await self.ask("GET", path, params={"email": email})
        assert response.status_code == 200, (kind, response.text)
        assert name in response.text, (self.cookies, kind, name, response.text)
        self.checked += 1

    async def work(self, checks: Iterator[int]) -> None:
        """Create, change, import and delete users until there are no more checks to do."""
        async with self.http:
            for _ in checks:
                number = next(self.numbers)
                email = f"u{number}@{self.number}.example"
                first, second = f"A{number}c{self.number}.", f"B{number}c{self.number}."
                body = {"full_name": first, "email": email}
                if self.chance.random() < 0.2:
                    csv = f"full_name,email\n{first},{email}\n"
                    response = await self.ask(
                        "POST", "/users/import", content=csv, headers={"Content-Type": "text/csv"}
                    )
                    assert response.json()["created"] == 1
                    await self.check(first, None, email)
                    continue
                key = {"Idempotency-Key": email} if self.chance.random() < 0.5 else {}
                response = await self.ask("POST", "/users", json=body, headers=key)
                assert response.status_code == 201, response.text
                user_id = response.json()["id"]
                await self.check(first, user_id, email)
                if next(checks, None) is None:
                    return
                response = await self.ask("PATCH", f"/users/{user_id}", json={"full_name": second})
                assert response.status_code == 200
                await self.check(second, user_id, email)
                if self.chance.random() < 0.3 and next(checks, None) is not None:
                    assert (await self.ask("DELETE", f"/users/{user_id}")).status_code == 204
                    await asyncio.sleep(self.chance.choice([0, 0.6]))
                    assert (await self.ask("GET", f"/users/{user_id}")).status_code == 404
                    self.checked += 1


async def test_no_client_misses_its_own_write(cluster: Cluster, *, full: bool) -> None:
    """Through two workers and two replicas, of which one replays late now and then."""
    port = str(free_port())
    environment = {
        "DATABASE_URL": cluster.url, "READ_DATABASE_URL": cluster.read_url, "WORKERS": "2",
        "PORT": port, **QUIET,
    }  # fmt: skip
    done = asyncio.Event()

    async def replay_late() -> None:
        while not done.is_set():
            await pause_replay(cluster.standbys[0])
            await asyncio.sleep(0.3)
            await resume_replay(cluster.standbys[0])
            await asyncio.sleep(0.5)

    base, reads = f"http://127.0.0.1:{port}", Counter[str]()
    async with service_process(**environment), httpx.AsyncClient(base_url=base) as client:
        await wait_until_ready(client)
        late = asyncio.create_task(replay_late())
        number_of_checks = 10_000 if full else 300
        checks = iter(range(number_of_checks))
        clients = [Client(number, base, cookies=number % 2 == 0) for number in range(32)]
        try:
            async with asyncio.TaskGroup() as group:
                for each in clients:
                    group.create_task(each.work(checks))
        finally:
            done.set()
            await late
        servers = {"primary", *(f"{each.sockets}:5432" for each in cluster.standbys)}
        async with asyncio.timeout(PATIENCE):  # the workers write their counters now and then
            while {server for server, number in reads.items() if number} != servers:
                reads = reads_by_server((await client.get("/metrics")).text)
    checked = sum(each.checked for each in clients)
    print(f"{checked:,} own writes read again; reads by server: {dict(reads)}")
    assert checked >= number_of_checks


async def test_a_bad_replica_is_left_out_and_no_request_fails(
    cluster: Cluster, *, full: bool
) -> None:
    """One that replays nothing, one that is frozen, one that is stopped; each comes back."""
    one = cluster.standbys[0]
    seconds: dict[str, float] = {}
    async with (
        serving(database_url=cluster.url, read_database_url=cluster.read_url, access_log="off",
                replica_lag=1.0) as client,
        watching(cluster.url, cluster.read_url) as replicas,
    ):  # fmt: skip
        await wait_for_states(replicas, "used", "used")
        done = asyncio.Event()
        answers: Counter[int] = Counter()

        async def load(number: int) -> None:
            user = {"full_name": f"Load {number}"}
            while not done.is_set():
                user_id = (await client.post("/users", json=user)).json()["id"]
                # as a stranger, who has written nothing: for a replica
                for path in ("/users?limit=2", f"/users/{max(1, user_id - 500)}", "/users/1"):
                    response = await client.get(path, headers={"Cookie": "none=1"})
                    answers[response.status_code] += 1
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(load(number))
            await pause_replay(one)
            seconds["paused"] = await wait_for_states(replicas, "lagging", "used")
            await resume_replay(one)
            await wait_for_states(replicas, "used", "used")
            with frozen(one):
                seconds["frozen"] = await wait_for_states(replicas, "gone", "used")
            await wait_for_states(replicas, "used", "used")
            await asyncio.to_thread(stop, one)
            seconds["stopped"] = await wait_for_states(replicas, "gone", "used")
            await asyncio.to_thread(restart, one)
            seconds["back"] = await wait_for_states(replicas, "used", "used")
            done.set()
    print(seconds, answers)
    assert set(answers) <= {200, 404}
    assert answers[200] > 50
    if full:  # elsewhere other tests may take the processor
        assert max(seconds["paused"], seconds["frozen"], seconds["stopped"]) < 2


async def test_an_export_that_replay_cancels_is_cut_off_and_other_reads_go_on(
    cluster: Cluster, *, full: bool
) -> None:
    """PostgreSQL ends the query of a replica that needs rows which VACUUM has removed."""
    if not full:
        pytest.skip("takes ten seconds")
    [one, _] = cluster.standbys
    await execute(cluster.url, LOAD)
    await catch_up(cluster.primary, one)
    port = str(free_port())
    environment = {"DATABASE_URL": cluster.url, "READ_DATABASE_URL": one.url("users"), "PORT": port}
    base = f"http://127.0.0.1:{port}"
    async with (
        service_process(**environment, **QUIET),
        httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client,
    ):
        await wait_until_ready(client)
        await wait_for_use(client)
        lines = 0
        async with client.stream("GET", "/users/export") as response:
            assert response.status_code == 200
            parts = response.aiter_bytes()
            lines += (await anext(parts)).count(b"\n")
            await execute(cluster.url, "DELETE FROM users WHERE full_name LIKE 'Many %'")
            await execute(cluster.url, "VACUUM users")
            async with asyncio.timeout(PATIENCE):
                while not await value(one, CONFLICTS):
                    assert (await client.get("/users?limit=5")).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  # raised by the loop
                async for part in parts:
                    lines += part.count(b"\n")
        assert lines < MANY


async def test_the_service_goes_on_when_a_replica_becomes_the_primary(
    directory: Path, *, full: bool
) -> None:
    """The old primary is gone; the new one was a replica, and the other one follows it later."""
    if not full:
        pytest.skip("takes ten seconds")
    primary = Server(directory / "old", *OPTIONS)
    primary.join()
    try:
        primary.create_database("users")
        run_alembic(primary.url("users"), "upgrade", "head")
        with (
            standby_of(primary, directory / "three", *OPTIONS) as three,
            standby_of(primary, directory / "four", *OPTIONS) as four,
        ):
            hosts = ",".join(str(one.sockets) for one in (primary, three))
            settings = {
                "DATABASE_URL": f"postgresql://postgres@/users?host={hosts}"
                "&target_session_attrs=read-write",
                "READ_DATABASE_URL": Cluster(primary, [three, four]).read_url,
            }
            port = str(free_port())
            base = f"http://127.0.0.1:{port}"
            async with (
                service_process(PORT=port, **settings, **QUIET),
                httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client,
            ):
                await wait_until_ready(client)
                await wait_for_use(client)
                created = (await client.post("/users", json={"full_name": "Ada"})).json()
                await catch_up(primary, three)
                await asyncio.to_thread(stop, primary)
                await asyncio.to_thread(three.call, "pg_ctl", "-D", str(three.directory), "promote")
                async with asyncio.timeout(PATIENCE):
                    while (
                        answer := await client.post("/users", json={"full_name": "Grace"})
                    ).status_code != 201:
                        assert answer.status_code == 503
                        read = await client.get(f"/users/{created['id']}")
                        assert read.status_code in (200, 503)
                        await asyncio.sleep(0.05)
                for user in (created, answer.json()):
                    assert (await client.get(f"/users/{user['id']}")).json() == user
    finally:
        primary.leave()


async def test_replicas_behind_pgbouncer_show_a_client_its_own_writes(
    cluster: Cluster, *, full: bool
) -> None:
    """There each transaction may have another server."""
    if not full:
        pytest.skip("takes ten seconds")
    async with (
        pgbouncer(cluster.standbys[1], SUITES[-1], pool_mode="transaction") as pooler,
        serving(
            database_url=cluster.url, read_database_url=pooler.url("users"), access_log="off"
        ) as client,
    ):
        await wait_for_use(client)
        for number in range(200):
            user = (await client.post("/users", json={"full_name": f"Behind {number}"})).json()
            await asyncio.sleep(0.6 if number % 20 == 0 else 0)  # after it, replicas are asked
            assert (await client.get(f"/users/{user['id']}")).json() == user
        assert reads_by_server((await client.get("/metrics")).text)[f"127.0.0.1:{pooler.port}"]


async def test_a_replica_that_is_not_migrated_yet_is_left_out(cluster: Cluster) -> None:
    """Its lag may be allowed, and it has no published version of this build."""
    [one, two] = cluster.standbys
    cluster.primary.create_database("later")
    await catch_up(cluster.primary, one)
    await pause_replay(one)
    try:
        run_alembic(cluster.primary.url("later"), "upgrade", "head")
        settings = Settings(
            database_url=cluster.primary.url("later"),
            read_database_url=cluster.read_url.replace("/users?", "/later?"),
            replica_lag=3600,
        )
        replicas = Replicas(settings, SCHEMA_REVISION)
        await catch_up(cluster.primary, two)
        async with replicas.watched():
            await wait_for_states(replicas, "unmigrated", "used")
            await resume_replay(one)
            await wait_for_states(replicas, "used", "used")
    finally:
        await resume_replay(one)


async def test_a_server_that_is_no_replica_of_this_primary_is_named(
    cluster: Cluster, all_databases: dict[str, Databases], caplog: pytest.LogCaptureFixture
) -> None:
    """Another cluster, the primary itself, another database, and one that may not be asked."""
    stranger, one = all_databases["postgresql"].server, cluster.standbys[0]
    hosts = f"{stranger.sockets},{cluster.primary.sockets}"
    async with watching(
        cluster.url, f"postgresql://postgres@/postgres?host={hosts},{one.sockets}"
    ) as replicas:
        await wait_for_states(replicas, "foreign", "primary", "database")
        assert replicas.choose(None) is None
    for words in ("no replica of this primary", "it takes writes", "DATABASE_URL names users"):
        assert words in caplog.text
    caplog.clear()
    await execute(cluster.url, "CREATE ROLE curious LOGIN",
                  "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")  # fmt: skip
    try:
        await catch_up(cluster.primary, one)
        url = f"postgresql://curious@/users?host={one.sockets}"
        async with watching(cluster.url, url) as replicas:
            await wait_for_states(replicas, "unreadable")
        assert "its state can't be read: permission denied" in caplog.text
    finally:
        await execute(cluster.url, "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC",
                      "DROP ROLE curious")  # fmt: skip


async def test_an_idle_replica_lags_by_nothing_at_the_end_of_a_page(cluster: Cluster) -> None:
    """There the primary tells where its next record will begin, which no replica reaches."""
    await value(cluster.primary, "SELECT pg_switch_wal()")
    async with watching(cluster.url, cluster.read_url) as replicas:
        await wait_for_states(replicas, "used", "used")
        await asyncio.sleep(0.5)
        assert [replica.lag_bytes for replica in replicas] == [0, 0]
    assert position_of(1, 8192 + 24) == position_of(1, 8192 + 40) == Position(1, 8192)
    assert position_of(1, 8192 + 48).lsn == 8192 + 48


async def test_a_position_that_is_none_is_refused_in_the_header_and_ignored_in_the_cookie(
    cluster: Cluster,
) -> None:
    async with serving(
        database_url=cluster.url, read_database_url=cluster.read_url, access_log="off"
    ) as client:
        for wrong in ("", "1", "0/1234", "00000001-000000000446989", "x" * 25):
            response = await client.get("/users", headers={"Read-After": wrong})
            assert response.status_code == 422, wrong
            response = await client.get("/users", headers={"Cookie": f"users_read_after={wrong}"})
            assert response.status_code == 200, wrong
        for far in ("FFFFFFFF-FFFFFFFFFFFFFFFF", "00000001-FFFFFFFFFFFFFFFF"):
            response = await client.get("/users", headers={"Read-After": far})
            assert response.status_code == 200  # from the primary


def test_a_later_position_is_the_greater_text() -> None:
    positions = [Position(1, 15), Position(1, 16), Position(1, 2**40), Position(2, 16)]
    texts = [str(position) for position in positions]
    assert sorted(texts) == texts
    assert [parse_position(text) for text in texts] == positions
    # the earlier timeline may have gone its own way
    assert not Position(1, 20).covers(Position(2, 10))
    assert Position(2, 20).covers(Position(1, 10))


WRONG = {
    "READ_DATABASE_URL has the unknown scheme": ("postgresql://h/d", "mysql://u:hunter2@h/d"),
    "READ_DATABASE_URL names replicas, which SQLite": ("sqlite:///d", "postgresql://u:hunter2@h/d"),
    "READ_DATABASE_URL names h:5432 twice": ("postgresql://h/d", "postgresql://u:hunter2@h,H/d"),
    "READ_DATABASE_URL asks for the primary": (
        "postgresql://h/d", "postgresql://u:hunter2@h/d?target_session_attrs=read-write",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_read_url_is_refused_in_one_line_without_its_password(words: str) -> None:
    url, read_url = WRONG[words]
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"DATABASE_URL": url, "READ_DATABASE_URL": read_url})
    assert words in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_each_host_is_a_replica_of_its_own() -> None:
    url = "postgresql://u:p@one,two:5433,[::1]/d?sslmode=require"
    urls = replica_urls(Settings(database_url="postgresql://h/d", read_database_url=url))
    assert list(urls) == ["one:5432", "two:5433", "::1:5432"]
    assert all(one.query == {"sslmode": "require"} for one in urls.values())
    assert [(one.host, one.port) for one in urls.values()][1] == ("two", 5433)
