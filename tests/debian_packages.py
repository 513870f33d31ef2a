"""Download packages from Debian's archive into .cache/, as root or not; install nothing.

The mirror is the machine's own. A program runs with the libraries of its own suite, whatever the
machine has.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_CONFIG = """\
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{place}";
Dir::State::status "{place}/status";
Dir::Cache "{place}";
Acquire::Languages "none";
APT::Sandbox::User "";
"""


class NoPackages(Exception):  # noqa: N818  # a machine without Debian's archive is no fault
    """Debian's packages can't be downloaded here; the message says why."""


def run(*command: str, place: Path) -> str:
    """Return what a command of apt or dpkg prints; it sees the sources of `place` only."""
    environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(place / "apt.conf")}
    done = subprocess.run(
        command, env=environment, cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        # the lines may name the machine's mirror, so they aren't shown
        raise NoPackages(f"{' '.join(command[:2])} failed with {done.returncode}")
    return done.stdout


def mirror() -> str:
    """Return the address from which the machine gets Debian's packages."""
    if not shutil.which("apt-get") or platform.freedesktop_os_release().get("ID") != "debian":
        raise NoPackages("this is not Debian")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    command = ("apt-get", "indextargets", "--format", "$(REPO_URI)")
    targets = subprocess.run(
        (*command, "Created-By: Packages", f"Codename: {codename}"),
        capture_output=True,
        text=True,
        check=True,
    )
    if not (addresses := sorted(set(targets.stdout.split()))):
        raise NoPackages("apt has no source of Debian's packages")
    return addresses[0]


def with_libraries(package: str, place: Path) -> list[str]:
    """Return the package and the libraries that it needs, and those that they need."""
    names, wanted = [package], [package]
    while wanted:
        lines = run("apt-cache", "depends", "--important", *wanted, place=place).splitlines()
        found = {line.split()[-1] for line in lines if " Depends: lib" in line}
        wanted = sorted(found - set(names))
        names += wanted
    return names


def download(suite: str, target: Path, *names: str) -> None:
    """Extract packages and their libraries, as the suite has them, into the directory `target`.

    Raise NoPackages where that is not possible.
    """
    address = mirror()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("lists/partial", "archives/partial", "packages", "root"):
            (place / part).mkdir(parents=True)
        (place / "status").touch()
        (place / "apt.conf").write_text(APT_CONFIG.format(place=place))
        source = f"deb [signed-by={KEYRING}] {address} {suite} main\n"
        (place / "sources.list").write_text(source)
        run("apt-get", "update", place=place)
        packages = {package for name in names for package in with_libraries(name, place)}
        run("apt-get", "download", *sorted(packages), place=place)
        for package in sorted(place.glob("*.deb")):
            run("dpkg-deb", "-x", str(package), str(place / "root"), place=place)
        for part in ("share", "lib/python3"):  # documentation, which is half of it
            shutil.rmtree(place / "root/usr" / part, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(place / "root", target)


def command(root: Path, program: str) -> list[str]:
    """Return the command that runs a program of a downloaded suite with that suite's C library."""
    [loader] = {path.resolve() for path in root.glob("*/*/ld-linux-*")} or {
        path.resolve() for path in root.glob("usr/*/*/ld-linux-*")
    }
    libraries = [str(path) for path in (loader.parent, *root.glob("usr/lib/*-linux-gnu*"))]
    return [str(loader), "--library-path", ":".join(libraries), str(root / program)]
