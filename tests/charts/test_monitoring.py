"""Alerts and dashboard ask for what the server exports, and every alert has a page."""

import json
import re
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from prometheus_client import REGISTRY

from nextpage.decoding.prompt_cache import PromptCache
from serving.metrics import PromptCacheMetrics  # and registers what the server exports
from tests.charts.rendering import Manifest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"
PROMETHEUS = {"namespace", "pod", "le", "nextpage_release"}  # labels that a scrape and the PodMonitor add


@pytest.fixture(scope="module")
def alerts(rendered: dict[str, list[Manifest]]) -> list[Manifest]:
    [rule] = [m for m in rendered["two-arms"] if m["kind"] == "PrometheusRule"]
    return rule["spec"]["groups"][0]["rules"]


@pytest.fixture(scope="module")
def expressions(alerts: list[Manifest], rendered: dict[str, list[Manifest]]) -> list[str]:
    [found] = [m for m in rendered["two-arms"] if m["metadata"]["name"] == "shop-nextpage-dashboard"]
    dashboard = json.loads(found["data"]["shop-nextpage.json"])
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*(alert["expr"] for alert in alerts), *shown]


def exported() -> dict[str, set[str]]:
    """Names of samples, and the labels that each may have."""
    found: dict[str, set[str]] = {}
    cache = PromptCacheMetrics(create_autospec(PromptCache, instance=True, hits=1, extensions=1, misses=1, nbytes=1))
    for metric in [*REGISTRY.collect(), *cache.collect()]:
        if metric.name.startswith("nextpage_"):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
            of_samples = {label for sample in metric.samples for label in sample.labels}
            collector = REGISTRY._names_to_collectors.get(metric.name + ends[0])
            found |= {metric.name + end: of_samples | set(getattr(collector, "_labelnames", ())) for end in ends}
    return found


def test_every_metric_that_is_asked_for_is_exported_with_its_labels(expressions: list[str]) -> None:
    known = exported()
    asked = set()
    for expression in expressions:
        for name, matchers in re.findall(r"\b((?:nextpage|up)[a-z_]*)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)=~?\"", matchers))
            assert name == "up" or labels <= known[name] | PROMETHEUS, expression
            asked.add(name)
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            names = {name for name in known if name in expression}
            labels_known = PROMETHEUS.union(*(known[name] for name in names))
            assert {label.strip() for label in grouped.split(",")} <= labels_known, expression
    assert {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in known} - {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked
    } == set(), "a metric that nobody looks at"


def test_only_the_services_own_pods_are_asked_for(expressions: list[str]) -> None:
    for expression in expressions:
        for matchers in re.findall(r"\{([^}]*)\}", expression):
            assert 'namespace="team"' in matchers
            assert 'pod=~"shop-nextpage-' in matchers


def test_outcomes_that_an_alert_names_are_outcomes(expressions: list[str]) -> None:
    samples = [s for metric in REGISTRY.collect() if metric.name == "nextpage_requests" for s in metric.samples]
    outcomes = {sample.labels["outcome"] for sample in samples if sample.name.endswith("_total")}
    named = {name for e in expressions for found in re.findall(r'outcome=~?"([^"]*)"', e) for name in found.split("|")}
    assert named
    assert named <= outcomes


def test_every_alert_leads_to_its_page_and_says_what_it_is(alerts: list[Manifest]) -> None:
    headings = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in alerts]
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].endswith(f"docs/alerts.md#{alert['alert'].lower()}")
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        text = PAGE.read_text().partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]
        assert "kubectl" in text or "helm" in text, f"the page of {alert['alert']} has no command that fixes it"
