"""Three builds of the service, each with a revision more: copies of the repository."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chain import HEAD, later
from tests.paths import ROOT
from tests.revisions import copy_repository, write_revision

SCRATCH = ROOT / "tests/scratch"
# what changes in the code with each revision: in a file, from this text, to that
CHANGES = (
    [("service/models.py", "age: Mapped[int | None] = mapped_column(\n        Integer,",
      "age: Mapped[int | None] = mapped_column(\n        BigInteger,")],
    [("service/models.py", "full_name: Mapped[str] = mapped_column(Text)",
      'full_name: Mapped[str] = mapped_column("display_name", Text, key="full_name")'),
     ("service/users.py", "(USERS.c.id, USERS.c.full_name,",
      '(USERS.c.id, USERS.c.full_name.label("full_name"),')],
)  # fmt: skip
REVISIONS = ("3_widen_age.py", "2_rename_full_name_to_display_name.py")
FAILING = ("raise RuntimeError('a revision with a mistake')", "pass")


@dataclass(frozen=True)
class Build:
    """A build of the service: name, directory, and the revision that its models describe."""

    name: str
    directory: Path
    revision: str


def builds(directory: Path) -> tuple[Build, Build, Build]:
    """Make the builds A, B and C in a directory: today's, and the next two."""
    first, second, third = (
        make(directory, name, steps) for steps, name in enumerate(("A", "B", "C"))
    )
    return first, second, third


def make(directory: Path, name: str, steps: int) -> Build:
    """Make the build that is so many revisions after the head."""
    build = Build(name, directory / name, later(steps) if steps else HEAD)
    copy_repository(build.directory)
    revision = 'SCHEMA_REVISION = "{}"'.format
    change(build.directory, "service/models.py", revision(HEAD), revision(build.revision))
    for step in range(steps):
        for file, before, after in CHANGES[step]:
            change(build.directory, file, before, after)
        add_revision(build.directory, step + 1, REVISIONS[step])
    return build


def change(directory: Path, file: str, before: str, after: str) -> None:
    """Change a text in a file of a build."""
    text = (directory / file).read_text("utf-8")
    assert before in text, f"{file}: {before}"
    (directory / file).write_text(text.replace(before, after), encoding="utf-8")


def add_revision(directory: Path, steps: int, name: str) -> None:
    """Put one of the revisions of tests/scratch so many steps after the head."""
    source = (SCRATCH / name).read_text("utf-8")
    before = later(steps - 1) if steps > 1 else HEAD
    ids = f'revision = "{later(steps)}"\ndown_revision = "{before}"\n'
    source = source.replace("\nimport safely\n", f"\nimport safely\n\n{ids}", 1)
    file = directory / f"migrations/versions/{later(steps)}_{name[2:]}"
    file.write_text(source, encoding="utf-8")


def with_mistake(build: Build, steps: int) -> Build:
    """Return a copy of a build whose newest revision, so many after the head, always fails."""
    broken = Build(
        f"{build.name} with a mistake", Path(f"{build.directory}_broken"), build.revision
    )
    shutil.copytree(build.directory, broken.directory)
    for file in (broken.directory / "migrations/versions").glob(f"{later(steps)}_*"):
        file.unlink()
    write_revision(broken.directory, steps, *FAILING)
    return broken
