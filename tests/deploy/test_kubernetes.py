"""The overlays as kustomize renders them: strict schemas, no root, no way in or out but the named ones.

The schemas of core kinds, and of the pod templates inside the RayCluster, are Kubernetes' own. No registry carries the
schemas of the RayCluster and of the Prometheus operator's kinds: their fields are compared with lists of ours.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.files import DEPLOY, documents, ran, tool
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures("processes")

OVERLAYS = ("dev", "prod")
VERSION = "1.34.0"
CORE = {"Namespace", "ServiceAccount", "ConfigMap", "Service", "Deployment", "StatefulSet", "NetworkPolicy"}
# Fields that these files may use, of ray.io/v1 (KubeRay 1.5) and monitoring.coreos.com/v1 (operator 0.80).
RAY_SPEC = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
RAY_AUTOSCALER = {"upscalingMode", "idleTimeoutSeconds", "env", "resources", "securityContext", "volumeMounts"}
RAY_HEAD = {"serviceType", "rayStartParams", "template"}
RAY_WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@functools.cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    kubectl = tool("kubectl", "apt-get install kubernetes-client")
    shown = ran(kubectl, "kustomize", str(DEPLOY / "kubernetes/overlays" / overlay))
    return [document for document in yaml.safe_load_all(shown) if document]


def kinds(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in rendered(overlay) if document["kind"] == kind]


def ray(overlay: str) -> dict[str, Any]:
    (cluster,) = kinds(overlay, "RayCluster")
    return dict(cluster["spec"])


def templates(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template, by the name of what makes its pods."""
    for document in rendered(overlay):
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]["template"]
    yield "ray head", ray(overlay)["headGroupSpec"]["template"]
    for group in ray(overlay)["workerGroupSpecs"]:
        yield f"ray {group['groupName']}", group["template"]


def containers(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, template in templates(overlay):
        for container in template["spec"]["containers"]:
            yield name, container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_core_kinds_hold_the_strict_schemas(overlay: str) -> None:
    checked = [document for document in rendered(overlay) if document["kind"] in CORE]
    assert len(checked) > 15
    for document in checked:
        kubernetes_validate.validate(document, VERSION, strict=True)
    assert {document["kind"] for document in rendered(overlay)} - CORE == {
        "RayCluster",
        "PodMonitor",
        "PrometheusRule",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_templates_hold_the_strict_schema(overlay: str) -> None:
    for name, template in templates(overlay):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}, **template}
        pod["metadata"] = {"name": "pod", **template["metadata"]}
        kubernetes_validate.validate(pod, VERSION, strict=True)
        assert template["metadata"]["labels"]["app.kubernetes.io/name"], name


def test_the_schemas_refuse_a_wrong_field() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [], "imagee": "a"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ray_cluster_has_fields_that_kuberay_knows(overlay: str) -> None:
    spec = ray(overlay)
    assert set(spec) <= RAY_SPEC
    assert set(spec["autoscalerOptions"]) <= RAY_AUTOSCALER
    assert spec["autoscalerOptions"]["upscalingMode"] in ("Default", "Aggressive", "Conservative")
    assert set(spec["headGroupSpec"]) <= RAY_HEAD
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= RAY_WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        environment = {one["name"] for one in group["template"]["spec"]["containers"][0]["env"]}
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= environment
    assert spec["enableInTreeAutoscaling"] is True
    assert {one["name"] for one in spec["autoscalerOptions"]["env"]} == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}


