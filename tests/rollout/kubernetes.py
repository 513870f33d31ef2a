"""Pods, roll-outs and Jobs as deploy/kubernetes describes them, of processes on loopback.

A pod is `python -m service` with the container's environment, probes, preStop and grace. The
Service is a relay of TCP connections to the pods that are ready. Times and paths are those of the
manifests, but for the two constants below, which are Kubernetes' own.
"""

import asyncio
import os
import signal
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.connection import Connection, Response
from tests.deploy.manifests import written
from tests.replication import reads_by_server
from tests.rollout.builds import Build
from tests.servers import free_port

ENDPOINTS_DELAY = 2.0  # seconds from the deletion of a pod until the nodes know of it
JOB_DELAYS = (0.2, 0.4, 0.8)  # seconds between two attempts: Kubernetes waits for 10, 20 and 40


class RolloutError(Exception):
    """A roll-out that Kubernetes would report as failed."""


class Authorized(Connection):
    """A connection whose requests carry a token, and the position of the client's last write."""

    token = ""
    position = ""

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send a request as `Connection` does."""
        headers["Authorization"] = f"Bearer {self.token}"
        if self.position:
            headers["Read_After"] = self.position
        response = await super().request(method, path, body, **headers)
        self.position = response.headers.get("read-after", self.position)
        return response


def container(kind: str, name: str) -> dict[str, Any]:
    """Return the one container of a manifest."""
    [one] = written()[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def environment(of: dict[str, Any], files: dict[str, Path], **values: str) -> dict[str, str]:
    """Return a container's variables; `files` has our own files in place of mounted paths."""
    variables = {entry["name"]: entry["value"] for entry in of["env"]}
    mounted = {name: str(files[path]) for name, path in variables.items() if path in files}
    return {**os.environ, **variables, **mounted, **values}


@dataclass(eq=False)
class Pod:
    """A pod of a build: its process, and whether it is ready."""

    build: Build
    port: int
    process: Process
    is_ready: bool = False
    is_deleted: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def probe(self) -> None:
        """Ask the startup probe until it succeeds, then the readiness probe."""
        one = container("Deployment", "users")
        startup, readiness = one["startupProbe"], one["readinessProbe"]
        for _ in range(startup["failureThreshold"]):
            if await self.answers(startup):
                break
            await asyncio.sleep(startup["periodSeconds"])
        else:
            raise RolloutError(f"a pod of {self.build.name} doesn't start")
        failures = 0
        while not self.is_deleted:
            failures = 0 if await self.answers(readiness) else failures + 1
            if failures == 0:
                self.is_ready = True
                self.ready.set()
            elif failures >= readiness["failureThreshold"]:
                self.is_ready = False
            await asyncio.sleep(readiness["periodSeconds"])

    async def answers(self, probe: dict[str, Any]) -> bool:
        """Return whether a probe succeeds."""
        connection = Connection(self.port, keep_alive=False)
        try:
            async with asyncio.timeout(probe["timeoutSeconds"]):
                response = await connection.request("GET", probe["httpGet"]["path"])
        except OSError:  # TimeoutError too
            return False
        return 200 <= response.status < 400  # as Kubernetes judges a probe

    async def read_by_standbys(self) -> int:
        """Return how many reads its standbys have answered."""
        response = await Authorized(self.port, keep_alive=False).request("GET", "/metrics")
        reads = reads_by_server(response.body.decode())
        return reads.total() - reads["primary"]

    async def delete(self) -> None:
        """Delete it: preStop, SIGTERM, and SIGKILL at the end of its grace."""
        self.is_deleted = True
        spec = written()["Deployment", "users"]["spec"]["template"]["spec"]
        seconds = container("Deployment", "users")["lifecycle"]["preStop"]["sleep"]["seconds"]
        await asyncio.sleep(seconds)
        self.process.terminate()
        try:
            async with asyncio.timeout(spec["terminationGracePeriodSeconds"] - seconds):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise RolloutError(f"a pod of {self.build.name} had to be killed") from None


