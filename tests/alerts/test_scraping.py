"""The shipped rules over every documented way to scrape: a real Prometheus, a live host and a dead one."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.alerts.dashboard import queries
from tests.alerts.monitoring import Monitoring, configured
from tests.alerts.scraping import Addresses, Example, examples, with_targets
from tests.running import CALM_SYSTEM, Running

pytestmark = pytest.mark.needs("prometheus")
OTHERS = "somebody else's"


@dataclass(frozen=True, slots=True)
class Scraped:
    """What a Prometheus made of an example.

    Attributes:
        live: the instances of the targets where a daemon answers.
        dead: the instances of those where nobody does.
    """

    prometheus: Monitoring
    live: list[str]
    dead: list[str]


def test_the_examples_are_found() -> None:
    assert {str(example).partition(" ")[0] for example in examples()} == {
        "docs/guides/prometheus-grafana.md", "docs/guides/fleet.md",
        "deploy/prometheus/prometheus.yml", "deploy/kubernetes/podmonitor.yaml",
    }  # fmt: skip


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A daemon on every loopback address, and a port that is taken so that nobody listens on it."""
    text = f'[api]\nhost = "0.0.0.0"\n{CALM_SYSTEM}'
    with Running(tmp_path_factory.mktemp("host"), text) as daemon, socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        _, port = taken.getsockname()
        yield Addresses(daemon.port, port)


@pytest.fixture(scope="module", params=examples(), ids=str)
def scraped(
    request: pytest.FixtureRequest, addresses: Addresses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scraped]:
    """One example, as soon as each target was scraped."""
    folder = tmp_path_factory.mktemp("prometheus")
    with configured(folder, configuration(request.param, addresses)) as prometheus:
        found = prometheus.until(lambda: seen(prometheus), "a scrape of each target")
        live = [name for address, name in found if addresses.is_live(address)]
        dead = [name for address, name in found if not addresses.is_live(address)]
        assert live
        assert dead
        yield Scraped(prometheus, live, dead)


def configuration(example: Example, addresses: Addresses) -> str:
    """Write *example* for a Prometheus that scrapes something else too, as each does."""
    configs = [with_targets(config, number, addresses) for number, config in enumerate(example.configs)]
    other = {"job_name": OTHERS, "static_configs": [{"targets": [f"127.0.0.1:{addresses.dead}"]}]}
    pace = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "500ms"}
    document = {"global": pace, "rule_files": ["mlopsd.rules.yml"], "scrape_configs": [*configs, other]}
    return str(yaml.safe_dump(document))


def seen(prometheus: Monitoring) -> list[tuple[str, str]]:
    """The address and the instance of each target of the example, once everything has been scraped."""
    targets = prometheus.targets()
    if any(one["health"] == "unknown" for one in targets):
        return []
    ours = [one for one in targets if one["labels"]["job"] != OTHERS]
    return [(one["discoveredLabels"]["__address__"], one["labels"]["instance"]) for one in ours]


def test_a_dead_host_is_down_and_a_live_one_is_not(scraped: Scraped) -> None:
    def are_down() -> bool:
        firing = scraped.prometheus.firing(alertname="MlopsdDown")
        return sorted(alert["labels"]["instance"] for alert in firing) == sorted(scraped.dead)

    scraped.prometheus.until(are_down, f"down: {scraped.dead}")


def test_a_fleet_that_is_scraped_is_not_absent(scraped: Scraped) -> None:
    def is_down_and_not_absent() -> bool:
        names = {alert["labels"]["alertname"] for alert in scraped.prometheus.alerts()}
        return "MlopsdDown" in names and "MlopsdAbsent" not in names

    scraped.prometheus.until(is_down_and_not_absent, "hosts that are down, and no absence")


def test_the_rules_that_record_see_every_host(scraped: Scraped) -> None:
    hosts = len(scraped.live) + len(scraped.dead)
    share = len(scraped.live) / hosts
    scraped.prometheus.wait(f'job:mlopsd_hosts:count{{job="mlopsd"}} == {hosts}')
    scraped.prometheus.wait(f'abs(job:mlopsd_hosts_serving:ratio{{job="mlopsd"}} - {share}) < 0.001')


def test_the_dashboard_counts_the_hosts_and_nothing_else(scraped: Scraped) -> None:
    (hosts,) = [query.expression for query in queries() if query.title == "Hosts A"]
    scraped.prometheus.wait(f"{hosts} == {len(scraped.live) + len(scraped.dead)}")


def test_each_host_has_a_name_of_its_own(scraped: Scraped) -> None:
    names = [*scraped.live, *scraped.dead]
    assert len(set(names)) == len(names)


def test_an_alert_names_the_node_of_a_pod(scraped: Scraped, request: pytest.FixtureRequest) -> None:
    example: Example = request.node.callspec.params["scraped"]
    if any("kubernetes_sd_configs" in config for config in example.configs):
        assert any(name.startswith("gpu-1/pod-") for name in scraped.dead)
