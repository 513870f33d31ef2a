"""The workers: granian's, replaced when one dies, and stopped after a drain."""

import ctypes
import logging
import multiprocessing
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from granian.constants import Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server import MPServer
from litestar.types import ASGIApp

from service.draining import Draining
from service.observability.logs import logging_config
from service.settings import Settings
from service.signals import hold_stop_signals, release_stop_signals
from service.stopping import hold_signals

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
STOP_TIMEOUT = 20  # seconds for running requests; with DRAIN_TIME less than stop_grace_period
RESTART_PAUSE = 1.0  # seconds between two starts of a worker that dies at once
BACKLOG = 4096  # connections that the kernel accepts before a worker does
OTHER_FILES = 256  # descriptors that are no clients' connections, and no pool's
MAX_CONNECTIONS = 30_000  # of clients, per worker; an idle one takes some 20 KiB
# bytes: the request line and all headers. Over HTTP/2 decompressed: HPACK repeats 4 KiB for one
# byte, and with granian's 16 MiB a connection of 200 such requests would take 3 GB of memory
HEAD_SIZE = 64 * 1024

HTTP1 = HTTP1Settings(
    # also ends idle connections; IdleConnections ends half-sent heads much sooner
    header_read_timeout=630_000,  # milliseconds
    max_buffer_size=HEAD_SIZE,
)
HTTP2 = HTTP2Settings(
    keep_alive_interval=20_000,  # milliseconds between two pings
    keep_alive_timeout=10,  # seconds for the answer
    max_concurrent_streams=100,
    max_headers_size=HEAD_SIZE,
)

log = logging.getLogger("service")


