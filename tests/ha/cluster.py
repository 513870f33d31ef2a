"""A cluster of three PostgreSQL by Patroni, etcd and HAProxy, on loopback, and its faults."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import httpx

from safely.scratch.embedded import allow_passage, make_account
from tests.chaos.postgresql import Postgresql
from tests.ha.packages import PATRONI, etcd, haproxy
from tests.paths import ROOT

NAMES = ("one", "two", "three")
DEPLOY = ROOT / "deploy/patroni"
WIRES = Path(__file__).with_name("wires.cfg")
NETWORK = "127.0.0.1/32"
WHOLE_TIMEOUT = 120.0  # seconds until all nodes stream
LEADER_TIMEOUT = 90.0  # seconds until a node is the primary
POLL = 0.05  # seconds


@dataclass
class Node:
    """A node: its PostgreSQL, Patroni and etcd, and the wires to the others."""

    name: str
    directory: Path
    ports: dict[str, int]
    values: dict[str, str] = field(default_factory=dict)
    """The values of the names in its configuration files."""
    patroni: Process | None = None
    wires: Process | None = None
    etcd: Process | None = None

    @property
    def postgresql(self) -> Postgresql:
        """Its server, as the faults take it."""
        return Postgresql(self.directory / "data")

    @property
    def rest(self) -> str:
        """The address of Patroni's REST API."""
        return f"http://127.0.0.1:{self.ports['rest']}"


