"""The people of tests/data/people.csv."""

import csv
from typing import Any

from tests.paths import ROOT

DATA = ROOT / "tests/data"
PEOPLE = (ROOT / "tests/data/people.csv").read_bytes()


def people() -> list[dict[str, Any]]:
    with (DATA / "people.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "full_name": row["full_name"],
                "email": row["email"] or None,
                "age": int(row["age"]) if row["age"] else None,
            }
            for row in csv.DictReader(file)
        ]


def accepted() -> list[dict[str, Any]]:
    """Return the people with a valid age, the last of each e-mail address."""
    return list({p["email"]: p for p in people() if (p["age"] or 0) <= 150}.values())
