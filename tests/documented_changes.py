"""The kinds of change that docs/evolving-the-schema.md documents in its table."""

from typing import NamedTuple

from tests.paths import ROOT


class Row(NamedTuple):
    """A row of the table."""

    change: str
    spelling: str
    lock: str


def documented() -> list[Row]:
    """Read the rows from the documentation."""
    text = (ROOT / "docs/evolving-the-schema.md").read_text(encoding="utf-8")
    table = text.split("## Kinds of change")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return [Row(change, spelling, lock) for change, spelling, lock, _, _ in cells[2:]]


ROWS = {row.change: row for row in documented()}
