"""The manifests obey the schemas of Kubernetes; no unknown field is let through.

The schemas of Kubernetes come with the package kubernetes-validate, those of CloudNativePG and of
external-secrets as TypeScript's types from npm (`make kubernetes`).
"""

import copy
import json
import re
import subprocess
from collections.abc import Iterable
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.manifests import OVERLAY, Manifest, has_kustomize, rendered, written
from tests.paths import ROOT

VERSIONS = ("1.30", "1.34", "1.37")  # the oldest that knows the preStop action; the newest
OPERATORS = {  # by the group of an API: the package of npm that has its types
    "postgresql.cnpg.io": "cloudnative-pg",
    "external-secrets.io": "external-secrets",
}
DIRECTORIES = (".", "database", "migration", "service", "downgrade")
TYPES = ROOT / ".cache/kubernetes"

needs_kustomize = pytest.mark.skipif(
    not has_kustomize(), reason="no kustomize: `make kubernetes` downloads it, on Debian"
)
needs_types = pytest.mark.skipif(
    not (TYPES / "node_modules/.bin/tsc").exists(),
    reason="no types of the operators: `make kubernetes` installs them by npm",
)


def group(manifest: Manifest) -> str:
    return str(manifest["apiVersion"].rpartition("/")[0])


def flaws(manifests: Iterable[Manifest], version: str) -> list[str]:
    """Return what the schemas of a version of Kubernetes say against documents of its own."""
    found = []
    for manifest in manifests:
        if group(manifest) in OPERATORS:
            continue
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{manifest['kind']}: {error.message}")
    return found


def with_change(manifest: Manifest, path: str, value: object) -> Manifest:
    changed = copy.deepcopy(manifest)
    place: Any = changed
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return changed


@pytest.mark.parametrize("version", VERSIONS)
def test_each_manifest_is_valid(version: str) -> None:
    assert flaws(written().values(), version) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("directory", DIRECTORIES)
@needs_kustomize
def test_the_rendered_overlay_is_valid(directory: str, version: str) -> None:
    assert flaws(rendered(directory), version) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicaz", 3),
        ("spec.template.spec.containers.0.livenessProb", {}),
        ("spec.template.spec.securityContext.runAsNonRoot", "yes"),
        ("spec.template.spec.containers.0.ports", [{"name": "http"}]),
    ],
)
def test_a_mistake_is_found(path: str, value: object) -> None:
    wrong = with_change(written()["Deployment", "users"], path, value)
    for version in VERSIONS:
        assert len(flaws([wrong], version)) == 1


def test_kubernetes_before_1_30_has_no_way_to_wait_without_a_program() -> None:
    assert len(flaws([written()["Deployment", "users"]], "1.28")) == 1


def refused(manifests: list[Manifest]) -> set[int]:
    """Return the numbers of the documents that TypeScript refuses; its types know every field."""
    lines = []
    for number, manifest in enumerate(manifests):
        package = OPERATORS[group(manifest)]
        place = f"@kubernetes-models/{package}/{manifest['apiVersion']}/{manifest['kind']}"
        lines += [
            f'import {{ I{manifest["kind"]} as Type{number} }} from "{place}";',
            f"export const manifest{number}: Type{number} = {json.dumps(manifest)};",
        ]
    (TYPES / "manifests.ts").write_text("\n".join(lines), "utf-8")
    compiler = [str(TYPES / "node_modules/.bin/tsc"), "-p", str(TYPES), "--pretty", "false"]
    process = subprocess.run(compiler, capture_output=True, text=True, check=False)
    errors = re.findall(r"manifests\.ts\((\d+),", process.stdout)
    assert len(errors) >= process.stdout.count("error TS"), process.stdout
    return {(int(line) - 1) // 2 for line in errors}


@needs_types
@needs_kustomize
def test_what_operators_read_is_valid_and_a_mistake_is_found() -> None:
    right = [manifest for manifest in rendered(".") if group(manifest) in OPERATORS]
    assert {manifest["kind"] for manifest in right} == {"Cluster", "Pooler", "ExternalSecret"}
    cluster = next(manifest for manifest in right if manifest["kind"] == "Cluster")
    secret = next(manifest for manifest in right if manifest["kind"] == "ExternalSecret")
    wrong = [
        with_change(cluster, "spec.instancez", 3),
        with_change(cluster, "spec.postgresql.synchronous.numbr", 1),
        with_change(cluster, "spec.storage.size", {"gib": 3}),
        with_change(secret, "spec.data.0.remoteRef", {"property": "password"}),
    ]
    assert refused([*right, *wrong]) == {len(right) + number for number in range(len(wrong))}


def test_the_overlay_is_the_only_place_that_names_a_namespace_or_a_tag() -> None:
    for manifest in written().values():
        assert "namespace" not in manifest["metadata"]
    assert OVERLAY.is_dir()
