"""`python -m service import` and `export`: straight to the database, for people."""

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, cast, get_args

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service import embedded, schemas, users
from service.database import Database
from service.errors import ImportRefused, Rejected, named
from service.models import SCHEMA_REVISION
from service.settings import Settings
from service.transfer import export, staging
from service.transfer.formats import READERS, Format, Reader
from service.transfer.rejections import Rejections
from service.transfer.sessions import Transfers

SUFFIXES: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
PIECE = 256 * 1024  # bytes
SHOWN = 10  # rejected lines that are printed
ALL_DONE, SOME_REJECTED = 0, 1


class NotDone(Exception):  # noqa: N818  # what can't be done is not always a fault
    """A file can't be imported or exported; the message is one line."""


def add_transfer_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`import` and `export`."""
    command = commands.add_parser("import", help="import users from a file")
    command.set_defaults(run=import_file, task="import")
    command.add_argument("file", metavar="FILE", help="CSV or NDJSON; - is standard input")
    command.add_argument("--format", choices=READERS, help="if the file's name doesn't tell")
    command.add_argument(
        "--on-conflict",
        choices=get_args(staging.OnConflict),
        default="fail",
        help="what becomes of a line whose e-mail address is taken or repeated (default: fail: "
        "nothing is imported at all)",
    )
    command.add_argument(
        "--rejected", metavar="FILE", help="where to write all rejected lines, as NDJSON"
    )

    command = commands.add_parser("export", help="export users to a file")
    command.set_defaults(run=export_file, task="export")
    command.add_argument("--output", metavar="FILE", help="if not to standard output")
    command.add_argument("--format", choices=READERS, help="if the file's name doesn't tell")
    command.add_argument("--name", help="only those whose name begins so")
    command.add_argument("--email", help="only the one with this address")


def import_file(options: argparse.Namespace) -> int:
    """Import a file in one transaction; return 1 if lines were rejected."""
    form = options.format or format_of(options.file)
    with (
        source(options.file) as file,
        replacing(options.rejected) if options.rejected else nullcontext() as rejected,
    ):
        rejections = Rejections(rejected)
        try:
            counts = asyncio.run(
                import_users(file, READERS[form](), options.on_conflict, rejections)
            )
        except ImportRefused as refusal:
            show(refusal.rejected)
            raise NotDone(refusal.detail) from None
    if not options.rejected:
        show(rejections.first)
    print(", ".join(f"{count} {what}" for what, count in msgspec.structs.asdict(counts).items()))
    return SOME_REJECTED if counts.rejected else ALL_DONE


async def import_users(
    file: IO[bytes],
    reader: Reader,
    on_conflict: staging.OnConflict,
    rejections: Rejections,
) -> schemas.ImportCounts:
    """Import the users of the file in one transaction; return what became of its lines."""

    async def chunks() -> AsyncIterator[bytes]:
        with progress("reading", size_of(file), DownloadColumn()) as advance:
            while piece := file.read(PIECE):
                advance(len(piece))
                yield piece

    rows = staging.read_rows(chunks(), reader, rejections)
    async with (
        opened_transfers() as transfers,
        transfers.import_session() as session,
        staging.staged(session, rows) as count,
    ):
        with progress("storing", None, TimeElapsedColumn()):
            return await staging.merge(session, count, on_conflict, rejections)


def export_file(options: argparse.Namespace) -> int:
    """Export users as they are at one moment; a file is there whole, or not at all."""
    form = options.format or (format_of(options.output) if options.output else "ndjson")
    listing = users.listing_of(options.name, options.email, None)
    if options.output is None:
        asyncio.run(export_users(sys.stdout.buffer, listing, form))
        return ALL_DONE
    with replacing(options.output) as file:
        asyncio.run(export_users(file, listing, form))
    return ALL_DONE


async def export_users(file: IO[bytes], listing: users.Listing, form: Format) -> None:
    """Write the users of the list to the file."""
    async with opened_transfers() as transfers, transfers.export_session() as session:
        total = await users.count(session, listing)
        with progress("writing", total, MofNCompleteColumn()) as advance:

            async def write(piece: bytes) -> None:
                file.write(piece)
                advance(piece.count(b"\n"))

            await export.export(session, listing, form, write)


@asynccontextmanager
async def opened_transfers() -> AsyncIterator[Transfers]:
    """Yield the sessions of the database that the environment names; close it at the end."""
    settings = embedded.resolved(Settings.from_environment(os.environ))
    database = Database(settings, SCHEMA_REVISION)
    async with database.open():
        yield Transfers(settings, database)


def show(rejected: Sequence[Rejected]) -> None:
    """Print the first lines that were rejected."""
    for line in rejected[:SHOWN]:
        print(f"line {line.line}: {'; '.join(map(named, line.flaws))}", file=sys.stderr)


def format_of(name: str) -> Format:
    """The format that a file's name tells; raises NotDone where it doesn't."""
    if form := SUFFIXES.get(Path(name).suffix.lower()):
        return form
    raise NotDone(f"{name} does not end in {', '.join(SUFFIXES)}: say --format csv or ndjson")


def opened(name: str, mode: str) -> IO[bytes]:
    """The file; raises NotDone where that can't be."""
    try:
        return cast("IO[bytes]", Path(name).open(mode))
    except OSError as error:
        raise NotDone(f"{name}: {error.strerror}") from None


def source(name: str) -> AbstractContextManager[IO[bytes]]:
    """The file, or standard input; raises NotDone."""
    return nullcontext(sys.stdin.buffer) if name == "-" else opened(name, "rb")


@contextmanager
def replacing(name: str) -> Iterator[IO[bytes]]:
    """A file that takes the name when it is whole; raises NotDone."""
    part = Path(f"{name}.part")
    with opened(str(part), "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            part.unlink()
            raise
    part.replace(name)


def size_of(file: IO[bytes]) -> int | None:
    """Bytes, where that is known before the end."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def progress(
    what: str, total: int | None, column: ProgressColumn
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), column, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda step: bar.advance(task, step)
