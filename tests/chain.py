"""The revisions of the chain: their files and numbers."""

from tests.paths import ROOT

VERSIONS = sorted((ROOT / "migrations/versions").glob("*.py"))
NUMBERS = [path.name[:4] for path in VERSIONS]
PREVIOUS, HEAD = NUMBERS[-2:]


def later(steps: int) -> str:
    """Return the number of the revision that comes so many `steps` after the head."""
    return f"{int(HEAD) + steps:04}"


NEXT = later(1)
