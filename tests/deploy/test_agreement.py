"""Names, ports, probes, settings, roles and times of the manifests are those of the code."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service import stopping
from service.cli import workers
from service.http import health
from service.settings import SECRETS, Settings
from tests.deploy.manifests import Manifest, written
from tests.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text("utf-8")
MEASURED = 47 + 92 + 15  # MiB: parent and worker under load (README.md), the page /evolution
POOLERS = ("users-pooler", "users-pooler-ro")  # before the primary, before the standbys
KINDS_WITH_PODS = {"Deployment", "Job"}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def deployment() -> Manifest:
    return written()["Deployment", "users"]


def job() -> Manifest:
    return written()["Job", "users-migration"]


def pod(manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def container(manifest: Manifest) -> dict[str, Any]:
    [one] = pod(manifest)["containers"]
    return dict(one)


def environment(manifest: Manifest) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(manifest)["env"]}


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["spec"]["template"]["metadata"]["labels"])


def of_kind(kind: str) -> list[Manifest]:
    return [manifest for (its, _), manifest in written().items() if its == kind]


def mebibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Mi"))


def values(manifest: object, key: str) -> Iterator[Any]:
    """Yield each value that stands under a key, wherever it is."""
    if isinstance(manifest, list):
        for item in manifest:
            yield from values(item, key)
    elif isinstance(manifest, dict):
        for name, value in manifest.items():
            if name == key:
                yield value
            yield from values(value, key)


@pytest.mark.parametrize("manifest", [deployment(), job()], ids=lambda manifest: manifest["kind"])
def test_every_variable_is_a_setting_with_a_value_that_it_takes(manifest: Manifest) -> None:
    variables = environment(manifest)
    names = {name.upper() for name in Settings.__struct_fields__}
    assert set(variables) <= names | {f"{name}_FILE" for name in SECRETS}
    assert not set(SECRETS) & set(variables)
    plain = {name: value for name, value in variables.items() if not name.endswith("_FILE")}
    Settings.from_environment(plain)


@pytest.mark.parametrize("manifest", [deployment(), job()], ids=lambda manifest: manifest["kind"])
def test_a_pod_has_the_images_user_and_no_right_that_it_does_not_need(manifest: Manifest) -> None:
    [user] = re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    context = pod(manifest)["securityContext"]
    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(user)}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(manifest)["securityContext"] == RESTRICTED
    assert pod(manifest)["automountServiceAccountToken"] is False
    account = written()["ServiceAccount", pod(manifest)["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False


def test_the_commands_are_those_of_the_image_and_of_compose() -> None:
    assert f"CMD {container(deployment())['args']}".replace("'", '"') in DOCKERFILE
    assert f"command: {container(job())['args']}".replace("'", "") in COMPOSE
    for manifest in (deployment(), job()):
        assert "command" not in container(manifest)  # the image has no entrypoint to be replaced


def test_the_port_and_the_paths_are_the_services() -> None:
    [port] = container(deployment())["ports"]
    assert f"EXPOSE {port['containerPort']}" in DOCKERFILE
    assert environment(deployment())["PORT"] == str(port["containerPort"])
    assert environment(deployment())["HOST"] == "0.0.0.0"  # noqa: S104  # what the probes reach
    paths = {path for route in health.ROUTES for path in route.paths}
    probes = {name: container(deployment())[f"{name}Probe"]["httpGet"]
              for name in ("startup", "liveness", "readiness")}  # fmt: skip
    assert {probe["path"] for probe in probes.values()} == paths
    assert probes["readiness"]["path"] == "/health/ready"
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert written()["Service", "users"]["spec"]["ports"][0]["targetPort"] == port["name"]


def test_the_grace_covers_the_pre_stop_and_the_drain() -> None:
    """docs/operating.md: DRAIN_TIME + 25 seconds, and here what comes before the signal."""
    seconds = container(deployment())["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(environment(deployment())["DRAIN_TIME"])
    end = max(stopping.LAST_RESORT, workers.STOP_TIMEOUT, stopping.GRACE)
    assert "`DRAIN_TIME` + 25 seconds" in (ROOT / "docs/operating.md").read_text("utf-8")
    assert pod(deployment())["terminationGracePeriodSeconds"] >= seconds + drain + end


def test_a_probe_has_more_time_than_an_answer_takes() -> None:
    """An answer takes at most 5 seconds; a liveness that gave up earlier would restart the busy."""
    assert Settings().request_timeout < 5
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container(deployment())[probe]["timeoutSeconds"] >= 5


def test_the_memory_covers_what_was_measured_and_the_spool() -> None:
    limit = mebibytes(container(deployment())["resources"]["limits"]["memory"])
    request = mebibytes(container(deployment())["resources"]["requests"]["memory"])
    [spool] = [volume["emptyDir"]["sizeLimit"] for volume in pod(deployment())["volumes"]
               if "emptyDir" in volume]  # fmt: skip
    assert request >= MEASURED
    assert limit >= (MEASURED + mebibytes(spool)) * 1.5


@pytest.mark.parametrize("name", POOLERS)
def test_the_connections_of_all_pods_fit_the_pooler_and_the_server(name: str) -> None:
    pooler = written()["Pooler", name]["spec"]
    parameters = pooler["pgbouncer"]["parameters"]
    watched = 1  # each worker watches the primary and the replicas by a connection more
    bounds = written()["HorizontalPodAutoscaler", "users"]["spec"]
    surge = deployment()["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    each = int(environment(deployment())["WORKERS"]) * (
        int(environment(deployment())["POOL_SIZE"]) + watched
    )
    # terminating pods keep theirs, beside one that takes its place: all of them, at the worst
    assert (2 * bounds["maxReplicas"] + surge) * each <= int(parameters["max_client_conn"])
    server = written()["Cluster", "users-db"]["spec"]["postgresql"]["parameters"]
    shared = pooler["instances"] * int(parameters["default_pool_size"])
    assert shared + 50 <= int(server["max_connections"])


def test_selectors_match_the_pods() -> None:
    pods = labels(deployment())
    assert deployment()["spec"]["selector"]["matchLabels"] == pods
    assert written()["Service", "users"]["spec"]["selector"] == pods
    budget = written()["PodDisruptionBudget", "users"]["spec"]
    assert budget["selector"]["matchLabels"] == pods
    for constraint in pod(deployment())["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == pods
    target = written()["HorizontalPodAutoscaler", "users"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in written()


def test_policies_name_pods_that_exist() -> None:
    known = [
        labels(deployment()),
        labels(job()),
        {"cnpg.io/cluster": "users-db", "cnpg.io/podRole": "instance"},
        *({"cnpg.io/poolerName": name} for name in POOLERS),
        {"k8s-app": "kube-dns"},
    ]
    assert ("Cluster", "users-db") in written()
    assert [pooler["metadata"]["name"] for pooler in of_kind("Pooler")] == list(POOLERS)
    for policy in of_kind("NetworkPolicy"):
        for selector in values(policy, "podSelector"):
            wanted = selector.get("matchLabels", {})
            assert any(wanted.items() <= pods.items() for pods in known), policy["metadata"]


def egress(pods: dict[str, str]) -> list[tuple[dict[str, str], int]]:
    """Return which pods those with some labels may reach, at which ports."""
    return [
        (peer["podSelector"]["matchLabels"], port["port"])
        for policy in of_kind("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"] == pods
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        for port in rule["ports"]
    ]


def test_the_service_reaches_the_poolers_and_the_migration_the_database_and_neither_the_other() -> (
    None
):
    dns = [({"k8s-app": "kube-dns"}, 53)] * 2
    poolers = [{"cnpg.io/poolerName": name} for name in POOLERS]
    for pods, places in (
        (labels(deployment()), poolers),
        (labels(job()), [{"cnpg.io/cluster": "users-db"}]),
    ):
        reached = [peer for peer in egress(pods) if peer not in dns]
        assert reached == [(place, 5432) for place in places]
        assert [peer for peer in egress(pods) if peer in dns] == dns
    for pods in (labels(deployment()), labels(job())):
        types = {kind for policy in of_kind("NetworkPolicy")
                 if policy["spec"]["podSelector"]["matchLabels"] == pods
                 for kind in policy["spec"]["policyTypes"]}  # fmt: skip
        assert types == {"Ingress", "Egress"}


def test_each_role_has_its_secret_and_goes_its_way() -> None:
    """The service goes through the poolers; a migration needs a session, so past them."""
    cluster = written()["Cluster", "users-db"]["spec"]
    roles = {role["name"]: role["passwordSecret"]["name"] for role in cluster["managed"]["roles"]}
    assert roles == {"users_app": "users-app", "users_owner": "users-owner"}
    assert set(roles) <= set(re.findall(r"users_\w+", COMPOSE))
    assert cluster["bootstrap"]["initdb"]["owner"] == "users_owner"
    assert environment(job())["APP_ROLE"] == "users_app"
    hosts = {
        "users-app": {"url": "users-pooler", "read-url": "users-pooler-ro"},
        "users-owner": {"url": "users-db-rw"},
    }
    types = {pooler["metadata"]["name"]: pooler["spec"]["type"] for pooler in of_kind("Pooler")}
    assert types == {"users-pooler": "rw", "users-pooler-ro": "ro"}
    assert cluster["certificates"]["serverAltDNSNames"] == list(POOLERS)
    for role, secret in roles.items():
        target = written()["ExternalSecret", secret]["spec"]["target"]
        assert target["name"] == secret
        data = target["template"]["data"]
        assert data["username"] == role
        assert set(data) == {"username", "password", *hosts[secret]}
        for key, host in hosts[secret].items():
            url = urlsplit(data[key].replace("{{ .password }}", "password"))
            assert (url.username, url.hostname, url.path) == (role, host, "/users")
            assert parse_qs(url.query)["sslmode"] == ["verify-full"]


def test_each_pod_sees_the_secret_of_its_role_and_files_lie_where_the_settings_say() -> None:
    database = {}
    for manifest in (deployment(), job()):
        mounts = {mount["name"]: mount for mount in container(manifest)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod(manifest)["volumes"]}
        assert set(mounts) == set(volumes)
        source = volumes["database"]["secret"]
        database[manifest["kind"]] = source["secretName"]
        place = mounts["database"]["mountPath"]
        files = {f"{place}/{item['path']}" for item in source["items"]}
        variables = [f"{name}_FILE" for name in SECRETS if f"{name}_FILE" in environment(manifest)]
        assert environment(manifest)["DATABASE_URL_FILE"] == f"{place}/url"
        assert {environment(manifest)[name] for name in variables} == files
        target = written()["ExternalSecret", source["secretName"]]["spec"]["target"]
        assert {item["key"] for item in source["items"]} <= set(target["template"]["data"])
        assert all(mounts[name].get("readOnly") for name in volumes if "secret" in volumes[name])
        written_to = [mounts[name]["mountPath"] for name in volumes if "emptyDir" in volumes[name]]
        assert written_to == ["/tmp"]  # noqa: S108  # the only place that either writes to
    assert database == {"Deployment": "users-app", "Job": "users-owner"}
    place = environment(deployment())["TOKENS_FILE"]
    assert place == "/tokens/tokens.json"
    [token] = written()["ExternalSecret", "users-tokens"]["spec"]["data"]
    assert token["secretKey"] == "tokens.json"


def test_no_manifest_holds_a_secret() -> None:
    assert of_kind("Secret") == []
    for manifest in of_kind("ExternalSecret"):
        for password in values(manifest, "password"):
            assert password == "{{ .password }}"  # noqa: S105  # a template, and no password


def test_the_migration_is_run_after_the_database_and_before_the_pods() -> None:
    def wave(manifest: Manifest) -> int:
        annotations = manifest["metadata"].get("annotations", {})
        return int(annotations.get("argocd.argoproj.io/sync-wave", 0))

    others = [manifest for manifest in written().values()
              if manifest["kind"] not in KINDS_WITH_PODS]  # fmt: skip
    assert max(map(wave, others)) < wave(job()) < wave(deployment())


def test_a_roll_out_takes_no_pod_away_before_another_is_ready() -> None:
    update = deployment()["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in deployment()["spec"]  # the autoscaler's
