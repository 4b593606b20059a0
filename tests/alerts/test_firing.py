"""Real daemons with faults that are really injected, under a real Prometheus: what fires, and the dashboard.

All of it is set up once: each daemon costs a second, a model ten. The rules are the shipped ones with short
durations; the dashboard is asked of the host that has everything.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.gpu.fake import build
from tests.alerts.dashboard import Query, queries
from tests.alerts.monitoring import Monitoring, monitoring
from tests.alerts.rules import alerts
from tests.conftest import STRANGE
from tests.gpu.driving import library, scenario
from tests.model.models.saved import rows, troubled
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.running import CALM_SYSTEM, Running

pytestmark = [pytest.mark.needs("prometheus", "cc"), pytest.mark.timeout(300)]

TAKEN_UP = 90.0  # seconds for two models to serve, on a busy machine
HEADERS = {"X-API-Key": "sesame", "Content-Type": "application/json"}
GPU = '[probes.gpu]\ninterval = 0.5\ntimeout = 2\nsysfs_path = "/nonexistent"\n'
CARD = ("fan.count 1", "fan.speed 40", "fan.min 30", "fan.max 100")
SICK = """
[probes.system]
interval = 0.5
fail_after = 1
memory_available_unhealthy = 1
memory_available_degraded = 1
memory_available_enough = "1000TB"
[probes.door]
use = "troubled"
trouble = "hangs"
timeout = 0.5
isolation = "thread"
critical = false
"""
FLOWER = rows(
    ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"], [5.1, 3.5, 1.4, 0.2]
)
FAILURES = 10  # six in five minutes are a page


@dataclass(frozen=True)
class Site:
    """The hosts by what is wrong with them, each a target of *prometheus*.

    Attributes:
        whole: has a model whose new version was refused and whose predictions fail, and a card with an XID.
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


def address(daemon: Running) -> str:
    return f"127.0.0.1:{daemon.port}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, newest: Shop) -> Iterator[Site]:
    """Everything runs, and everything has been broken; what follows is for Prometheus to see."""
    folder = tmp_path_factory.mktemp("site")
    driver = {"LD_LIBRARY_PATH": str(library(tmp_path_factory))}
    with ExitStack() as stack:
        model = Registrar(newest.uri, f"model {folder}")
        model.register(troubled(folder / "good"))
        model.point("1")
        prometheus = stack.enter_context(monitoring(folder / "prometheus"))
        whole = stack.enter_context(a_whole_host(folder / "whole", model, newest, driver))
        sick = stack.enter_context(a_sick_host(folder / "sick"))
        lost = stack.enter_context(a_host_that_loses_a_card(folder / "lost", driver))
        silent = stack.enter_context(a_host(folder / "silent", GPU, gpus(folder / "silent", driver)))
        draining = stack.enter_context(
            a_host(folder / "draining", f'[api]\ndrain_delay = "5m"\n{CALM_SYSTEM}')
        )
        ended = stack.enter_context(a_host(folder / "ended", CALM_SYSTEM))
        hosts = [whole, sick, lost, silent, draining, ended]
        prometheus.watch(*map(address, hosts))
        prometheus.wait("up == 1", len(hosts))
        prometheus.wait('mlopsd_probe_status{probe="gpu",status="healthy"} == 1', 2)
        break_the_whole_host(whole, model, folder)
        break_the_sick_host(sick)
        build.steer(silent.folder / "host.scenario", scenario("hang nvmlDeviceGetPowerUsage deaf"))
        draining.process.send_signal(signal.SIGTERM)
        ended.process.kill()
        yield Site(prometheus, whole, lost, silent, sick, draining, address(ended))


def a_host(
    folder: Path, text: str, environment: dict[str, str] | None = None, until: str = "started"
) -> Running:
    folder.mkdir(exist_ok=True)
    return Running(folder, text, environment=environment, until=until)


def gpus(folder: Path, driver: dict[str, str], *lines: str) -> dict[str, str]:
    """An environment with two cards, steered by ``host.scenario`` in *folder*."""
    folder.mkdir(exist_ok=True)
    file = folder / "host.scenario"
    file.write_text(scenario(*CARD, *lines))
    return {**build.environment(file, Path(driver["LD_LIBRARY_PATH"]).parent), **driver}


def a_host_that_loses_a_card(folder: Path, driver: dict[str, str]) -> Running:
    """Two seconds after it began card 1 falls off the bus."""
    return a_host(folder, GPU, gpus(folder, driver, "at 2s lost gpu 1"))


