"""Words for a broken invariant: which statement broke which builds, and what to write instead."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from alembic.script import Script

from safely.run.owned import Fact, Facts, Owned, is_kept

LONGEST = 70  # characters of a statement in a message
MANY = 12  # names, of which a message shows some
PURGE = "`python -m safely purge --before REV`"


class Statement(NamedTuple):
    """A statement that a revision executes by itself, and not by an operation of `safely`."""

    line: int | None
    """In the revision's file; None where no line of it executes the statement."""
    text: str
    is_committed: bool = False
    """It has had no transaction, so it can't be rolled back."""

    def __str__(self) -> str:
        """Its beginning; what stands in quotes may be a secret."""
        text = " ".join(self.text.split())
        beginning = re.split("['$]", text)[0][:LONGEST]
        return text if beginning == text else f"{beginning.rstrip()} …"


class Change(NamedTuple):
    """A fact that does not hold any more, and the statement since which it doesn't."""

    fact: Fact
    statement: Statement | None
    """None: none of the revision's own."""
    is_new: bool = False
    """Instead of a fact that was there: one that was not."""

    def lasts(self, now: Facts) -> bool:
        """Return whether no later statement has mended it."""
        if self.is_new:
            return self.fact.key in now
        return not is_kept(self.fact, now.get(self.fact.key))


class Effect(NamedTuple):
    """What a statement does to facts of one kind, in words."""

    what: str
    """`{names}`: of the objects; `{versions}`: the published versions, in words; `{builds}`."""
    why: str
    instead: str = ""


LEAVE = "Leave it out"
FAIL = "their builds would fail"
OLDER_FAIL = "builds before {builds} would fail, or write what newer ones can't read"
WITHDRAW = f"{LEAVE}: {PURGE} withdraws the versions that no build needs any more"
BRING_BACK = f"{LEAVE}: `python -m safely purge` drops for good what no build needs any more"
STAMP = f"{LEAVE}: `alembic stamp REV` says where a database is"

# the gravest first; by kind of fact, and whether it is gone, changed or new
EFFECTS = {
    ("table", "gone"): Effect("drops {names}", "it says what was migrated", STAMP),
    ("table", "changed"): Effect("changes or empties {names}", "it says what was migrated", STAMP),
    ("rows", "changed"): Effect("writes to {names}", "only the engine writes there", STAMP),
    ("rows", "gone"): Effect("writes to {names}", "only the engine writes there", STAMP),
    ("version", "gone"): Effect("withdraws {versions}", FAIL, WITHDRAW),
    ("view", "gone"): Effect("takes {names} from {versions}", FAIL),
    ("columns", "gone"): Effect("takes {names} from {versions}", FAIL),
    ("columns", "changed"): Effect(
        "takes or renames columns of {names} in {versions}",
        FAIL,
        "Leave it out, or write safely.rename_column and safely.drop_column for the table: then "
        "these versions show the columns as their builds know them",
    ),
    ("query", "changed"): Effect(
        "replaces {names} in {versions}, or changes how it is written",
        "their builds would read or write something else",
        f"{LEAVE}: change the table by an operation of safely, and the next version shows that",
    ),
    ("view", "changed"): Effect(
        "changes owner or options of {names} in {versions}",
        "a version may show rows that the policies of a table hide",
        f"{LEAVE}: the engine makes each version obey the policies",
    ),
    ("rights", "changed"): Effect(
        "takes rights on {names} in {versions} from a role",
        "builds that connect as that role would fail",
        WITHDRAW,
    ),
    ("reach", "changed"): Effect(
        "takes from {names} in {versions} the right to read or write what it shows",
        FAIL,
        "Leave the table to the role that owns these versions, with all of its rights",
    ),
    ("reach", "gone"): Effect(
        "takes the sequence {names} from the application's role",
        "INSERT of older builds would fail",
        LEAVE,
    ),
    ("version", "changed"): Effect(
        "adds an object to {versions}, drops one, or changes the owner",
        "it has what was published, and nothing else",
        f"{LEAVE}, or use another schema",
    ),
    ("version", "new"): Effect(
        "creates the schema of {versions}",
        "the engine publishes it at the end of the step, and finds it there",
        f"{LEAVE}, or use another schema",
    ),
    ("trigger", "gone"): Effect(
        "drops {names}",
        OLDER_FAIL,
        f"{LEAVE}: {PURGE} drops it as soon as no build needs it",
    ),
    ("trigger", "changed"): Effect(
        "disables or changes {names}",
        OLDER_FAIL,
        f"{LEAVE}: with the trigger on, safely.backfill changes rows in batches",
    ),
    ("function", "gone"): Effect("drops {names}", "older builds would fail", LEAVE),
    ("function", "changed"): Effect("changes {names}", "older builds rely on it", LEAVE),
    ("aside", "gone"): Effect(
        "drops {names} (set aside)", "its values could not be brought back", BRING_BACK
    ),
    ("aside", "changed"): Effect(
        "changes {names} (set aside)", "it could not be brought back", BRING_BACK
    ),
    ("aside table", "gone"): Effect(
        "drops {names} (set aside)", "its rows could not be brought back", BRING_BACK
    ),
    ("aside table", "changed"): Effect(
        "changes or empties {names} (set aside)", "older builds use it", BRING_BACK
    ),
    ("aside rows", "gone"): Effect(
        "writes to {names} (set aside)", "only builds that know the table write there", LEAVE
    ),
}
RANKS = {key: rank for rank, key in enumerate(EFFECTS)}


