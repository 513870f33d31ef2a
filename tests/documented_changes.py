"""The table of docs/evolving-the-schema.md."""

from typing import NamedTuple

from tests.paths import ROOT


class Row(NamedTuple):
    """A row of the table in the documentation."""

    change: str
    spelling: str
    lock: str


def documented() -> list[Row]:
    """The rows of the table."""
    text = (ROOT / "docs/evolving-the-schema.md").read_text(encoding="utf-8")
    table = text.split("## Kinds of change")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return [Row(change, spelling, lock) for change, spelling, lock, _, _ in cells[2:]]


ROWS = {row.change: row for row in documented()}
