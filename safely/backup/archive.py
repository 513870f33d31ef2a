"""A backup file: its kind, what it contains, and whether it can be read to its end."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from alembic.util import CommandError

from safely.postgresql.programs import Advance, Program, find_program, running

MAGIC = {b"PGDMP": "postgresql", b"SQLite format 3\0": "sqlite"}  # first bytes: dialect
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
ANY_VERSION = 0  # a newer pg_restore also reads the dumps of older versions
RIGHTS = re.compile(r"\d+; \d+ \d+ (ACL|DEFAULT ACL|POLICY) ")
# the roles in a GRANT, a REVOKE, or the first line of a policy; its condition, which follows, may
# contain the same words
ROLE = r'(?:"(?:[^"]|"")+"|[^\s";,]+)'
ROLES = re.compile(rf"\b(?:TO|FROM|FOR ROLE|SESSION AUTHORIZATION) ({ROLE}(?:, {ROLE})*)")
CONDITION = re.compile(r" (?:USING|WITH CHECK) \(")
PREDEFINED = {"", "PUBLIC", "pg_database_owner"}  # on every server


class Archive(NamedTuple):
    """A dump of PostgreSQL in the custom format."""

    file: Path
    program: Path  # the pg_restore that reads it
    server: int  # major version of the server that was dumped
    entries: list[str]  # its table of contents, as `pg_restore --list` prints it

    def owners(self) -> set[str]:
        """Return the roles that own the objects in it."""
        return {line.rpartition(" ")[2] for line in self.entries} - PREDEFINED


def dialect_of(file: Path) -> str:
    """Return `postgresql` or `sqlite`; raise CommandError for a file that is no backup."""
    try:
        with file.open("rb") as opened:
            beginning = opened.read(100)
    except OSError as error:
        raise CommandError(f"can't read {file}: {error.strerror}") from None
    for magic, dialect in MAGIC.items():
        if beginning.startswith(magic):
            return dialect
    if beginning.startswith(b"--"):
        raise CommandError(
            f"{file} is an SQL script, and not a dump in the custom format: run it with psql"
        )
    raise CommandError(
        f"{file} is not a backup: it is neither a dump of PostgreSQL in the custom format nor an "
        "SQLite file, or it was cut off near its beginning"
    )


def refuse_other_kind(file: Path, dialect: str) -> None:
    """Raise CommandError for a backup of another kind of database."""
    if (its_dialect := dialect_of(file)) != dialect:
        raise CommandError(
            f"{file} is a backup of {NAMES[its_dialect]}, and the database is {NAMES[dialect]}"
        )


async def read_contents(file: Path) -> Archive:
    """Read a dump's table of contents; raise CommandError where it is cut off or too new."""
    program = find_program("pg_restore", ANY_VERSION)
    lines = (await output_of(program, "--list", file=file)).splitlines()
    server = re.search(r"Dumped from database version: (\d+)", "\n".join(lines))
    entries = [line for line in lines if line and not line.startswith(";")]
    return Archive(file, program, int(server[1]) if server else 0, entries)


async def read_to_end(archive: Archive, advance: Advance) -> int:
    """Read a dump to its end and return the number of lines; raise CommandError if it is damaged.

    `advance` gets the number of further lines.
    """
    lines = 0
    options = ("--file=-", str(archive.file))
    async with running(archive.program, *options, stdout=subprocess.PIPE) as reader:
        async for chunk in reader.output():
            more = chunk.count(b"\n")
            lines += more
            advance(more)
        await finish(reader, archive.file)
    return lines


async def roles_with_rights(archive: Archive) -> set[str]:
    """Return the roles in the dump's grants and policies."""
    rights = [line for line in archive.entries if RIGHTS.match(line)]
    if not rights:
        return set()
    options = ("--file=-", "--use-list=/dev/stdin")
    with entry_list(rights) as stdin:
        script = await output_of(archive.program, *options, file=archive.file, stdin=stdin)
    return roles_in(script)


def roles_in(script: str) -> set[str]:
    """Return the roles to which the script's statements give rights, or from which they take."""
    roles = set()
    for line in script.splitlines():
        if line.startswith("--"):
            continue
        for names in ROLES.findall(CONDITION.split(line)[0]):
            roles |= {name.strip('"').replace('""', '"') for name in re.findall(ROLE, names)}
    return roles - PREDEFINED


@contextmanager
def entry_list(entries: list[str]) -> Iterator[IO[bytes]]:
    """Yield a file with the entries that pg_restore shall restore, for --use-list=/dev/stdin."""
    with tempfile.TemporaryFile() as file:
        file.write("\n".join(entries).encode(errors="surrogateescape"))
        file.seek(0)
        yield file


async def output_of(
    program: Path, *options: str, file: Path, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> str:
    """Run pg_restore on a dump and return its output; raise CommandError if it fails."""
    arguments = (*options, str(file))
    async with running(program, *arguments, stdin=stdin, stdout=subprocess.PIPE) as reader:
        text = b"".join([chunk async for chunk in reader.output()])
        await finish(reader, file)
    return text.decode(errors="surrogateescape")


async def finish(reader: Program, file: Path) -> None:
    """Wait for pg_restore; raise CommandError unless it read the whole file."""
    try:
        await reader.finish()
    except CommandError:
        message = reader.error_message()
        if "unsupported version" in message:
            raise CommandError(
                f"{file} was written by a newer pg_dump than {reader.path} can read ({message}): "
                "install PostgreSQL's client programs of that version"
            ) from None
        raise CommandError(f"{file} is damaged or cut off ({message})") from None