class Cluster:
    """Three nodes, and HAProxy before them; each method returns when what it names has happened."""

    def __init__(self, directory: Path, *, synchronous: bool, strict: bool) -> None:
        self.directory = directory
        self.password = secrets.token_urlsafe()
        kinds = ("postgresql", "rest", "peer_postgresql", "peer_rest", "etcd", "etcd_peer")
        wires = tuple(f"etcd_wire_{number}" for number in range(1, len(NAMES) + 1))
        ports = iter(free_ports(len(NAMES) * len(kinds + wires) + 2))
        self.nodes = [
            Node(name, directory / name, {kind: next(ports) for kind in kinds + wires})
            for name in NAMES
        ]
        self.primary_port, self.replica_port = next(ports), next(ports)
        self.processes: list[Process] = []
        self.rest = httpx.AsyncClient(timeout=2)
        for node in self.nodes:
            node.values = self.values_of(node, synchronous=synchronous, strict=strict)

    def values_of(self, node: Node, *, synchronous: bool, strict: bool) -> dict[str, str]:
        """Return the values of the names in a node's configuration files."""

        def address(kind: str, of: Node = node) -> str:
            return f"127.0.0.1:{of.ports[kind]}"

        values = {
            "NAME": node.name,
            "LISTEN": address("postgresql"),
            "CONNECT": address("peer_postgresql"),
            "REST_LISTEN": address("rest"),
            "REST_CONNECT": address("peer_rest"),
            "ETCD_HOSTS": ",".join(address(f"etcd_wire_{number}") for number in (1, 2, 3)),
            "SYNCHRONOUS": str(synchronous).lower(),
            "STRICT": str(strict).lower(),
            "DATA": str(node.directory / "data"),
            "SOCKETS": str(node.directory),
            "PROGRAMS": str(node.postgresql.programs),
            "NETWORK": NETWORK,
            "PRIMARY": f"127.0.0.1:{self.primary_port}",
            "REPLICAS": f"127.0.0.1:{self.replica_port}",
        }
        for number, other in enumerate(self.nodes, start=1):
            values |= {
                f"NAME_{number}": other.name,
                f"NODE_{number}": address("postgresql", other),
                f"REST_{number}": str(other.ports["rest"]),
                f"ETCD_{number}": address("etcd", other),
                f"ETCD_WIRE_{number}": address(f"etcd_wire_{number}"),
            }
        return values

    def url(self, database: str, access: str) -> str:
        """Return the address of a database, through HAProxy or by the hosts themselves."""
        user = f"postgresql://postgres:{self.password}@"
        if access == "HAProxy":
            return f"{user}127.0.0.1:{self.primary_port}/{database}"
        hosts = ",".join(f"127.0.0.1:{node.ports['postgresql']}" for node in self.nodes)
        return f"{user}{hosts}/{database}?target_session_attrs=read-write"

    async def start(self) -> None:
        """Start everything, and return when all nodes stream."""
        for node in self.nodes:
            self.make_directory(node)
            values = {
                **node.values,
                "DATA": str(self.directory / f"{node.name}.etcd"),
                "CLIENT": f"127.0.0.1:{node.ports['etcd']}",
                "PEER": f"127.0.0.1:{node.ports['etcd_peer']}",
                "MEMBERS": ",".join(
                    f"{other.name}=http://127.0.0.1:{other.ports['etcd_peer']}"
                    for other in self.nodes
                ),
            }
            file = self.write(DEPLOY / "etcd.yml", node, values)
            node.etcd = await self.run(f"{node.name}.etcd", *etcd(), "--config-file", str(file))
            node.wires = await self.start_haproxy(node, WIRES)
        await self.etcd_decided()
        for node in self.nodes:
            await self.start_patroni(node)
        await self.start_haproxy(self.nodes[0], DEPLOY / "haproxy.cfg")
        await self.whole()

    async def etcd_decided(self) -> None:
        """Return when etcd's members agree on a version; before that Patroni ends at its start."""
        address = f"http://127.0.0.1:{self.nodes[0].ports['etcd']}/version"
        async with asyncio.timeout(LEADER_TIMEOUT):
            while True:
                with suppress(httpx.HTTPError):
                    if (await self.rest.get(address)).json()["etcdcluster"] != "not_decided":
                        return
                await asyncio.sleep(POLL)

    def make_directory(self, node: Node) -> None:
        """Make a node's directory, for the account of its PostgreSQL."""
        user = node.postgresql.user
        node.directory.mkdir(mode=0o700)
        if user is not None:
            make_account()
            shutil.chown(node.directory, user, user)
            for path in (node.directory, node.postgresql.programs, PATRONI, Path(sys.executable)):
                allow_passage(path)

    async def start_patroni(self, node: Node) -> None:
        """Start a node's Patroni, which starts its PostgreSQL."""
        file = self.write(DEPLOY / "patroni.yml", node, node.values)
        # it would ask etcd for its members, and then speak to them past the wires
        text = file.read_text("utf-8").replace("etcd3:\n", "etcd3:\n  use_proxies: true\n")
        file.write_text(text, "utf-8")
        user = node.postgresql.user
        node.patroni = await self.run(f"{node.name}.patroni", str(PATRONI), str(file), user=user)

    async def start_haproxy(self, node: Node, template: Path) -> Process:
        """Start HAProxy with a node's values."""
        file = self.write(template, node, node.values)
        return await self.run(f"{node.name}.{template.stem}", *haproxy(), "-db", "-f", str(file))

    def write(self, template: Path, node: Node, values: dict[str, str]) -> Path:
        """Write a node's configuration file with these values; return its path."""
        file = self.directory / f"{node.name}.{template.name}"
        # the comment that tells of the names has one that is none
        text = template.read_text("utf-8").replace("${…}", "braces")
        file.write_text(Template(text).substitute(values), "utf-8")
        return file

    async def run(self, name: str, *command: str, user: str | int | None = None) -> Process:
        """Start a program with a log of its own; `stop` ends it."""
        passwords = ("PATRONI_SUPERUSER_PASSWORD", "PATRONI_REPLICATION_PASSWORD")
        environment = {**os.environ, **dict.fromkeys(passwords, self.password), "HOME": "/"}
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=log, stderr=log, env=environment, cwd="/",
                user=user, group=user, extra_groups=None if user is None else [],
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    async def stop(self) -> None:
        """End all processes."""
        await self.rest.aclose()
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for node in self.nodes:
            with suppress(OSError, ValueError, TimeoutError):
                node.postgresql.kill()

    async def status(self, node: Node, path: str) -> int:
        """Return the status with which a node's Patroni answers; 0 where it does not."""
        try:
            return (await self.rest.get(f"{node.rest}{path}")).status_code
        except httpx.HTTPError:
            return 0

    async def leader(self, but: Node | None = None) -> Node:
        """Return the node that is the primary, as soon as one is; `but` is not asked."""
        async with asyncio.timeout(LEADER_TIMEOUT):
            while True:
                for node in self.nodes:
                    if node is not but and await self.status(node, "/primary") == httpx.codes.OK:
                        return node
                await asyncio.sleep(POLL)

    async def whole(self) -> None:
        """Return when one node is the primary, and the others stream from it."""
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT):
                while not await self.is_whole():
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise TimeoutError(f"the cluster is not whole: {await self.members()}") from None

    async def is_whole(self) -> bool:
        """Return whether there is a primary and both others stream, one in step if it must."""
        synchronous = self.nodes[0].values["SYNCHRONOUS"] == "true"
        members = await self.members()
        roles = [member["role"] for member in members]
        return (
            len(members) == len(NAMES)
            and roles.count("leader") == 1
            and sum(member["state"] == "streaming" for member in members) == len(NAMES) - 1
            and (not synchronous or "sync_standby" in roles)
        )

    async def members(self) -> list[dict[str, str]]:
        """Return the members of the cluster as Patroni lists them; empty where none answers."""
        for node in self.nodes:
            with suppress(httpx.HTTPError):
                answer = await self.rest.get(f"{node.rest}/cluster")
                return list(answer.json()["members"])
        return []

    async def kill(self, node: Node, *, patroni: bool) -> None:
        """Kill a node's PostgreSQL by SIGKILL, and its Patroni before it if that is asked for."""
        if patroni:
            assert node.patroni is not None
            node.patroni.kill()
            await node.patroni.wait()
        with suppress(ProcessLookupError, FileNotFoundError):  # Patroni was starting it anew
            await asyncio.to_thread(node.postgresql.kill)

    def freeze(self, node: Node) -> ExitStack:
        """Stop a node's Patroni and PostgreSQL by SIGSTOP; closing the result lets them go on."""
        assert node.patroni is not None
        frozen = ExitStack()
        frozen.callback(send, node.patroni.pid, signal.SIGCONT)
        send(node.patroni.pid, signal.SIGSTOP)
        frozen.enter_context(node.postgresql.frozen())
        return frozen

    def cut_off(self, node: Node) -> ExitStack:
        """Cut a node off from etcd and the others; closing what it returns joins it again.

        Clients and HAProxy still reach it.
        """
        assert node.wires is not None
        cut = ExitStack()
        cut.callback(send, node.wires.pid, signal.SIGCONT)
        send(node.wires.pid, signal.SIGSTOP)
        return cut

    async def switch_over(self, leader: Node) -> None:
        """Make another node the primary, by `patronictl switchover`."""
        members = await self.members()
        standbys = [member for member in members if member["role"] != "leader"]
        candidate = max(standbys, key=lambda member: member["role"] == "sync_standby")["name"]
        file = self.directory / f"{leader.name}.patroni.yml"
        process = await self.run(
            "patronictl", str(PATRONI.with_name("patronictl")), "-c", str(file), "switchover",
            "--leader", leader.name, "--candidate", candidate, "--force",
        )  # fmt: skip
        if await process.wait():
            raise RuntimeError((self.directory / "patronictl.log").read_text("utf-8")[-500:])


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def free_ports(number: int) -> list[int]:
    """Return different ports on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def temporary_directory(logs: Path | None) -> Iterator[Path]:
    """Yield a directory that others may pass through; remove it at the end, but for its logs."""
    with tempfile.TemporaryDirectory(prefix="users-ha-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        try:
            yield directory
        finally:
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                for log in directory.glob("*.log"):
                    shutil.copy(log, logs)


@asynccontextmanager
async def cluster(*, synchronous: bool, strict: bool, logs: Path | None) -> AsyncIterator[Cluster]:
    """Run a new cluster; end and remove it at the end, but for its logs."""
    with temporary_directory(logs) as directory:
        running = Cluster(directory, synchronous=synchronous, strict=strict)
        try:
            await running.start()
            yield running
        finally:
            await running.stop()