def test_ray_is_the_version_that_is_installed_in_the_image() -> None:
    held = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert held
    assert {ray(overlay)["rayVersion"] for overlay in OVERLAYS} == {held[1]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_runs_as_root_or_writes_its_image(overlay: str) -> None:
    for name, template in templates(overlay):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] > 0, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert template["spec"]["automountServiceAccountToken"] is (name == "ray head"), name
    hardened = [container["securityContext"] for _, container in containers(overlay)]
    hardened.append(ray(overlay)["autoscalerOptions"]["securityContext"])
    for security in hardened:
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_probed_limited_and_pinned(overlay: str) -> None:
    for name, container in containers(overlay):
        assert {"readinessProbe", "livenessProbe"} <= set(container), name
        assert container["resources"]["requests"]["cpu"], name
        assert container["resources"]["requests"]["memory"], name
        assert container["resources"]["limits"]["memory"], name
        assert re.search(r":(?!latest)[\w.-]*\d", container["image"]), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mounts_have_volumes_and_the_writable_ones_are_no_part_of_the_image(overlay: str) -> None:
    claims = {
        document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: {
            claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])
        }
        for document in rendered(overlay)
        if document["kind"] == "StatefulSet"
    }
    for name, template in templates(overlay):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])} | claims.get(name, set())
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_service_accounts_and_ports_that_are_named_exist(overlay: str) -> None:
    accounts = {document["metadata"]["name"] for document in kinds(overlay, "ServiceAccount")}
    for name, template in templates(overlay):
        assert template["spec"].get("serviceAccountName", next(iter(accounts))) in accounts, name
        for container in template["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                assert port is None or isinstance(port, int) or port in ports, (name, probe)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_is_closed_but_for_named_ways(overlay: str) -> None:
    policies = {document["metadata"]["name"]: document["spec"] for document in kinds(overlay, "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {template["metadata"]["labels"]["app.kubernetes.io/name"] for _, template in templates(overlay)}
    chosen: set[str] = set()
    for name, policy in policies.items():
        if name == "default-deny":
            continue
        selector = policy["podSelector"]
        chosen |= set(selector.get("matchLabels", {}).values())
        chosen |= {value for one in selector.get("matchExpressions", []) for value in one["values"]}
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            assert rule, name  # an empty rule allows everything
            assert rule.get("from") or rule.get("to"), name
            assert rule.get("ports") or name == "ray", name
        for rule in policy.get("egress", []):
            for target in rule["to"]:
                if target.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.169.254/32" in target["ipBlock"]["except"], name
    assert chosen <= labels
    assert labels <= chosen


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_asked_for_and_never_made(overlay: str) -> None:
    assert kinds(overlay, "Secret") == []
    asked = {
        (reference["name"], reference["key"])
        for _, container in containers(overlay)
        for one in container.get("env", [])
        if (reference := one.get("valueFrom", {}).get("secretKeyRef"))
    }
    readme = (DEPLOY / "README.md").read_text()
    assert {("layerprint", "ray-auth-token"), ("layerprint", "prefect-auth-string")} <= asked
    for name, key in asked:
        assert name in readme
        assert key in readme


def test_production_has_gpus_on_demand_and_no_database_of_its_own() -> None:
    assert kinds("prod", "StatefulSet") == []
    (group,) = ray("prod")["workerGroupSpecs"]
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert group["minReplicas"] == 0
    assert group["maxReplicas"] > 1
    assert any(one["key"] == "nvidia.com/gpu" for one in group["template"]["spec"]["tolerations"])
    assert [document["metadata"]["name"] for document in kinds("dev", "StatefulSet")] == ["postgres", "seaweedfs"]


def test_alert_rules_are_those_of_compose() -> None:
    (rules,) = kinds("prod", "PrometheusRule")
    (same,) = documents(DEPLOY / "observability/alerts.yaml")
    assert rules["spec"]["groups"] == same["groups"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_monitor_finds_ray_pods(overlay: str) -> None:
    (monitor,) = kinds(overlay, "PodMonitor")
    (cluster,) = kinds(overlay, "RayCluster")
    assert monitor["spec"]["selector"]["matchLabels"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    wanted = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for name, container in containers(overlay):
        if name.startswith("ray"):
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert wanted <= set(ports), name
            assert ports["metrics"] == 8080
