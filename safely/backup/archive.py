"""What a file is that is to be restored, and whether it can be read to its end."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from alembic.util import CommandError

from safely.postgresql.programs import Advance, Program, running, tool

MAGIC = {b"PGDMP": "postgresql", b"SQLite format 3\0": "sqlite"}
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
NEWEST = 0  # any version will do: a newer pg_restore reads what the older ones read
RIGHTS = re.compile(r"\d+; \d+ \d+ (ACL|DEFAULT ACL|POLICY) ")
# whom an entry of those names, and it has one line; what a policy asks comes after
ROLE = r'(?:"(?:[^"]|"")+"|[^\s";,]+)'
NAMED = re.compile(rf"\b(?:TO|FROM|FOR ROLE|SESSION AUTHORIZATION) ({ROLE}(?:, {ROLE})*)")
ASKED = re.compile(r" (?:USING|WITH CHECK) \(")
SERVERS_OWN = {"", "PUBLIC", "pg_database_owner"}


class Archive(NamedTuple):
    """A dump of PostgreSQL, as its list tells it."""

    file: Path
    program: Path  # the pg_restore that reads it
    server: int  # major version of the server that was dumped
    entries: list[str]  # what it holds, a line each

    def owners(self) -> set[str]:
        """The roles that own what it holds."""
        return {line.rpartition(" ")[2] for line in self.entries} - SERVERS_OWN


def kind_of(file: Path) -> str:
    """`postgresql` or `sqlite`; raises CommandError for a file that is neither."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(100)
    except OSError as error:
        raise CommandError(f"can't read {file}: {error.strerror}") from None
    for magic, kind in MAGIC.items():
        if beginning.startswith(magic):
            return kind
    if beginning.startswith(b"--"):
        raise CommandError(f"{file} is a script, and not in the custom format: psql can run it")
    raise CommandError(
        f"{file} is not a backup: neither a dump of PostgreSQL in the custom format nor an SQLite "
        "file, or cut off at its very beginning"
    )


def refuse_other_kind(file: Path, dialect: str) -> None:
    """Raise CommandError for a file that goes into another kind of database."""
    if (kind := kind_of(file)) != dialect:
        raise CommandError(
            f"{file} is a backup of {NAMES[kind]}, and DATABASE_URL leads to {NAMES[dialect]}"
        )


async def listed(file: Path) -> Archive:
    """What an archive holds; raises CommandError where it is cut off, or too new to be read."""
    program = tool("pg_restore", NEWEST)
    lines = (await written(file, program, "--list")).splitlines()
    server = re.search(r"Dumped from database version: (\d+)", "\n".join(lines))
    entries = [line for line in lines if line and not line.startswith(";")]
    return Archive(file, program, int(server[1]) if server else 0, entries)


async def read_through(archive: Archive, advance: Advance) -> int:
    """Read an archive to its end; the number of lines. Raises CommandError if it can't be done."""
    lines = 0
    options = ("--file=-", str(archive.file))
    async with running(archive.program, *options, stdout=subprocess.PIPE) as reader:
        async for chunk in reader.output():
            lines += (more := chunk.count(b"\n"))
            advance(more)
        await finish(archive.file, reader)
    return lines


async def roles_named(archive: Archive) -> set[str]:
    """The roles that grants and policies in it name."""
    rights = [line for line in archive.entries if RIGHTS.match(line)]
    if not rights:
        return set()
    with selection(rights) as entries:
        options = ("--file=-", "--use-list=/dev/stdin")
        script = await written(archive.file, archive.program, *options, stdin=entries)
    return roles_in(script)


def roles_in(script: str) -> set[str]:
    """Whom the statements name that give rights."""
    found = set()
    for line in script.splitlines():
        if line.startswith("--"):
            continue
        for names in NAMED.findall(ASKED.split(line)[0]):
            found |= {name.strip('"').replace('""', '"') for name in re.findall(ROLE, names)}
    return found - SERVERS_OWN


@contextmanager
def selection(entries: list[str]) -> Iterator[IO[bytes]]:
    """A file with the entries that pg_restore shall heed, for its --use-list=/dev/stdin."""
    with tempfile.TemporaryFile() as file:
        file.write("\n".join(entries).encode(errors="surrogateescape"))
        file.seek(0)
        yield file


async def written(
    file: Path, program: Path, *options: str, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> str:
    """What pg_restore writes about an archive."""
    asked = (*options, str(file))
    async with running(program, *asked, stdin=stdin, stdout=subprocess.PIPE) as reader:
        text = b"".join([chunk async for chunk in reader.output()])
        await finish(file, reader)
    return text.decode(errors="surrogateescape")


async def finish(file: Path, reader: Program) -> None:
    """Raise CommandError with a sentence about the file unless all of it was read."""
    try:
        await reader.finish()
    except CommandError:
        said = reader.complaint()
        if "unsupported version" in said:
            raise CommandError(
                f"{file} was written by a newer pg_dump than {reader.path} can read ({said}): "
                "install PostgreSQL's client programs of that version"
            ) from None
        raise CommandError(f"{file} is damaged or cut off ({said})") from None
