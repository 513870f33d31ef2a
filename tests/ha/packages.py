"""The programs of `make ha`, beside PostgreSQL: etcd and HAProxy from Debian, Patroni from PyPI.

Debian's Patroni needs Debian's own Python with a compiled psycopg2, which other machines and most
Pythons lack, and Debian 12 has one that is older than PostgreSQL 18.
"""

import sys
from pathlib import Path

from tests.debian_packages import command, download
from tests.paths import ROOT

SUITE = "trixie"
DIRECTORY = ROOT / ".cache/ha" / SUITE
ETCD, HAPROXY = "usr/bin/etcd", "usr/sbin/haproxy"
PATRONI = Path(sys.prefix) / "ha/bin/patroni"  # from requirements-ha.txt


def require_packages() -> None:
    """Download etcd and HAProxy unless they are there; raise NoPackages where that fails."""
    if not all((DIRECTORY / program).exists() for program in (ETCD, HAPROXY)):
        download(SUITE, DIRECTORY, "etcd-server", "haproxy")


def etcd() -> list[str]:
    """Return the command that runs etcd."""
    return command(DIRECTORY, ETCD)


def haproxy() -> list[str]:
    """Return the command that runs HAProxy."""
    return command(DIRECTORY, HAPROXY)
