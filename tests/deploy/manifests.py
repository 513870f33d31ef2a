"""The manifests of deploy/kubernetes: as they are written, and as kustomize renders the overlays.

python -m tests.deploy.manifests     # download kustomize into .cache/, on Debian
"""

import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.debian_packages import NoPackages, command, download
from tests.paths import ROOT

Manifest = dict[str, Any]

DIRECTORY = ROOT / "deploy/kubernetes"
OVERLAY = DIRECTORY / "overlays/example"
SUITE = "trixie"
KUSTOMIZE = ROOT / ".cache/kustomize"
PROGRAM = "usr/bin/kustomize"


@cache
def written() -> dict[tuple[str, str], Manifest]:
    """Return all documents outside of the overlays, by kind and name."""
    files = [path for path in DIRECTORY.rglob("*.yaml") if OVERLAY.parent not in path.parents]
    documents = [document for path in files for document in read(path.read_text("utf-8"))]
    return {
        (document["kind"], document["metadata"]["name"]): document
        for document in documents
        if document["kind"] != "Kustomization"
    }


def has_kustomize() -> bool:
    """Return whether kustomize was downloaded."""
    return (KUSTOMIZE / PROGRAM).exists()


@cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """Return the documents that kustomize makes of a directory of the overlay."""
    build = [*command(KUSTOMIZE, PROGRAM), "build", str(OVERLAY / name)]
    process = subprocess.run(build, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return tuple(read(process.stdout))


def read(text: str) -> Iterator[Manifest]:
    """Yield the documents of a text in YAML."""
    yield from yaml.safe_load_all(text)


def main() -> None:
    """Download kustomize, unless it is there; print why where that is not possible."""
    if has_kustomize():
        return
    try:
        download(SUITE, KUSTOMIZE, "kustomize")
    except NoPackages as error:
        print(f"kustomize of Debian {SUITE}: {error} ({platform.machine()})", file=sys.stderr)
        print("The overlay is not rendered; the tests of the manifests run", file=sys.stderr)


if __name__ == "__main__":
    main()
