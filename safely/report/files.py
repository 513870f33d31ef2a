"""Reads the revision files without running them: ids, order and docstrings."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from safely.ledger.checksum import checksum
from safely.report.contents import Paragraph

HEADING = re.compile(r"^([A-Z][\w ]{0,30}):\s+", re.MULTILINE)
IDS = ("revision", "down_revision")  # the variables of a revision file that give the order
REPEATED = ("Revision ID", "Revises", "Create Date")  # headings of Alembic's own template


class RevisionFile(NamedTuple):
    """A revision as its file describes it."""

    revision: str
    down_revisions: tuple[str, ...]  # several for a merge
    name: str  # of the file
    message: str
    paragraphs: Sequence[Paragraph]
    checksum: str


def revision_files(directory: Path) -> list[RevisionFile]:
    """Return the revision files of the directory, each after those that it builds on.

    A file that can't be parsed is taken for the next revision after all that don't build on it.
    """
    files, drafts = [], []
    for path in sorted(directory.glob("*.py")):
        try:
            module = ast.parse(path.read_bytes())  # the parser knows the encoding it declares
        except (SyntaxError, ValueError) as error:  # ValueError: a null byte
            drafts.append(describe_draft(path, error))
            continue
        values = assigned_ids(module)
        if isinstance(values.get("revision"), str):
            files.append(describe(path, module, values))
    return in_order([*files, *(placed(draft, files) for draft in drafts)])


def placed(draft: RevisionFile, files: Sequence[RevisionFile]) -> RevisionFile:
    """Return the draft, which builds on the heads of the files."""
    down_revisions = {revision for file in files for revision in file.down_revisions}
    heads = [file.revision for file in files if file.revision not in down_revisions]
    others = [head for head in heads if draft.revision not in with_ancestors([head], files)]
    return draft._replace(down_revisions=tuple(others))


def in_order(files: Sequence[RevisionFile]) -> list[RevisionFile]:
    """Return the files, each after those that it builds on; ids have no order of their own.

    Files whose `down_revision`s run in a circle stay in the given order; Alembic refuses them.
    """
    by_id = {file.revision: file for file in files}
    sorter = TopologicalSorter(
        {file.revision: by_id.keys() & set(file.down_revisions) for file in files}
    )
    try:
        return [by_id[revision] for revision in sorter.static_order()]
    except CycleError:
        return list(files)


def with_ancestors(revisions: Iterable[str], files: Iterable[RevisionFile]) -> set[str]:
    """Return these revisions and all that they build on, also those that have no file."""
    down_revisions = {file.revision: file.down_revisions for file in files}
    waiting, ancestors = list(revisions), set[str]()
    while waiting:
        revision = waiting.pop()
        if revision not in ancestors:
            ancestors.add(revision)
            waiting.extend(down_revisions.get(revision, ()))
    return ancestors


def describe(path: Path, module: ast.Module, values: dict[str, Any]) -> RevisionFile:
    """Return what the file says of its revision; `values` are those of `assigned_ids`."""
    message, _, rest = (ast.get_docstring(module) or "").partition("\n\n")
    down = values.get("down_revision") or ()
    if not isinstance(down, str | list | tuple | set):
        down = ()  # Alembic refuses the file
    return RevisionFile(
        revision=values["revision"],
        down_revisions=(down,) if isinstance(down, str) else tuple(map(str, down)),
        name=path.name,
        message=one_line(message).rstrip("."),
        paragraphs=list(paragraphs(rest)),
        checksum=checksum(path),
    )


def describe_draft(path: Path, error: SyntaxError | ValueError) -> RevisionFile:
    """Return what the name of a file that can't be parsed tells: `<revision>_<message>.py`."""
    revision, _, slug = path.stem.partition("_")
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return RevisionFile(
        revision=revision,
        down_revisions=(),
        name=path.name,
        message=slug.replace("_", " "),
        paragraphs=[Paragraph(heading="Its file is not Python", text=one_line(reason))],
        checksum=checksum(path),
    )


def assigned_ids(module: ast.Module) -> dict[str, Any]:
    """Return the values of `revision` and `down_revision`, with or without type annotations.

    A value that is computed when the file runs is left out.
    """
    values = {}
    for node in module.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in IDS:
                with suppress(ValueError):  # not a literal
                    values[target.id] = ast.literal_eval(value)
    return values


def paragraphs(text: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of a docstring by their headings; text before the first has none."""
    before, *parts = HEADING.split(text)
    if before.strip():
        yield Paragraph(heading="", text=one_line(before))
    for heading, words in zip(parts[::2], parts[1::2], strict=True):
        if heading not in REPEATED:
            yield Paragraph(heading=heading, text=one_line(words))


def one_line(text: str) -> str:
    """Return the text without its line breaks and indentation."""
    return " ".join(text.split())
