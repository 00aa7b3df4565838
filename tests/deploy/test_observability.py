"""Alerts, Prometheus and the dashboard: read by promtool, alerts fire when they should, metrics are ones that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ray.dashboard.modules.reporter.reporter_agent as reporter

from tests.deploy.files import DEPLOY, documents, ran, tool
from tests.paths import ROOT

FOLDER = DEPLOY / "observability"
DASHBOARD = json.loads((FOLDER / "grafana/layerprint.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS += [rule["expr"] for group in documents(FOLDER / "alerts.yaml")[0]["groups"] for rule in group["rules"]]
METRICS = {name for expression in EXPRESSIONS for name in re.findall(r"\bray_\w+", expression)}
# Metrics of Ray's native processes, seen at the metrics port of a running stack (Ray 2.60).
NATIVE = {"ray_object_store_used_memory", "ray_running_jobs"}


def promtool() -> str:
    return tool("promtool", "apt-get install prometheus")


@pytest.mark.usefixtures("processes")
def test_promtool_reads_rules_and_configuration(tmp_path: Path) -> None:
    ran(promtool(), "check", "rules", str(FOLDER / "alerts.yaml"))
    text = (FOLDER / "prometheus.yaml").read_text().replace("/etc/prometheus", str(FOLDER))
    (tmp_path / "prometheus.yaml").write_text(text)
    ran(promtool(), "check", "config", str(tmp_path / "prometheus.yaml"))


@pytest.mark.usefixtures("processes")
def test_alerts_fire_when_they_should_and_only_then() -> None:
    ran(promtool(), "test", "rules", str(Path(__file__).parent / "alerts_test.yaml"))


def test_every_alert_is_tested() -> None:
    (rules,) = documents(FOLDER / "alerts.yaml")
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    tested = re.findall(r"alertname: (\w+)", (Path(__file__).parent / "alerts_test.yaml").read_text())
    assert set(tested) == names


def test_our_metrics_are_documented() -> None:
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS if name.startswith("ray_layerprint_")}
    documented = set(re.findall(r"`(ray_layerprint_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    assert ours
    assert ours <= documented


def test_metrics_of_ray_exist() -> None:
    gauges = {f"ray_{name}" for name in reporter.METRICS_GAUGES}
    assert {name for name in METRICS if not name.startswith("ray_layerprint_")} <= gauges | NATIVE


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["datasource"]["uid"] == "prometheus"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("name", ["datasources", "dashboards"])
def test_grafana_is_provisioned_with_them(name: str) -> None:
    (file,) = documents(FOLDER / f"grafana/{name}.yaml")
    compose = (DEPLOY / "compose.yaml").read_text()
    assert f"./observability/grafana/{name}.yaml:" in compose
    if name == "datasources":
        assert file["datasources"][0]["uid"] == "prometheus"
    else:
        assert f":{file['providers'][0]['options']['path']}/layerprint.json:ro" in compose
