"""The Kubernetes manifests: their schemas, and that what refers to something fits it."""

from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types
import pytest
import yaml

from shop_poller import __version__
from shop_poller.config.settings import SECRETS, Settings
from shop_poller.runtime.leader_session import Grace
from shop_poller.web.routes import make_app
from support.dockerfile import instructions

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
BASE, EXAMPLE = KUBERNETES / "base", KUBERNETES / "overlays/example"
RESOURCES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.28", "1.33", "1.37")
FOREIGN = {"ServiceMonitor"}
"""Of the Prometheus Operator, whose schemas are not Kubernetes' own."""
LABELS = {"app.kubernetes.io/name": "shop-poller"}


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pod() -> Any:
    return parsed(BASE / "deployment.yaml")["spec"]["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.relative_to(KUBERNETES).as_posix())
def test_it_fits_the_schema(path: Path, version: str) -> None:
    resource = parsed(path)
    if resource["kind"] in FOREIGN:
        assert resource["apiVersion"] == "monitoring.coreos.com/v1"
        return
    kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("directory", [BASE, EXAMPLE], ids=["base", "example"])
def test_everything_that_is_there_is_named_and_the_other_way_round(directory: Path) -> None:
    kustomization = parsed(directory / "kustomization.yaml")
    assert (kustomization["kind"], kustomization["apiVersion"]) == (
        "Kustomization",
        "kustomize.config.k8s.io/v1beta1",
    )
    named = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))]
    files = {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in named if name.endswith(".yaml")} == files
    for name in set(named) - files:
        assert (directory / name / "kustomization.yaml").exists()


def test_a_patch_is_of_something_that_the_base_has() -> None:
    there = {
        (one["kind"], one["metadata"]["name"])
        for one in map(parsed, BASE.glob("*.yaml"))
        if "metadata" in one
    }
    for patch in parsed(EXAMPLE / "kustomization.yaml")["patches"]:
        patched = parsed(EXAMPLE / patch["path"])
        assert (patched["kind"], patched["metadata"]["name"]) in there


def test_everything_selects_the_pods() -> None:
    deployment = parsed(BASE / "deployment.yaml")
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    (spread,) = pod()["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == LABELS
    assert parsed(BASE / "service.yaml")["spec"]["selector"] == LABELS
    assert parsed(BASE / "service.yaml")["metadata"]["labels"] == LABELS
    assert parsed(BASE / "poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"] == LABELS
    assert parsed(BASE / "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == LABELS
    assert parsed(EXAMPLE / "servicemonitor.yaml")["spec"]["selector"]["matchLabels"] == LABELS


def test_ports_are_the_same_everywhere() -> None:
    made = dict(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    (port,) = container()["ports"]
    assert str(port["containerPort"]) == made["EXPOSE"]
    (served,) = parsed(BASE / "service.yaml")["spec"]["ports"]
    (watched,) = parsed(EXAMPLE / "servicemonitor.yaml")["spec"]["endpoints"]
    assert port["name"] == served["name"] == served["targetPort"] == watched["port"] == "http"
    (ingress,) = parsed(BASE / "networkpolicy.yaml")["spec"]["ingress"]
    assert [one["port"] for one in ingress["ports"]] == [port["containerPort"]] == [served["port"]]


def test_the_probes_ask_what_there_is() -> None:
    routes = {getattr(route, "path", "") for route in make_app(None).routes}  # type: ignore[arg-type] # none is asked
    requested = {name: container()[name]["httpGet"]["path"] for name in container() if name.endswith("Probe")}
    assert requested == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(requested.values()) <= routes


def test_it_fits_the_restricted_profile() -> None:
    assert parsed(EXAMPLE / "namespace.yaml")["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    whole, own = pod()["securityContext"], container()["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    made = dict(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert f"{whole['runAsUser']}:{whole['runAsGroup']}" == made["USER"]
    assert not pod()["automountServiceAccountToken"]
    assert {next(iter(set(volume) - {"name"})) for volume in pod()["volumes"]} <= {"secret", "emptyDir"}


def test_keys_come_as_files_of_the_secret_and_nothing_else_does() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod()["volumes"]}
    secret = parsed(EXAMPLE / "secret.yaml")
    (volume,) = (volume["secret"] for volume in pod()["volumes"] if "secret" in volume)
    assert volume["secretName"] == secret["metadata"]["name"]
    keys = set(secret["stringData"])
    assert {one["name"]: one["value"] for one in container()["env"]} == {
        f"{key}_FILE": f"{mounts['secrets']}/{key}" for key in keys
    }
    assert {key.lower() for key in keys} <= set(SECRETS)
    assert "shop_state_url" in {key.lower() for key in keys}, "two replicas cannot share a file"


def test_the_other_settings_are_settings_and_no_secrets() -> None:
    for path in (BASE / "configmap.yaml", EXAMPLE / "configmap.yaml"):
        names = {name.lower() for name in parsed(path)["data"]}
        assert names <= set(Settings.model_fields) - set(SECRETS)
    assert container()["envFrom"] == [
        {"configMapRef": {"name": parsed(BASE / "configmap.yaml")["metadata"]["name"]}}
    ]


def test_two_replicas_and_a_drain_that_leaves_one() -> None:
    assert parsed(BASE / "deployment.yaml")["spec"]["replicas"] == 2
    assert parsed(BASE / "poddisruptionbudget.yaml")["spec"]["maxUnavailable"] == 1
    assert pod()["terminationGracePeriodSeconds"] >= max(Grace().tick_s, Grace().sender_s) + 5


def test_the_image_has_our_version() -> None:
    for directory in (BASE, EXAMPLE):
        (image,) = parsed(directory / "kustomization.yaml")["images"]
        assert (image["name"], image["newTag"]) == (container()["image"], __version__)


def test_only_what_it_needs_can_be_reached() -> None:
    policy = parsed(BASE / "networkpolicy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]] == [
        [53],
        [443],
        [6379],
    ]
    assert all(rule["to"] for rule in policy["egress"])
