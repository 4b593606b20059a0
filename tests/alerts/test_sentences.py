"""Every alert at once, on a page that is made up: its sentences are whole, with the numbers in them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.made_up import MadeUp, page
from tests.alerts.metrics import mistakes
from tests.alerts.monitoring import Alert, Monitoring, monitoring
from tests.alerts.rules import alerts
from tests.running import free_port

pytestmark = [pytest.mark.needs("prometheus"), pytest.mark.timeout(120)]
UNKNOWN_HOST = {"MlopsdHostUnknown"}  # excused where a first version is on its way, as it is on this page
WITHOUT_HOSTS = {"MlopsdAbsent"}
ELSEWHERE = {"MlopsdGpuUnwatched", "MlopsdModelVersionFails"}  # this page has a gpu probe, and is of one host
MISSING = UNKNOWN_HOST | WITHOUT_HOSTS | ELSEWHERE
OUTPUT = {
    "MlopsdHostUnhealthy": ["gpu: xid gpu 1 is unhealthy;", "model: serving"],
    "MlopsdModelDrift": ["wanted version 2 and", "served version 1."],
    "MlopsdModelFilesDiffer": ["version 1 of wine", "2 different digests", "d1 on 1;", "d2 on 1;"],
    "MlopsdModelVersionSkew": ["wine is served in 2 versions", "version 1 on 2;", "version 2 on 1;"],
    "MlopsdGpuCorrectedErrors": ["gpu 1 corrects many memory errors"],
    "MlopsdGpuXid": ["gpu 1 XID 48 (3 times)"],
    "MlopsdGpuMemoryErrors": ["gpu 1: 5;"],
    "MlopsdGpuHot": ["gpu 1 gpu 91 °C"],
    "MlopsdGpuThrottled": ["gpu 1 hw_thermal"],
    "MlopsdGpuNvlink": ["gpu 1 link 3"],
    "MlopsdGpuLost": ["Cards that answer: 1."],
    "MlopsdDiskShort": ["free: 1", "GiB"],
    "MlopsdMemoryShort": ["available: 1.863GiB"],
    "MlopsdStuckProcesses": ["4 processes"],
    "MlopsdPredictionsFailing": ["33.33%"],
    "MlopsdHostBusy": ["load over 5 min: 77."],
    "MlopsdHostHot": ["coretemp 99 °C"],
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Alert]]:
    """One alert of each name, as Prometheus has it with its templates filled in."""
    expected = set(alerts()) - MISSING
    nobody = [f"127.0.0.1:{free_port()}" for _ in range(5)]
    with MadeUp() as host, monitoring(tmp_path_factory.mktemp("made-up")) as prometheus:
        prometheus.watch(host.address, *nobody)
        yield prometheus.until(lambda: by_name(prometheus, expected), "all but these")


def by_name(prometheus: Monitoring, expected: set[str]) -> dict[str, Alert]:
    """The alerts that fire, by their names; none before all that are *expected* do."""
    firing = {alert["labels"]["alertname"]: alert for alert in prometheus.firing()}
    return firing if expected <= firing.keys() else {}


@pytest.mark.parametrize("name", sorted(set(alerts()) - MISSING))
def test_the_sentences_of_an_alert_are_whole(seen: dict[str, Alert], name: str) -> None:
    annotations = seen[name]["annotations"]
    for text in annotations.values():
        assert text.strip()
        for broken in ("<error", "<no value>", "{{", "%!", "<nil>"):
            assert broken not in text
    for part in OUTPUT.get(name, []):
        assert part in annotations["description"] + annotations["summary"]


def test_what_is_made_up_has_the_names_that_a_daemon_exposes() -> None:
    assert mistakes(page(1)) == []


def test_the_advice_of_the_host_is_the_one_that_holds(seen: dict[str, Alert]) -> None:
    assert seen["MlopsdHostUnhealthy"]["annotations"]["advice"] == "reboot"
    assert seen["MlopsdGpuXid"]["annotations"]["advice"] == "reset_gpu"


def test_with_no_host_at_all_prometheus_says_so(tmp_path: Path) -> None:
    with monitoring(tmp_path / "nobody") as prometheus:
        alert = prometheus.until_firing("MlopsdAbsent")
    assert alert["labels"]["severity"] == "page"
