"""A pod, made of the service itself: what the manifests give it, and what they ask it."""

import asyncio
from pathlib import Path

import pytest

from service.auth import tokens
from tests.chain import HEAD
from tests.paths import ROOT
from tests.rollout.builds import Build
from tests.rollout.kubernetes import Authorized, Cluster

READY = 30.0  # seconds


@pytest.mark.only("postgresql")
async def test_a_pod_passes_its_probes_and_is_reached_through_the_service(
    url: str, tmp_path: Path
) -> None:
    file, replicas = tmp_path / "url", tmp_path / "read-url"
    file.write_text(url, encoding="utf-8")
    replicas.touch()  # an empty file: there are none
    known = tmp_path / "tokens.json"
    Authorized.token = tokens.create(str(known), "test", ["read"])
    files = {
        "/secrets/app/url": file,
        "/secrets/app/read-url": replicas,
        "/tokens/tokens.json": known,
    }
    cluster = Cluster(tmp_path, files)
    async with cluster.running():
        pod = await cluster.start(Build("this", ROOT, HEAD))
        async with asyncio.timeout(READY):
            await pod.ready.wait()
        client = Authorized(cluster.port, keep_alive=True)
        response = await client.request("GET", "/users")
        client.close()
    assert response.status == 200
