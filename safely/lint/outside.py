"""Keeps the body of a revision, while lint runs it, from connections, files and programs.

Python reports these actions as audit events, and an error that is raised there prevents them. A
driver that is written in C, such as psycopg, reports none, so its connections are refused where the
body or SQLAlchemy asks for them.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NoReturn

import sqlalchemy as sa

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
PREVENTED = {  # audit events
    "builtins.input": "asks at the terminal",
    "ftplib.connect": "connects to a server",
    "imaplib.open": "connects to a server",
    "os.exec": "runs a program",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "os.kill": "sends a signal",
    "os.mkdir": "makes a directory",
    "os.posix_spawn": "runs a program",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.rmdir": "removes a directory",
    "os.symlink": "makes a link",
    "os.system": "runs a program",
    "os.truncate": "writes a file",
    "shutil.copyfile": "writes a file",
    "shutil.move": "moves a file",
    "shutil.rmtree": "removes a directory",
    "smtplib.connect": "connects to a server",
    "socket.connect": "connects to a server",
    "socket.getaddrinfo": "connects to a server",
    "socket.sendto": "connects to a server",
    "sqlite3.connect": "opens a database",
    "subprocess.Popen": "runs a program",
    "urllib.Request": "connects to a server",
}
OUTSIDE_DRIVERS = ("psycopg", "psycopg2")  # they are written in C, so Python reports nothing


class Prevented(PermissionError):  # noqa: N818  # a refusal is not a fault
    """A body wanted to act outside of its database; lint has prevented it."""


Note = Callable[["Prevented"], None]


class Watch:
    """Whether a body runs, and what is allowed meanwhile."""

    thread = 0
    """The thread in which it runs; 0: none runs."""
    allowed = ""
    """The directory of the scratch database's socket; empty: none."""
    note: Note = staticmethod(lambda _: None)
    """A function that is called with what was prevented, since a body may catch the error."""

    def concerns_this_thread(self) -> bool:
        """Return whether the body runs in this thread."""
        return threading.get_ident() == self.thread


watch = Watch()


@contextmanager
def prevented(
    note: Note, wait: Callable[[], None] = lambda: None, allowed: str = ""
) -> Iterator[None]:
    """Raise Prevented where the block wants to act outside of this process.

    `note` is called with the error, and `wait` instead of sleeping. `allowed` is the directory
    of a socket to which it may connect.
    """
    install()
    before = watch.thread, watch.allowed, watch.note
    watch.thread, watch.allowed, watch.note = threading.get_ident(), allowed, note
    try:
        with ExitStack() as stack:
            stack.enter_context(instead_of(time, "sleep", wait))
            stack.enter_context(instead_of(threading.Thread, "start", refuse_thread))
            for name in OUTSIDE_DRIVERS:
                if name in sys.modules:
                    connect = instead_of(sys.modules[name], "connect", refuse_connection)
                    stack.enter_context(connect)
            yield
    finally:
        watch.thread, watch.allowed, watch.note = before


@contextmanager
def instead_of(module: Any, name: str, action: Callable[[], None]) -> Iterator[None]:
    """Let a body do something else than call a function of a module; other threads call it."""
    function = getattr(module, name)

    def replaced(*arguments: Any, **options: Any) -> Any:
        return action() if watch.concerns_this_thread() else function(*arguments, **options)

    setattr(module, name, replaced)
    try:
        yield
    finally:
        setattr(module, name, function)


def refuse_thread() -> None:
    """Raise Prevented for a thread, which nobody would watch."""
    prevent("it starts a thread")


def refuse_connection() -> None:
    """Raise Prevented for a connection of a driver that is written in C."""
    prevent("it connects to a database")


@cache  # a hook can't be removed
def install() -> None:
    """Look at the audit events of this process, and at SQLAlchemy's connections."""
    sys.addaudithook(look)
    sa.event.listen(sa.Engine, "do_connect", look_at_connection)


def look(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise Prevented for an event that a body must not cause."""
    if not watch.concerns_this_thread() or (arguments and is_harmless(arguments[0])):
        return
    if event == "open" and is_writing(*arguments):
        prevent(f"it writes the file {arguments[0]}")
    if event in PREVENTED:
        if event == "socket.connect" and is_allowed(arguments[1]):
            return
        prevent(f"it {PREVENTED[event]}")


def prevent(act: str) -> NoReturn:
    """Raise Prevented, and note it."""
    error = Prevented(act)
    watch.note(error)
    raise error


def is_harmless(path: Any) -> bool:
    """Return whether a path is where Python keeps compiled code, as it does at an import."""
    return "__pycache__" in str(path) or str(path) == os.devnull


def is_writing(_: Any, mode: str | None, flags: int) -> bool:
    """Return whether a file is opened to be written."""
    return bool(flags & WRITING) if mode is None else bool(set(mode) & set("wax+"))


def is_allowed(address: Any) -> bool:
    """Return whether an address is the socket of the scratch database."""
    return bool(watch.allowed) and watch.allowed in str(address)


def look_at_connection(_dialect: sa.Dialect, _entry: Any, _: Any, options: dict[str, Any]) -> None:
    """Raise Prevented for a connection of an engine that the body has made."""
    if watch.concerns_this_thread() and not is_allowed(options.get("host")):
        prevent("it connects to a database")
