"""A PostgreSQL that can be harmed: durable, with data of its own."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safely.scratch.embedded import INITDB, Server, allow_passage
from tests.chaos.processes import children, runs

GONE_TIMEOUT = 30  # seconds until the processes of a killed server must have ended
POLL = 0.02  # seconds


class Postgresql(Server):
    """A server; each method returns when what it names has happened."""

    @property
    def socket(self) -> Path:
        """The Unix socket on which it listens."""
        return self.sockets / ".s.PGSQL.5432"

    @property
    def main_process(self) -> int:
        """The id of its main process."""
        return int((self.directory / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])

    def initialize(self, wal: Path) -> None:
        """Make its data directory, with the write-ahead log in another one."""
        self.make_directories()
        wal.mkdir(mode=0o700)
        if self.user is not None:
            allow_passage(wal)
            shutil.chown(wal, self.user, self.user)
        self.call("initdb", "-D", str(self.directory), *INITDB, "--waldir", str(wal))

    def stop(self, mode: str) -> None:
        """Stop it: `smart` waits for clients, `fast` ends them, `immediate` does not even write."""
        self.call("pg_ctl", "-D", str(self.directory), "-w", "-t", "600", "-m", mode, "stop")

    def processes(self) -> list[int]:
        """Return the ids of its main process and of all that it started."""
        main = self.main_process
        return [main, *children(main)]

    def kill(self) -> None:
        """Kill its main process; the others end by themselves when they notice."""
        processes = self.processes()
        os.kill(processes[0], signal.SIGKILL)
        deadline = time.monotonic() + GONE_TIMEOUT
        while any(map(runs, processes)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL's processes still run: {processes}")
            time.sleep(POLL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes by SIGSTOP, until the block ends."""
        frozen: set[int] = set()
        try:
            # the main process first: it would start others
            while new := set(self.processes()) - frozen:
                for process in sorted(new):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGSTOP)
                frozen |= new
            yield
        finally:
            for process in frozen:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def runs(self) -> bool:
        """Return whether its main process runs."""
        return self.call("pg_ctl", "-D", str(self.directory), "status", check=False) == 0

    def promote(self) -> None:
        """Make a standby the primary."""
        self.call("pg_ctl", "-D", str(self.directory), "-w", "promote")

    def make_standby_of(self, primary: "Postgresql") -> None:
        """Copy a server's data, and start as its standby."""
        self.make_directories()
        self.call(
            "pg_basebackup", *primary.address(), "-D", str(self.directory), "-R", "-c", "fast",
            "-d", "application_name=standby",
        )  # fmt: skip
        # of the primary's socket, which is in its data directory
        (self.directory / f"{self.socket.name}.lock").unlink()
        self.join()


@contextmanager
def started(server: Postgresql) -> Iterator[Postgresql]:
    """Start a server, and stop it at the end, whatever happened to it; its data are removed."""
    server.join()
    with removed_at_end(server):
        yield server


@contextmanager
def removed_at_end(server: Postgresql) -> Iterator[None]:
    """Stop a server at the end, if it runs, and remove its data."""
    try:
        yield
    finally:
        server.in_use.close()
        stop = ("-D", str(server.directory), "-w", "-m", "immediate", "stop")
        server.call("pg_ctl", *stop, check=False)
        shutil.rmtree(server.directory, ignore_errors=True)
