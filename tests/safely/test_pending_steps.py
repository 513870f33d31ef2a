"""The steps of a rehearsal in histories of any shape, with ids that have no order of their own."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from safely.rehearsal.pending import pending_steps

LINE = {"f1": None, "c2": "f1", "a3": "c2"}
#        ,- b2 -.
#  f1 - c2 ----- d4 - a5
MERGED = {"f1": None, "c2": "f1", "b3": "f1", "d4": ("c2", "b3"), "a5": "d4"}
TWO_ROOTS = {"f1": None, "c2": None, "a3": ("f1", "c2")}

Downs = Mapping[str, str | tuple[str, ...] | None]


def directory(place: Path, downs: Downs) -> ScriptDirectory:
    """Return a script directory with these revisions, each with those that it builds on."""
    (place / "versions").mkdir()
    for revision, down in downs.items():
        source = (
            f'"""Message of {revision}."""\nrevision = {revision!r}\ndown_revision = {down!r}\n'
        )
        (place / f"versions/{revision}_.py").write_text(source, encoding="utf-8")
    config = Config()
    config.set_main_option("script_location", str(place))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


@pytest.mark.parametrize(
    ("downs", "reached", "to", "steps"),
    [
        (LINE, None, "a3", [(None, "f1"), ("f1", "c2"), ("c2", "a3")]),
        (LINE, "f1", "c2", [("f1", "c2")]),
        (LINE, "a3", "a3", []),
        (LINE, "a3", "c2", []),
        (MERGED, None, "a5", [(None, "f1"), ("f1", "d4"), ("d4", "a5")]),
        (MERGED, "f1", "d4", [("f1", "d4")]),
        (MERGED, "d4", "a5", [("d4", "a5")]),
        (TWO_ROOTS, None, "a3", [(None, "a3")]),
    ],
)
def test_a_step_leads_from_one_revision_to_the_next_and_back(
    tmp_path: Path, downs: Downs, reached: str | None, to: str, steps: list[tuple[str | None, str]]
) -> None:
    found = pending_steps(directory(tmp_path, downs), reached, to)
    assert [(step.before, step.revision) for step in found] == steps
    assert [step.not_undone for step in found] == [None] * len(steps)


def test_what_is_taken_along_to_a_merge_is_named(tmp_path: Path) -> None:
    (step,) = pending_steps(directory(tmp_path, MERGED), "f1", "d4")
    assert step.message in ("Message of d4 (with c2, b3)", "Message of d4 (with b3, c2)")


@pytest.mark.parametrize(
    ("downs", "reached", "to", "reason"),
    [
        (MERGED, "c2", "d4", "b3 builds on f1, beside c2"),
        (TWO_ROOTS, "f1", "a3", "c2 builds on base, beside f1"),
    ],
)
def test_a_merge_that_can_not_be_undone_to_one_revision_says_why(
    tmp_path: Path, downs: Downs, reached: str, to: str, reason: str
) -> None:
    (step,) = pending_steps(directory(tmp_path, downs), reached, to)
    assert step.not_undone == f"{reason}: undone, the database would have several heads"


def test_a_copy_at_an_unknown_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match="the copy is at e9, for which there is no revision file"
    ):
        pending_steps(directory(tmp_path, LINE), "e9", "a3")
