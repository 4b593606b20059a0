"""Real daemons with faults that are really injected, under a real Prometheus: what fires, and the dashboard.

All of it is set up once: each daemon costs a second, a model ten. The rules are the shipped ones with short
durations; the dashboard is asked of the host that has everything.
"""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mlopsd_probes.fake_nvml import build
from tests.alerts import hosts
from tests.alerts.dashboard import Query, queries
from tests.alerts.hosts import address
from tests.alerts.monitoring import Monitoring, monitoring
from tests.alerts.rules import alerts
from tests.gpu.driving import library, scenario
from tests.model.registry_server import Shop
from tests.running import CALM_SYSTEM, Running

pytestmark = [pytest.mark.needs("prometheus", "cc"), pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Site:
    """The hosts by what is wrong with them, each a target of *prometheus*.

    Attributes:
        whole: has a model whose new version was rejected and whose predictions fail, and a card with an XID.
        sick: a system probe beyond its limit, a hung probe, a configuration that was refused.
        ended: the address of one that was killed.
    """

    prometheus: Monitoring
    whole: Running
    lost: Running
    silent: Running
    sick: Running
    draining: Running
    ended: str


@pytest.fixture(scope="module")
def site(newest: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything runs, and everything has been broken; what follows is for Prometheus to see."""
    folder = tmp_path_factory.mktemp("site")
    driver = {"LD_LIBRARY_PATH": str(library(tmp_path_factory))}
    with ExitStack() as stack:
        begin = stack.enter_context
        prometheus = begin(monitoring(folder / "prometheus"))
        model = hosts.a_model(newest.uri, folder)
        whole = begin(hosts.a_whole_host(folder / "whole", model, driver))
        sick = begin(hosts.a_sick_host(folder / "sick"))
        lost = begin(hosts.a_host_that_loses_a_card(folder / "lost", driver))
        silent = begin(hosts.a_host_with_cards(folder / "silent", driver))
        draining = begin(hosts.a_host(folder / "draining", f'[api]\ndrain_delay = "1h"\n{CALM_SYSTEM}'))
        ended = begin(hosts.a_host(folder / "ended", CALM_SYSTEM))
        running = [whole, sick, lost, silent, draining, ended]
        prometheus.watch(*map(address, running))
        prometheus.wait("up == 1", len(running))
        prometheus.wait('mlopsd_probe_status{probe="gpu",status="healthy"} == 1', 2)
        hosts.break_the_whole_host(whole, model, folder)
        hosts.break_the_sick_host(sick)
        build.steer(silent.folder / "host.scenario", scenario("hang nvmlDeviceGetPowerUsage deaf"))
        draining.process.send_signal(signal.SIGTERM)
        ended.process.kill()
        yield Site(prometheus, whole, lost, silent, sick, draining, address(ended))


FIRES = [
    ("whole", "MlopsdHostUnhealthy", {"severity": "page"}),
    ("whole", "MlopsdGpuXid", {"subject": "gpu 1", "advice": "reset_gpu"}),
    ("whole", "MlopsdModelRejected", {"subject": "version 2", "finding": "load", "advice": "fix_config"}),
    ("whole", "MlopsdModelDrift", {"probe": "model"}),
    ("whole", "MlopsdPredictionsFailing", {"probe": "model", "severity": "page"}),
    ("lost", "MlopsdGpuLost", {"subject": "gpu 1", "finding": "gpu_answers", "advice": "reboot"}),
    ("lost", "MlopsdGpuCount", {"probe": "gpu"}),
    ("lost", "MlopsdHostUnhealthy", {}),
    ("silent", "MlopsdGpuDriver", {"probe": "gpu", "advice": "reboot"}),
    ("silent", "MlopsdProbeUnknown", {"probe": "gpu"}),
    ("silent", "MlopsdHostUnknown", {"severity": "page"}),
    ("sick", "MlopsdHostUnhealthy", {}),
    ("sick", "MlopsdMemoryShort", {"finding": "memory_available", "advice": "free_resources"}),
    ("sick", "MlopsdProbeHung", {"probe": "door"}),
    ("sick", "MlopsdConfigReloadFailed", {"advice": "fix_config"}),
    ("draining", "MlopsdDraining", {}),
    ("ended", "MlopsdDown", {"severity": "page", "advice": "restart_app"}),
]


def test_what_is_tried_here_are_alerts() -> None:
    assert {name for _, name, _ in FIRES} <= set(alerts())


@pytest.mark.parametrize(("host", "name", "labels"), FIRES, ids=[f"{host} {name}" for host, name, _ in FIRES])
def test_a_fault_fires_its_alert(site: Site, host: str, name: str, labels: dict[str, str]) -> None:
    on = getattr(site, host)
    alert = site.prometheus.until_firing(name, instance=on if isinstance(on, str) else address(on), **labels)
    assert "<error" not in json.dumps(alert["annotations"])


def test_the_page_of_a_host_names_cause_and_advice(site: Site) -> None:
    alert = site.prometheus.until_firing("MlopsdHostUnhealthy", instance=address(site.lost))
    assert "gpu: gpu_answers gpu 1 is unhealthy" in alert["annotations"]["description"]
    assert alert["annotations"]["advice"] == "reboot"


def test_a_fault_on_one_host_fires_nothing_on_another(site: Site) -> None:
    for name, host in (
        ("MlopsdGpuLost", site.lost),
        ("MlopsdModelRejected", site.whole),
        ("MlopsdMemoryShort", site.sick),
    ):
        assert site.prometheus.until(hosts_with(site.prometheus, name), name) == {address(host)}


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_of_the_dashboard_is_answered(site: Site, query: Query) -> None:
    if (lacking := query.lacks(site.whole.get("/health/system").json["facts"]["absent"])) is not None:
        assert site.prometheus.ask(query.expression) == [], f"{lacking} is absent here, and yet told"
        return
    site.prometheus.until(lambda: site.prometheus.ask(query.expression), str(query))


def test_an_alert_goes_when_its_cause_does(site: Site) -> None:
    prometheus, host = site.prometheus, address(site.sick)
    prometheus.until_firing("MlopsdConfigReloadFailed", instance=host)
    site.sick.config.write_text(site.sick.framed(CALM_SYSTEM), "utf-8")
    site.sick.process.send_signal(signal.SIGHUP)
    for name in ("MlopsdConfigReloadFailed", "MlopsdMemoryShort", "MlopsdProbeHung", "MlopsdHostUnhealthy"):
        prometheus.until(is_quiet(prometheus, name, host), f"{name} is gone")


def hosts_with(prometheus: Monitoring, name: str) -> Callable[[], set[str]]:
    return lambda: {one["labels"]["instance"] for one in prometheus.firing(alertname=name)}


def is_quiet(prometheus: Monitoring, name: str, host: str) -> Callable[[], bool]:
    return lambda: not prometheus.firing(alertname=name, instance=host)