def a_whole_host(folder: Path, model: Registrar, newest: Shop, driver: dict[str, str]) -> Running:
    """Two models, two cards, and the host itself, all well."""
    folder.mkdir()
    canary = folder / "canary.json"
    canary.write_bytes(rows(["do", "x"], ["", 1.0], ["", 2.0]))
    text = f"""
[api]
api_keys = ["sesame"]
{GPU}
[probes.model]
model = "{model.name}"
registries = [{{ uri = "{model.uri}" }}]
interval = "1s"
refused_backoff = "1h"
[probes.model.canary]
input = "{canary}"
[probes.iris]
use = "model"
model = "iris"
registries = [{{ uri = "{newest.uri}" }}]
default = true
{CALM_SYSTEM}interval = 0.5
paths = ["/", "{folder}"]
"""
    return a_host(folder, text, gpus(folder, driver), until="listening")


def a_sick_host(folder: Path) -> Running:
    """As installed with a probe that hangs for good in its thread."""
    about = folder / "site" / "strange-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n", "ascii")
    (about / "entry_points.txt").write_text("[mlopsd.probes]\ntroubled = troubled:Troubled\n", "ascii")
    path = os.pathsep.join(filter(None, [str(about.parent), str(STRANGE), os.environ.get("PYTHONPATH")]))
    return a_host(folder, SICK, {"PYTHONPATH": path})


def break_the_whole_host(daemon: Running, model: Registrar, folder: Path) -> None:
    """A version that will not load is wanted, the one in service fails its callers, a card has an XID."""
    daemon.until("/health/model", lambda told: served(told) == "1", TAKEN_UP)
    daemon.until("/health/iris", lambda told: served(told) == "1", TAKEN_UP)
    model.point(model.register(troubled(folder / "second", "need nothing_that_exists")))
    predict_all_the_time(daemon)
    for _ in range(FAILURES):
        failed = daemon.ask("POST", "/invocations/model", HEADERS, body=rows(["do", "x"], ["fail well", 1.0]))
        assert failed.status == 500
    build.steer(daemon.folder / "host.scenario", scenario(*CARD, "xid 48 gpu 1"))
    daemon.until("/health/model", lambda told: told["facts"].get("refused"), TAKEN_UP)


def served(reading: dict[str, Any]) -> str | None:
    return (reading["facts"].get("served") or {}).get("version")


def predict_all_the_time(daemon: Running) -> None:
    """Until it ends: a rate needs more than one scrape."""

    def ask() -> None:
        try:
            while daemon.process.poll() is None:
                daemon.ask("POST", "/invocations/iris", HEADERS, body=FLOWER)
                daemon.ask("POST", "/invocations/model", HEADERS, body=rows(["do", "x"], ["", 7.0]))
                pause.wait(0.2)
        except OSError:
            return  # it was ended

    pause = threading.Event()
    threading.Thread(target=ask, daemon=True).start()


def break_the_sick_host(daemon: Running) -> None:
    daemon.config.write_text(daemon.framed("[api]\nprot = 1\n"), "utf-8")
    daemon.process.send_signal(signal.SIGHUP)


FIRES = [
    ("whole", "MlopsdHostUnhealthy", {"severity": "page"}),
    ("whole", "MlopsdGpuXid", {"subject": "gpu 1", "status": "unhealthy", "advice": "reset_gpu"}),
    ("whole", "MlopsdModelRefused", {"subject": "version 2", "finding": "load", "advice": "fix_registry"}),
    ("whole", "MlopsdModelDrift", {"probe": "model"}),
    ("whole", "MlopsdPredictionsFailing", {"probe": "model", "severity": "page"}),
    ("lost", "MlopsdGpuLost", {"subject": "gpu 1", "finding": "gpu_answers", "advice": "reboot"}),
    ("lost", "MlopsdGpuCount", {"status": "unhealthy"}),
    ("lost", "MlopsdHostUnhealthy", {}),
    ("silent", "MlopsdGpuDriver", {"finding": "timeout", "status": "unknown"}),
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
    site.prometheus.until_firing("MlopsdGpuLost")
    for name, host in (
        ("MlopsdGpuLost", site.lost),
        ("MlopsdModelRefused", site.whole),
        ("MlopsdMemoryShort", site.sick),
    ):
        assert {one["labels"]["instance"] for one in site.prometheus.firing(alertname=name)} == {
            address(host)
        }


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
        prometheus.until(
            lambda name=name: not prometheus.firing(alertname=name, instance=host), f"{name} is gone"
        )
