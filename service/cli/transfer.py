"""The commands `import` and `export`: files to and from the database, without HTTP."""

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

from service import schemas, user_lists
from service.cli.development import with_database
from service.database import Database
from service.errors import ImportRefused, Rejected, flaw_text
from service.models import SCHEMA_REVISION
from service.observability.logs import printable
from service.settings import Settings
from service.transfer import export, staging
from service.transfer.formats import READERS, Format, Reader, reader_of
from service.transfer.rejections import Rejections
from service.transfer.sessions import Transfers

SUFFIXES: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
CHUNK_SIZE = 256 * 1024  # bytes that are read from a file at a time
PRINTED_LIMIT = 10  # rejected lines that are printed
DONE, SOME_REJECTED = 0, 1  # exit codes


class TransferError(Exception):
    """A file can't be imported or exported; the message is one line."""


def add_transfer_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `import` and `export`."""
    command = commands.add_parser("import", help="import users from a file")
    command.set_defaults(run=import_file, task="import")
    command.add_argument("file", metavar="FILE", help="CSV or NDJSON; - is standard input")
    command.add_argument("--format", choices=READERS, help="if the file's name doesn't tell")
    command.add_argument(
        "--charset", help="of a CSV that is neither UTF-8 nor UTF-16, such as windows-1252"
    )
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
    command.add_argument(
        "--formulas",
        choices=get_args(export.Formulas),
        default="raw",
        help="text: in a CSV put an apostrophe before what a spreadsheet would run as a formula",
    )
    command.add_argument("--name", help="only those whose name begins so")
    command.add_argument("--email", help="only the one with this address")


def import_file(options: argparse.Namespace) -> int:
    """Import a file in one transaction; return exit code 1 if lines were rejected."""
    form = options.format or format_of(options.file)
    try:
        reader = reader_of(form, {} if options.charset is None else {"charset": options.charset})
    except ValueError as error:
        raise TransferError(str(error)) from None
    with (
        opened_source(options.file) as file,
        replaced_file(options.rejected) if options.rejected else nullcontext() as rejected,
    ):
        rejections = Rejections(rejected)
        try:
            counts = asyncio.run(import_users(file, reader, options.on_conflict, rejections))
        except ImportRefused as refusal:
            print_rejected(refusal.rejected)
            raise TransferError(refusal.detail) from None
    if not options.rejected:
        print_rejected(rejections.first)
    print(", ".join(f"{count} {what}" for what, count in msgspec.structs.asdict(counts).items()))
    return SOME_REJECTED if counts.rejected else DONE


async def import_users(
    file: IO[bytes],
    reader: Reader,
    on_conflict: staging.OnConflict,
    rejections: Rejections,
) -> schemas.ImportCounts:
    """Import the users of the file in one transaction; return what became of its lines."""

    async def chunks() -> AsyncIterator[bytes]:
        with progress("reading", size_of(file), DownloadColumn()) as advance:
            while chunk := file.read(CHUNK_SIZE):
                advance(len(chunk))
                yield chunk

    rows = staging.read_rows(chunks(), reader, rejections)
    async with (
        opened_transfers() as transfers,
        transfers.import_session() as session,
        staging.staged(session, rows) as count,
    ):
        with progress("storing", None, TimeElapsedColumn()):
            return await staging.merge(session, count, on_conflict, rejections)


def export_file(options: argparse.Namespace) -> int:
    """Export one snapshot of the users; a file is replaced by the whole export, or not at all."""
    form = options.format or (format_of(options.output) if options.output else "ndjson")
    if options.formulas != "raw" and form != "csv":
        raise TransferError("--formulas is for --format csv")
    listing = user_lists.listing_of(options.name, options.email, None)
    if options.output is None:
        asyncio.run(export_users(sys.stdout.buffer, listing, form, options.formulas))
        return DONE
    with replaced_file(options.output) as file:
        asyncio.run(export_users(file, listing, form, options.formulas))
    return DONE


async def export_users(
    file: IO[bytes], listing: user_lists.Listing, form: Format, formulas: export.Formulas
) -> None:
    """Write the users of the list to the file."""
    async with opened_transfers() as transfers, transfers.export_session() as session:
        total = await user_lists.count(session, listing)
        with progress("writing", total, MofNCompleteColumn()) as advance:

            async def write(piece: bytes) -> None:
                file.write(piece)
                advance(piece.count(b"\n"))

            await export.export(session, listing, form, write, formulas)


@asynccontextmanager
async def opened_transfers() -> AsyncIterator[Transfers]:
    """Yield the sessions of the database that the environment names; close it at the end."""
    settings = with_database(Settings.from_environment(os.environ))
    database = Database(settings, SCHEMA_REVISION)
    async with database.open():
        yield Transfers(settings, database)


def print_rejected(rejected: Sequence[Rejected]) -> None:
    """Print the first of the rejected lines."""
    for line in rejected[:PRINTED_LIMIT]:
        flaws = "; ".join(map(flaw_text, line.flaws))  # they repeat names that are in the file
        print(f"line {line.line}: {printable(flaws)}", file=sys.stderr)


def format_of(name: str) -> Format:
    """Return the format of a file by the ending of its name; raise TransferError if unknown."""
    if form := SUFFIXES.get(Path(name).suffix.lower()):
        return form
    raise TransferError(f"{name} does not end in {', '.join(SUFFIXES)}: say --format csv or ndjson")


def opened(name: str, mode: str) -> IO[bytes]:
    """Return the opened file; raise TransferError where it can't be opened."""
    try:
        return cast("IO[bytes]", Path(name).open(mode))
    except OSError as error:
        raise TransferError(f"{name}: {error.strerror}") from None


def opened_source(name: str) -> AbstractContextManager[IO[bytes]]:
    """Return the file to import, or standard input for `-`; raise TransferError."""
    return nullcontext(sys.stdin.buffer) if name == "-" else opened(name, "rb")


@contextmanager
def replaced_file(name: str) -> Iterator[IO[bytes]]:
    """Yield a temporary file that takes the name at the end; raise TransferError.

    After an exception it is deleted, and the file that has the name stays as it was.
    """
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
    """Return the file's size in bytes, or None for a pipe or a terminal."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def progress(
    description: str, total: int | None, column: ProgressColumn
) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a progress bar; without a terminal there is no bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), column, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda step: bar.advance(task, step)
