"""What the body of a revision must not do while lint runs it: connect, write files, run programs.

Python reports these actions as audit events, and an error that is raised there prevents them. A
driver that is written in C, such as psycopg, reports none, so its connections are refused where
SQLAlchemy makes them.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy as sa

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
PREVENTED = {  # audit events
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
OUTSIDE_DRIVERS = ("psycopg", "psycopg2")  # they are written in C


class Prevented(PermissionError):  # noqa: N818  # a refusal is not a fault
    """A body wanted to act outside of its database; lint has prevented it."""


class Watch(threading.local):
    """Whether a body runs in this thread, and the address of the scratch database's socket."""

    is_on = False
    allowed = ""


watch = Watch()


@contextmanager
def prevented(allowed: str = "") -> Iterator[None]:
    """Raise Prevented where the block wants to act outside of this process.

    `allowed` is the directory of a socket to which it may connect.
    """
    install()
    before = watch.is_on, watch.allowed
    watch.is_on, watch.allowed = True, allowed
    try:
        yield
    finally:
        watch.is_on, watch.allowed = before


@cache  # a hook can't be removed
def install() -> None:
    """Look at the audit events of this process, and at SQLAlchemy's connections."""
    sys.addaudithook(look)
    sa.event.listen(sa.Engine, "do_connect", look_at_connection)


def look(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise Prevented for an event that a body must not cause."""
    if not watch.is_on:
        return
    if event == "open" and is_writing(*arguments):
        raise Prevented(f"it writes the file {arguments[0]}")
    if event in PREVENTED:
        if event == "socket.connect" and is_allowed(arguments[1]):
            return
        raise Prevented(f"it {PREVENTED[event]}")


def is_writing(path: Any, mode: str | None, flags: int) -> bool:
    """Return whether a file is opened to be written; the file with compiled code may be."""
    if str(path).endswith(".pyc") or ".pyc." in str(path):
        return False
    return bool(flags & WRITING) if mode is None else bool(set(mode) & set("wax+"))


def is_allowed(address: Any) -> bool:
    """Return whether an address is the socket of the scratch database."""
    return bool(watch.allowed) and watch.allowed in str(address)


def look_at_connection(_dialect: sa.Dialect, _entry: Any, _: Any, options: dict[str, Any]) -> None:
    """Raise Prevented for a connection of an engine that the body has made."""
    if watch.is_on and not is_allowed(options.get("host")):
        raise Prevented("it connects to a database")