class Words:
    """Says what the changes of a step have broken."""

    def __init__(self, script: Script, owned: Owned, before: Facts, now: Facts) -> None:
        self.script = script
        self.owned = owned
        self.before = before
        self.now = now

    def of(self, changes: Collection[Change], order: Sequence[str]) -> str:
        """Return a line for each statement; `order` has the revisions, the oldest first."""
        by_statement: dict[Statement | None, list[Change]] = {}
        for change in sorted(
            self.without_consequences(changes),
            key=lambda change: (place(change.fact.version, order), change.fact.name),
        ):
            by_statement.setdefault(change.statement, []).append(change)
        shown = {fact.version for fact in self.before.values() if fact.kind == "version"}
        newest = max(shown, key=lambda name: place(name, order), default="")
        statements = sorted(by_statement, key=lambda one: (one and one.line) or 0)
        return "\n".join(self.sentence(one, by_statement[one], newest) for one in statements)

    def sentence(self, statement: Statement | None, changes: Sequence[Change], newest: str) -> str:
        """Return what one statement has broken, why that hurts, and what to write instead."""
        groups: dict[tuple[str, str], list[Fact]] = {}
        for change in changes:
            groups.setdefault(self.key(change), []).append(change.fact)
        groups = dict(sorted(groups.items(), key=lambda group: RANKS[group[0]]))
        whats = [filled(EFFECTS[key].what, facts) for key, facts in groups.items()]
        key, facts = next(iter(groups.items()))
        instead = EFFECTS[key].instead or self.instead_of_a_view(facts, newest)
        subject = self.subject(statement)
        return f"{subject} {listed(whats)}: {filled(EFFECTS[key].why, facts)}. {instead}"

    def subject(self, statement: Statement | None) -> str:
        """Return the subject of a sentence, with the place of the statement."""
        name = Path(self.script.path).name
        if statement is None:
            return f"{name}: a function that an operation calls, or a connection of its own,"
        line = f", line {statement.line}" if statement.line else ""
        late = " (committed: it can't run in a transaction)" if statement.is_committed else ""
        return f"{name}{line}: `{statement}`{late}"

    def key(self, change: Change) -> tuple[str, str]:
        """Return what happened to a fact, as EFFECTS has it."""
        if change.is_new:
            return change.fact.kind, "new"
        return change.fact.kind, "changed" if change.fact.key in self.now else "gone"

    def without_consequences(self, changes: Iterable[Change]) -> list[Change]:
        """Return the changes without those that another one explains: the columns of a view."""
        gravest: dict[tuple[Statement | None, str, str], Change] = {}
        # what is not in RANKS goes with a view or a schema
        for change in sorted(changes, key=lambda one: RANKS.get(self.key(one), len(RANKS))):
            fact = change.fact
            gravest.setdefault((change.statement, fact.version, fact.id), change)
        withdrawn = {
            change.fact.version
            for change in gravest.values()
            if self.key(change) == ("version", "gone")
        }
        changed = {version for _, version, id_ in gravest if id_}

        def is_consequence(change: Change) -> bool:
            fact = change.fact
            if fact.kind == "version":
                return self.key(change) == ("version", "changed") and fact.version in changed
            return fact.version in withdrawn and fact.kind != "trigger"

        return [change for change in gravest.values() if not is_consequence(change)]

    def instead_of_a_view(self, facts: Sequence[Fact], newest: str) -> str:
        """Return what to write where views are gone: with their tables or columns, or alone."""
        operations = []
        for fact in facts:
            left = self.owned.columns_of(fact.name)
            if fact.version == newest and not left:
                operations.append(f'safely.drop_table("{fact.name}")')
            elif fact.version == newest:
                shown = self.before["columns", newest, fact.id].value.split("\n")
                operations += [
                    f'safely.drop_column("{fact.name}", "{column}")'
                    for column in shown
                    if column not in left
                ]
        if not operations:
            return WITHDRAW
        return f"Write {listed(operations)}: older builds go on, and a downgrade brings it back"


def place(revision: str, order: Sequence[str]) -> int:
    """Return the place of a revision; one without a file comes first."""
    return order.index(revision) if revision in order else -1


def filled(template: str, facts: Sequence[Fact]) -> str:
    """Return a template of EFFECTS with the names of objects and versions in it."""
    versions = list(dict.fromkeys(fact.version for fact in facts))
    names = list(dict.fromkeys(fact.name or "the schema" for fact in facts))
    return template.format(
        names=listed(names),
        versions=f"the published version{'s' * (len(versions) > 1)} {listed(versions)}",
        builds=listed(versions),
    )


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence, such as `a, b and c`; of many the first and last."""
    if len(words) > MANY:
        words = [*words[:2], "…", words[-1]]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
