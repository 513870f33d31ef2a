"""The table of the runs, and its place in docs/reliability.md or another document."""

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.acknowledged import FAULTS
from tests.chaos.run import Result
from tests.paths import ROOT

DOCUMENT = ROOT / "docs/reliability.md"
END = "<!-- end of the table -->"
HEAD = (
    "fault", "how it was made", "how long", "requests", *FAULTS, "answers other than 503",
    "longest outage", "recovery",
)  # fmt: skip
TEXT_COLUMNS = 2


def table(results: Sequence[Result]) -> str:
    """Return the table in Markdown."""
    rules = ["---"] * TEXT_COLUMNS + ["---:"] * (len(HEAD) - TEXT_COLUMNS)
    return "\n".join(line(cells) for cells in (HEAD, rules, *map(row, results)))


def row(result: Result) -> list[str]:
    """Return the cells of a run."""
    log, seconds = result.log, result.log.recovery()
    recovery = "never" if seconds is None else f"{seconds:.2f} s"
    return [
        result.fault.name,
        result.fault.how,
        f"{log.returned - log.began:.1f} s",
        f"{len(log.entries):,}",
        *(str(len(result.comparison.faults[kind])) for kind in FAULTS),
        str(len(log.others())),
        f"{log.longest_outage():.2f} s",
        recovery,
    ]


def line(cells: Sequence[str]) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def write(text: str, document: Path = DOCUMENT, verb: str = "make chaos") -> None:
    """Put the text between the markers of a document that name the verb."""
    begin = f"<!-- the table of `{verb}` -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    assert found, f"{document.name} has no place for the table of {verb}"
    after = rest.partition(END)[2]
    document.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")