class Cluster:
    """The Deployment and the Service, the migration's Job, and the files of their secrets."""

    def __init__(self, directory: Path, files: dict[str, Path]) -> None:
        self.directory = directory
        self.files = files
        self.pods: list[Pod] = []
        self.endpoints: list[Pod] = []
        self.job: Process | None = None  # its current attempt
        self.tasks = asyncio.TaskGroup()
        self.port = free_port()
        self.spec = written()["Deployment", "users"]["spec"]
        self.replicas: int = written()["HorizontalPodAutoscaler", "users"]["spec"]["minReplicas"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Relay connections until the end of the block, then stop the pods at once."""
        server = await asyncio.start_server(self.relay, "127.0.0.1", self.port)
        try:
            async with server, self.tasks:
                try:
                    yield
                finally:
                    for pod in self.pods:
                        pod.is_deleted = True
                        for task in pod.tasks:
                            task.cancel()
        finally:
            for pod in self.pods:
                if pod.process.returncode is None:
                    pod.process.send_signal(signal.SIGKILL)
                    await pod.process.wait()

    async def relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Connect a client to one of the pods that are ready, in turn; it stays with that pod."""
        ready = [pod for pod in self.endpoints if pod.is_ready]
        try:
            if not ready:
                return
            pod = ready[0]
            self.endpoints.append(self.endpoints.pop(self.endpoints.index(pod)))
            pod_reader, pod_writer = await asyncio.open_connection("127.0.0.1", pod.port)
            try:
                await asyncio.gather(copied(reader, pod_writer), copied(pod_reader, writer))
            finally:
                pod_writer.close()
        except OSError:
            pass  # the client sees it as its connection's end
        finally:
            writer.close()

    async def start(self, build: Build) -> Pod:
        """Start a pod, and probe it."""
        port = free_port()
        one = container("Deployment", "users")
        with (self.directory / f"{build.name}-{port}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *one["args"][1:],
                cwd=build.directory,
                env=environment(one, self.files, HOST="127.0.0.1", PORT=str(port)),
                stdin=DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        pod = Pod(build, port, process)
        pod.tasks.append(self.tasks.create_task(pod.probe()))
        self.pods.append(pod)
        self.endpoints.append(pod)
        return pod

    async def delete(self, pod: Pod) -> None:
        """Delete a pod; the Service follows a moment later."""
        pod.tasks.append(self.tasks.create_task(pod.delete()))
        await asyncio.sleep(ENDPOINTS_DELAY)
        self.endpoints.remove(pod)

    async def roll_out(self, build: Build) -> None:
        """Replace the pods by those of a build, as the Deployment's strategy says.

        Raise RolloutError where a new pod isn't ready in time: the old ones go on.
        """
        surge = self.spec["strategy"]["rollingUpdate"]["maxSurge"]
        assert self.spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        old = [pod for pod in self.pods if not pod.is_deleted]
        new: list[Pod] = []
        while len(new) < self.replicas or old:
            starting = [
                await self.start(build)
                for _ in range(min(self.replicas + surge - len(old) - len(new), self.replicas))
            ]
            try:
                async with asyncio.timeout(self.spec["progressDeadlineSeconds"]):
                    await asyncio.gather(*(pod.ready.wait() for pod in starting))
            except TimeoutError:
                raise RolloutError(f"the pods of {build.name} don't become ready") from None
            await asyncio.sleep(self.spec["minReadySeconds"])
            new += starting
            for pod in old[: len(starting)]:
                self.tasks.create_task(self.delete(pod))
            del old[: len(starting)]

    async def gone(self) -> None:
        """Return when the deleted pods have ended."""
        await asyncio.gather(*(pod.process.wait() for pod in self.pods if pod.is_deleted))

    async def run_job(self, build: Build, *arguments: str) -> None:
        """Run the migration's Job with the image of a build.

        `arguments` replace the manifest's. Raise RolloutError with what the last attempt printed.
        """
        spec = written()["Job", "users-migration"]["spec"]
        one = container("Job", "users-migration")
        command = arguments or one["args"]
        output = ""
        for attempt in range(spec["backoffLimit"] + 1):
            if attempt:
                await asyncio.sleep(JOB_DELAYS[attempt - 1])
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *command,
                cwd=build.directory, env=environment(one, self.files),
                stdin=DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            self.job = process
            output = (await process.communicate())[0].decode()
            if process.returncode == 0:
                return
        raise RolloutError(f"the Job of {build.name} failed: {output[-1000:]}")

    def kill_job(self) -> None:
        """Kill the attempt of the Job that runs."""
        if self.job is not None:
            self.job.kill()


async def copied(reader: StreamReader, writer: StreamWriter) -> None:
    """Copy bytes until one side ends."""
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError):
        writer.close()
