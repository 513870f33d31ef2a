"""What may differ between a database and a replay of its revisions, without being drift.

Both are values of safely.ledger.snapshot. Left out of them is what no revision decides:

- published versions that were purged, or that a stamp did not publish or has left behind, and
  what an earlier release did not publish with them;
- the triggers that fill in for builds that are gone, and those of what is set aside;
- rights that a deployment gives beforehand: on the schema itself, and by default;
- how SQLite words a table that was copied, or changed piece by piece.
"""

import re
from collections.abc import Collection, Iterator

Schema = dict[str, str]

VERSION = re.compile(r"(?:^| )at_(\d+)(?=[. ]|$)")
PUBLISHED_SINCE = re.compile(r"\bat_\d+\.(?:migration_log|seen_by_owner\(\))")
FILLS_IN = re.compile(r"trigger (fill_missing_\d+) on ")  # by the column's number, which may differ
NEEDED_BEFORE = re.compile(r"'(\d+)'\)$")  # by the builds of that revision
HELPER = re.compile(r"function (?:fill_missing|sync_retyped)\(\)$")
DEPLOYED = re.compile(r"default grant |grant on schema (?!at_\d)")
ASIDE = re.compile(r"\b_aside_\d+_")

TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[^\s\w]""")
CHECKED_INLINE = re.compile(r"(?<=.)((?: CONSTRAINT \w+)? CHECK \(.*\))")
OF_THE_TABLE = ("CONSTRAINT ", "CHECK ", "PRIMARY ", "UNIQUE ", "FOREIGN ")


def comparable(replayed: Schema, found: Schema, known: Collection[str]) -> tuple[Schema, Schema]:
    """Both without what may differ; `known` are the revisions that there are files for."""
    replayed, found = decided(replayed), decided(found)
    published = {version_of(name) for name in found} - {None}
    left = set(known) - {version_of(name) for name in replayed}
    filled = fillers(replayed) & fillers(found)
    return {
        name: definition
        for name, definition in replayed.items()
        if filler(name, definition) not in filled
        and (name in found or is_due(name, definition, published))
    }, {
        name: definition
        for name, definition in found.items()
        if filler(name, definition) not in filled
        and (name in replayed or not (version_of(name) in left or HELPER.match(name)))
    }


def decided(schema: Schema) -> Schema:
    """Without the rights of a deployment, and the triggers of what is set aside."""
    return {
        name: definition
        for name, definition in schema.items()
        if not DEPLOYED.match(name)
        and not (name.startswith("trigger ") and ASIDE.search(definition))
    }


def version_of(name: str) -> str | None:
    """The published version that something belongs to."""
    found = VERSION.search(name)
    return found[1] if found else None


def filler(name: str, definition: str) -> str | None:
    """What a trigger does that fills in for older builds, whatever its number."""
    found = FILLS_IN.match(name)
    return definition.replace(found[1], "") if found else None


def fillers(schema: Schema) -> set[str | None]:
    """All of them."""
    return {filler(name, definition) for name, definition in schema.items()} - {None}


def is_due(name: str, definition: str, published: Collection[str | None]) -> bool:
    """Whether something must be there that a replay makes, and that is missing."""
    if version := version_of(name):
        return version in published and not PUBLISHED_SINCE.search(name)
    if FILLS_IN.match(name):
        before = NEEDED_BEFORE.search(definition)
        return before is not None and any(str(version) < before[1] for version in published)
    return not HELPER.match(name)


def reworded(schema: Schema) -> Schema:
    """What SQLite keeps of statements, in words that depend on what was made only.

    Without quotes and line breaks, a table's parts in order of their names, without what is aside.
    """
    return {name: rewritten(statement) for name, statement in schema.items()}


def rewritten(statement: str) -> str:
    """One of them."""
    words = [word[1:-1] if word[0] == '"' else word for word in TOKEN.findall(statement)]
    if words[:2] != ["CREATE", "TABLE"]:
        return " ".join(words)
    begin, end = words.index("("), len(words) - 1 - words[::-1].index(")")
    parts = sorted(part for part in parts_of(words[begin + 1 : end]) if not ASIDE.search(part))
    return " ".join([*words[:begin], "(", " , ".join(parts), *words[end:]])


def parts_of(words: list[str]) -> Iterator[str]:
    """A table's columns and constraints; a CHECK that stands at its column is one for itself."""
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
