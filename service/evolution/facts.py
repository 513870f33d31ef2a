"""The facts that the page shows at a glance, decided from an `Evolution`.

Where the database stands, whether that needs attention, and a fact for each part of the page.
"""

from collections.abc import Sequence
from typing import NamedTuple

from service.evolution.formatting import counted, duration, size
from service.evolution.schemas import Aside, Build, Evolution, Standby


class Fact(NamedTuple):
    """A short answer to one question."""

    question: str
    mark: str  # a mark that templates/macros.html.jinja draws
    answer: str
    details: str


def position(evolution: Evolution) -> str:
    """Return where the database stands, in a word or two."""
    if evolution.database.revision:
        return evolution.database.revision
    if evolution.database.standing == "unknown":
        return "not known"
    return "base" if evolution.log_length else "empty"


def overall_mark(evolution: Evolution) -> str:
    """Return the mark beside the page's heading."""
    if evolution.running:
        return "moving"
    if evolution.drift.found or evolution.advice:
        return "attention"
    return "well" if evolution.database.standing == "current" else "unknown"


def compared_to_build(evolution: Evolution) -> str:
    """Return a sentence that compares the database's revision with that of this build."""
    build, pending = f"users@{evolution.build}", pending_revisions(evolution)
    due = f"{counted(len(pending), 'revision')} {'is' if len(pending) == 1 else 'are'} pending"
    return {
        "current": f"This build, {build}, was made for it.",
        "behind": f"This build, {build}, waits for {evolution.build}: {due}.",
        "ahead": f"It is ahead of this build, {build}.",
        "empty": f"This build, {build}, waits for {evolution.build}: {due}.",
        "unknown": f"This build is {build}.",
    }[evolution.database.standing]


def pending_revisions(evolution: Evolution) -> list[str]:
    """Return the numbers of the revisions that are still to be applied."""
    return [link.revision for link in evolution.chain if link.state == "pending"]


def awaits_migration(build: Build, evolution: Evolution) -> bool:
    """Return whether the build needs a revision that the database has not reached yet.

    A build whose revision is unknown here is newer than this one, so its revision is, too.
    """
    states = {link.revision: link.state for link in evolution.chain}
    state = states.get(build.revision, "pending")
    return state == "pending" or (
        state == "unfinished" and build.revision != evolution.database.revision
    )


def facts(evolution: Evolution) -> list[Fact]:
    """Return the facts in the order in which the page shows them."""
    return [
        migration_fact(evolution),
        pending_fact(evolution),
        drift_fact(evolution),
        builds_fact(evolution),
        *([standbys_fact(evolution.standbys)] if evolution.standbys else []),
        aside_fact(evolution),
    ]


def migration_fact(evolution: Evolution) -> Fact:
    """Return whether a migration is running."""
    running = evolution.running
    if running is None:
        if evolution.builds is None:
            return Fact("Migration", "unknown", "Not told", "SQLite does not tell")
        return Fact("Migration", "well", "None", "no migration is running")
    answer = "Running"
    if running.since:
        answer = f"Running for {duration((evolution.looked - running.since).total_seconds())}"
    wait = "" if running.waiting is None else f"waiting {duration(running.waiting)} for a lock"
    if running.waits_for_standby:
        wait = "waiting for a standby"
    return Fact("Migration", "moving", answer, wait)


def pending_fact(evolution: Evolution) -> Fact:
    """Return which revisions are still to be applied."""
    pending = pending_revisions(evolution)
    if not pending:
        return Fact("Pending", "well", "None", "every revision is applied")
    span = pending[0] if len(pending) == 1 else f"{pending[0]} to {pending[-1]}"
    return Fact("Pending", "attention", counted(len(pending), "revision"), span)


def drift_fact(evolution: Evolution) -> Fact:
    """Return whether the schema or the revision files differ from what the ledger recorded."""
    drift = evolution.drift
    if drift.found is None:
        return Fact("Drift", "unknown", "Not known", drift.unknown or "")
    if not drift.found:
        return Fact("Drift", "well", "No", f"since {drift.since}" if drift.since else "")
    counts = (
        counted(len(drift.differences) + drift.more, "difference") if drift.differences else "",
        counted(len(drift.edited), "edited file") if drift.edited else "",
    )
    return Fact("Drift", "attention", "Yes", ", ".join(count for count in counts if count))


def builds_fact(evolution: Evolution) -> Fact:
    """Return which builds are connected."""
    if evolution.builds is None:
        return Fact("Connected", "unknown", "Not told", "SQLite does not tell")
    names = ", ".join(f"users@{build.revision}" for build in evolution.builds)
    is_failing = any(
        not build.published and not awaits_migration(build, evolution) for build in evolution.builds
    )
    mark = "attention" if is_failing else "well"
    return Fact("Connected", mark, counted(len(evolution.builds), "build"), names)


def standbys_fact(standbys: Sequence[Standby]) -> Fact:
    """Return how far the standby is behind that is furthest."""
    known = [standby for standby in standbys if standby.bytes is not None]
    number = counted(len(standbys), "standby", "standbys")
    if not known:
        return Fact("Standbys", "unknown", number, "this role may not see how far behind")
    furthest = max(known, key=lambda standby: (standby.seconds or 0, standby.bytes or 0))
    return Fact("Standbys", "well", number, f"at most {lag(furthest)} behind")


def lag(standby: Standby) -> str:
    """Return how far a standby is behind."""
    if standby.bytes is None:
        return "not known"
    if not standby.bytes or standby.seconds is None:
        return size(standby.bytes)
    return f"{duration(standby.seconds)} and {size(standby.bytes)}"


def aside_fact(evolution: Evolution) -> Fact:
    """Return how much space the columns and tables hold that are set aside."""
    if not evolution.aside:
        return Fact("Set aside", "well", "Nothing", "nothing waits to be purged")
    kinds = [item.kind for item in evolution.aside]
    counts = (counted(kinds.count(kind), kind) for kind in ("table", "column") if kind in kinds)
    return Fact("Set aside", "well", total_space(evolution.aside), ", ".join(counts))


def space(item: Aside) -> str:
    """Return the space that a column or table set aside holds; "about": a column's is estimated."""
    if item.bytes is None:
        return "not known"
    return f"{'about ' if item.kind == 'column' else ''}{size(item.bytes)}"


def total_space(items: Sequence[Aside]) -> str:
    """Return the space that all of them hold; how many they are, where no space is known."""
    known = [item.bytes for item in items if item.bytes is not None]
    if not known:
        return counted(len(items), "thing")
    is_exact = len(known) == len(items) and all(item.kind == "table" for item in items)
    return f"{'' if is_exact else 'about '}{size(sum(known))}"
