"""rehearse: the pending revisions on a copy, under traffic, with a verdict."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.cli import NO, WELL
from safely.cli.showing import Showing, summary
from safely.rehearsal import rehearse
from safely.rehearsal.copies import Source, configured, to_clone, where_it_is
from safely.rehearsal.picture import picture
from safely.rehearsal.report import Budgets

WHAT = "run the pending revisions on a scratch copy, under traffic, and judge them"
ROWS = 100_000
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
SIZES = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which copy, how far, and what it may cost."""
    copy = parser.add_mutually_exclusive_group()
    copy.add_argument(
        "--rows", type=number, metavar="N", help=f"make up so many ({ROWS:,} unless told)"
    )
    copy.add_argument("--from-backup", type=Path, metavar="FILE", help="restore this one")
    copy.add_argument("--clone", action="store_true", help="copy DATABASE_URL's, live")
    parser.add_argument("--from", dest="since", metavar="REV", help="with --rows: begin there")
    parser.add_argument("--to", default="head", metavar="REV", help="rehearse up to this one")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write rehearsal.json and .svg")
    usual = Budgets()
    parser.add_argument(
        "--max-wait", type=seconds, default=usual.max_wait, metavar="250ms",
        help="that a client may wait for a lock of the migrator",
    )  # fmt: skip
    parser.add_argument(
        "--max-duration", type=seconds, default=usual.max_duration, metavar="10min",
        help="of a revision, one way",
    )  # fmt: skip
    parser.add_argument("--max-failed", type=int, default=0, metavar="N", help="failed queries")
    parser.add_argument("--max-space", type=size, metavar="10GB", help="on disk, meanwhile")
    parser.add_argument("--max-wal", type=size, metavar="10GB", help="WAL of a revision, one way")


async def run(options: argparse.Namespace, script: ScriptDirectory) -> int:
    """Rehearse; print and keep what was found."""
    if (to := known(script, options.to)) == "base":
        raise CommandError("--to takes a revision: every one is undone on the way anyhow")
    settings = configured()
    source = Source(
        backup=options.from_backup,
        clone=to_clone(settings) if options.clone else None,
        rows=options.rows or ROWS,
    )
    if options.since and (source.backup or source.clone):
        raise CommandError("--from goes with --rows: a backup or a clone begins where it is")
    if not (source.backup or source.clone):
        since = known(script, options.since) if options.since else await where_it_is(settings)
        source = source._replace(revision=None if since == "base" else since)
    if options.report:
        try:
            options.report.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"--report: can't make {options.report}: {error.strerror}"
            ) from error
    budgets = replace(
        Budgets(),
        **{name: getattr(options, name) for name in vars(Budgets())},
    )
    with Showing(quiet=options.json) as showing:
        report = await rehearse(
            script,
            source,
            budgets,
            to=to,
            app_role=settings.app_role if settings else "",
            progress=showing.progress,
        )
    if options.report:
        told = json.dumps(report.as_json(), indent=1)
        (options.report / "rehearsal.json").write_text(told + "\n", encoding="utf-8")
        (options.report / "rehearsal.svg").write_text(picture(report), encoding="utf-8")
    if options.json:
        print(json.dumps(report.as_json()))
    else:
        summary(report)
    return NO if report.problems else WELL


def known(script: ScriptDirectory, name: str) -> str:
    """A revision by its number, `head` or `base`; raise CommandError for another."""
    if name == "base":
        return name
    found = script.get_revision(name)  # raises CommandError itself
    if found is None:
        raise CommandError(f"there is no revision {name}")
    return found.revision


def number(text: str) -> int:
    """A number of rows, with or without commas or underscores."""
    value = int(text.replace(",", "").replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def seconds(text: str) -> float:
    """A time, such as 250ms, 2s or 10min."""
    return measured(text, UNITS, "a time, such as 250ms, 2s or 10min")


def size(text: str) -> int:
    """A size, such as 500MB or 10GB."""
    return int(measured(text, SIZES, "a size, such as 500MB or 10GB"))


def measured(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    """A number with its unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)", text)
    if not found or found[2] not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return float(found[1]) * units[found[2]]
