"""Download PgBouncer from Debian's archive into .cache/; install nothing.

Two suites, since what a client may do behind PgBouncer depends on its version: bookworm has 1.18,
trixie 1.24, which knows prepared statements.

    python -m tests.pgbouncer_packages
"""

import sys

from tests.debian_packages import NoPackages, download
from tests.paths import ROOT

SUITES = ("bookworm", "trixie")
DIRECTORY = ROOT / ".cache/pgbouncer"
PROGRAM = "usr/sbin/pgbouncer"


def main() -> None:
    """Download the suites that are missing; print why where that is not possible."""
    for suite in SUITES:
        if (DIRECTORY / suite / PROGRAM).exists():
            continue
        try:
            download(suite, DIRECTORY / suite, "pgbouncer")
        except NoPackages as error:
            print(f"PgBouncer of Debian {suite}: {error}; its tests are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
