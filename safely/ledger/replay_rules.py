"""Differences between a database and a replay of its revisions that are no drift.

Both are values of safely.ledger.snapshot. What no revision decides is left out of them:

- published versions that were purged, that a stamp did not publish or has left behind, and what
  an earlier release did not publish with them;
- triggers that serve builds which are gone, and those of what is set aside;
- rights that a deployment gives beforehand: on the schema itself, and by default;
- the words in which SQLite keeps a table that was copied, or changed piece by piece.
"""

import re
from collections.abc import Collection, Iterator, Sequence

Schema = dict[str, str]

VERSION = re.compile(r"""(?:^| )(?:"at_([^"]+)"|at_([^". ]+)(?=[. ]|$))""")
PUBLISHED_SINCE = re.compile(r"""(?:"at_[^"]+"|at_[^.]+)\.(?:migration_log|seen_by_owner\(\))""")
FILLS_IN = re.compile(r"trigger (fill_missing_\d+) on ")  # by the column's number, which may differ
NEEDED_BEFORE = re.compile(r"'([^']*)'\)$")  # by the builds of that revision
HELPER = re.compile(r"function (?:fill_missing|sync_retyped)\(\)$")
DEPLOYED = re.compile(r"""default grant |grant on schema (?!"?at_)""")
ASIDE = re.compile(r"\b_aside_")

TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[^\s\w]""")
CHECKED_INLINE = re.compile(r"(?<=.)((?: CONSTRAINT \w+)? CHECK \(.*\))")
OF_THE_TABLE = ("CONSTRAINT ", "CHECK ", "PRIMARY ", "UNIQUE ", "FOREIGN ")


def comparable(replayed: Schema, actual: Schema, revisions: Sequence[str]) -> tuple[Schema, Schema]:
    """Return both without what may differ.

    `revisions`: those that there are files for, in order.
    """
    replayed, actual = decided(replayed), decided(actual)
    published = {version_of(name) for name in actual} - {None}
    unpublished = set(revisions) - {version_of(name) for name in replayed}
    shared = fill_ins(replayed) & fill_ins(actual)
    wanted = {
        name: definition
        for name, definition in replayed.items()
        if fill_in(name, definition) not in shared
        and (name in actual or is_due(name, definition, published, revisions))
    }
    present = {
        name: definition
        for name, definition in actual.items()
        if fill_in(name, definition) not in shared
        and (name in replayed or not (version_of(name) in unpublished or HELPER.match(name)))
    }
    return wanted, present


def decided(schema: Schema) -> Schema:
    """Return the schema without the rights of a deployment, and triggers of what is set aside."""
    return {
        name: definition
        for name, definition in schema.items()
        if not DEPLOYED.match(name)
        and not (name.startswith("trigger ") and ASIDE.search(definition))
    }


def version_of(name: str) -> str | None:
    """Return the published version that an object belongs to; None if to none."""
    match = VERSION.search(name)
    return (match[1] or match[2]) if match else None


def fill_in(name: str, definition: str) -> str | None:
    """Return what a trigger does that fills in for older builds, without its column's number."""
    match = FILLS_IN.match(name)
    return definition.replace(match[1], "") if match else None


def fill_ins(schema: Schema) -> set[str | None]:
    """Return what all triggers of the schema do that fill in for older builds."""
    return {fill_in(name, definition) for name, definition in schema.items()} - {None}


def is_due(
    name: str, definition: str, published: Collection[str | None], revisions: Sequence[str]
) -> bool:
    """Return whether an object that a replay makes, and that is missing, must be there."""
    if version := version_of(name):
        return version in published and not PUBLISHED_SINCE.search(name)
    if FILLS_IN.match(name):
        needed = NEEDED_BEFORE.search(definition)
        if needed is None or needed[1] not in revisions:
            return False
        older = revisions[: revisions.index(needed[1])]
        return any(version in older for version in published)
    return not HELPER.match(name)


def reworded(schema: Schema) -> Schema:
    """Return the statements that SQLite keeps in words that do not depend on their history.

    Without quotes and line breaks, a table's parts in order of their names, without what is aside.
    """
    return {name: rewritten(statement) for name, statement in schema.items()}


def rewritten(statement: str) -> str:
    """Return one of SQLite's statements in those words."""
    words = [word[1:-1] if word[0] == '"' else word for word in TOKEN.findall(statement)]
    if words[:2] != ["CREATE", "TABLE"]:
        return " ".join(words)
    begin, end = words.index("("), len(words) - 1 - words[::-1].index(")")
    parts = sorted(part for part in parts_of(words[begin + 1 : end]) if not ASIDE.search(part))
    return " ".join([*words[:begin], "(", " , ".join(parts), *words[end:]])


def parts_of(words: list[str]) -> Iterator[str]:
    """Yield a table's columns and constraints; a CHECK at its column is a part of its own."""
    depth, part = 0, ""
    for word in [*words, ","]:
        depth += (word == "(") - (word == ")")
        if word != "," or depth:
            part = f"{part} {word}".strip()
            continue
        checked = None if part.startswith(OF_THE_TABLE) else CHECKED_INLINE.search(part)
        if checked:
            yield checked[1].strip()
            part = part.replace(checked[1], "")
        yield part
        part = ""