class Wakeup(threading.Event):
    """An event that a signal handler can set.

    A plain Event deadlocks if the signal interrupts the very thread that begins or ends to wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake the thread that waits, or the next one that does."""
        self.calls.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether there was a call of `set` within the timeout in seconds."""
        try:
            self.calls.get(timeout=timeout)
        except queue.Empty:
            return False
        return True


class Workers(MPServer):
    """Granian's parent process, with a loop of our own.

    Granian's loop ends the service when a worker dies twice within seconds, may overlook one of two
    that die at the same time, and knows no drain.
    """

    def __init__(self, settings: Settings, after_start: Callable[[], None]) -> None:
        """Run `after_start` in a thread when all workers are started."""
        super().__init__(
            "service.app:create",
            interface=Interfaces.ASGI,
            address=settings.host,
            port=settings.port,
            workers=settings.workers,
            workers_kill_timeout=STOP_TIMEOUT,
            loop=Loops.uvloop,
            # with its other mode a worker may wait for ever for its own end, which it has missed
            runtime_mode=RuntimeModes.st,
            websockets=False,
            backlog=BACKLOG,
            backpressure=connection_limit(settings),
            http1_settings=HTTP1,
            http2_settings=HTTP2,
            log_level=LogLevels.warning,
            log_dictconfig=logging_config(settings),
        )
        self.main_loop_interrupt = Wakeup()
        self.drain_time = settings.drain_time
        self.draining = Draining()
        self.has_served = threading.Event()
        self.after_start = after_start

    def run(self) -> None:
        """Run the workers until a signal stops them, and the drain after it is over.

        End the process with exit code 1 if none has ever served.
        """
        load = partial(load_app, self.draining, self.backpressure)
        if sys.platform == "linux" and multiprocessing.get_start_method(allow_none=True) is None:
            # a forked worker starts sooner, and shares the memory of all modules
            multiprocessing.set_start_method("fork")
        os.register_at_fork(
            before=hold_stop_signals,  # a worker would forget one that comes before it is set up
            after_in_parent=release_stop_signals,
            after_in_child=partial(become_worker, os.getpid()),
        )
        hangup = signal.getsignal(signal.SIGHUP)
        if hangup != signal.SIG_IGN:  # as it is below nohup
            hangup = self.signal_handler_interrupt
        self.on_startup(lambda: signal.signal(signal.SIGHUP, hangup))  # granian has set its own
        try:
            self.serve(target_loader=load, wrap_loader=False)
        except SystemExit:
            if not self.interrupt_signal:  # else a worker that got the signal, too, was faster
                raise

    def _init_shared_socket(self) -> None:
        """Open the listener in the parent if there is one worker, else leave it to the workers.

        Without a worker, newcomers then wait for the next one; they would be refused. Several
        workers need a listener each, since the kernel spreads connections evenly among listeners.
        """
        super()._init_shared_socket()  # type: ignore[no-untyped-call]  # it has no types
        listener: Any = self._ssp  # on Linux, what each worker opens for itself
        if self.workers == 1 and listener is not None:
            self._ssp, holder = None, listener.build()
            self._shd = holder
            self._sso = socket.socket(fileno=holder.get_fd())
            self._sso.set_inheritable(True)

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace workers that die; return when the service stops."""
        # not earlier: a worker that is forked meanwhile would inherit the locks that it holds
        threading.Thread(target=self.after_start, daemon=True).start()
        self.supervise(spawn_target, target_loader)
        self.draining.end()

    def supervise(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace workers that die; return after a signal, and the drain that follows it.

        If none has ever served, it returns with the dead one in `interrupt_children`, and granian
        exits with code 1.
        """
        drain_end: float | None = None
        while True:
            left = None if drain_end is None else max(0.0, drain_end - time.monotonic())
            if not self.main_loop_interrupt.wait(left):
                return
            if self.interrupt_signal:
                if drain_end is not None or not self.drain_time or not self.has_served.is_set():
                    return
                self.interrupt_signal = False
                self.draining.begin()
                drain_end = time.monotonic() + self.drain_time
                log.info("stopping in %g s; a second signal stops at once", self.drain_time)
            while self.interrupt_children:
                if not self.has_served.is_set():
                    return
                self.replace(self.interrupt_children.pop(), spawn_target, target_loader)

    def replace(self, index: int, spawn_target: Any, target_loader: Any) -> None:
        """Start a worker in the place of a dead one; at once, unless that one had just started."""
        worker = self.wrks[index]
        log.error("worker %d was lost: %s; another starts", index + 1, death(worker.inner.exitcode))
        time.sleep(max(0.0, worker.birth + RESTART_PAUSE - time.monotonic()))
        another: Any = self._spawn_worker(index, spawn_target, target_loader)
        self.wrks[index] = another
        another.start()

    def _stop_workers(self) -> None:
        """Let all workers stop; kill those that have not after STOP_TIMEOUT.

        granian's own takes a worker for alive, and kills it, when another thread, which watches the
        worker, has learnt of its end at the same moment.
        """
        workers: list[Any] = self.wrks
        for worker in workers:
            worker.terminate()
        running = {worker.inner.sentinel: worker for worker in workers}
        end = time.monotonic() + STOP_TIMEOUT
        while running and (left := end - time.monotonic()) > 0:
            for sentinel in wait(list(running), left):
                del running[sentinel]
        for worker in running.values():
            log.error("worker %d was killed: it had %d s to stop", worker.idx + 1, STOP_TIMEOUT)
            worker.kill()
        for worker in workers:
            worker.join()
        workers.clear()


def death(exit_code: int | None) -> str:
    """Return how a process ended, given its exit code as multiprocessing has it."""
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def load_app(draining: Draining, connections: int) -> ASGIApp:
    """Return the app; it runs in the worker, before granian sets its signal handlers."""
    if (parent := multiprocessing.parent_process()) is not None:
        become_worker(parent.pid)  # a worker that was spawned is none yet
    from service.app import create  # noqa: PLC0415  # prometheus-client reads the environment when it is imported

    app = create(draining, connections)
    hold_signals()
    return app


def set_process_limits() -> None:
    """Allow as many open files as the system does, and no core dumps, which contain secrets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names a limit that it does not allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def connection_limit(settings: Settings) -> int:
    """Return how many connections of clients a worker accepts.

    It must not run out of descriptors: without one it could neither accept a connection nor open
    one to the database.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    reserved = OTHER_FILES + 4 * settings.pool_size  # SQLite has up to four files for a connection
    return max(files // 4, min(files - reserved, MAX_CONNECTIONS))


def become_worker(parent: int | None) -> None:
    """Let this process, a new worker, end on SIGTERM, and when the parent ends, even by SIGKILL.

    Until its app is loaded, SIGTERM ends it at once.
    """
    with suppress(PermissionError):  # it leads a session
        os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which drains first
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # a forked worker inherits the parent's handler, which does nothing here
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
