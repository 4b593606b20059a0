"""Every way to scrape the daemons that is documented or shipped, with targets of a test."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import yaml

from tests.alerts.rules import ROOT

FENCED = re.compile(r"^```\w*[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
SHIPPED = sorted(chain(ROOT.glob("deploy/**/*.yml"), ROOT.glob("deploy/**/*.yaml")))
MANIFESTS = [path for path in SHIPPED if path.parent.name == "kubernetes"]
NAMESPACE = "serving"
PORT_NAME = "__meta_kubernetes_pod_container_port_name"
PACE = ("scrape_interval", "scrape_timeout")  # a test is in more of a hurry
Labels = dict[str, str]
Config = dict[str, Any]
FOREIGN_POD: Config = {
    "metadata": {"labels": {"app.kubernetes.io/name": "other"}},
    "spec": {"containers": [{"name": "other", "ports": [{"name": "http"}]}]},
}


@dataclass(frozen=True, slots=True)
class Example:
    """One file or one block of a page.

    Attributes:
        name: where it stands.
        configs: its scrape configurations of daemons, as Prometheus has them.
    """

    name: str
    configs: list[Config]

    def __str__(self) -> str:
        return self.name


def examples() -> list[Example]:
    """Find the examples in the pages and among the files to deploy."""
    found = [Example(name, _of_daemons(document)) for name, document in _documents()]
    return [example for example in found if example.configs]


def _documents() -> Iterator[tuple[str, Any]]:
    """Parse every file, and every block of a page that speaks of scraping."""
    for page in PAGES:
        blocks = [block for block in FENCED.findall(page.read_text("utf-8")) if _scrapes(block)]
        for number, block in enumerate(blocks, 1):
            for document in yaml.safe_load_all(block):
                yield f"{page.relative_to(ROOT)} {number}", document
    for path in SHIPPED:
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield str(path.relative_to(ROOT)), document


def _scrapes(text: str) -> bool:
    return "scrape_configs:" in text or "monitoring.coreos.com" in text


def _of_daemons(document: Any) -> list[Config]:
    """Return the scrape configurations of *document*, without those of another Prometheus' series."""
    if not isinstance(document, dict):
        return []
    if str(document.get("apiVersion")).startswith("monitoring.coreos.com"):
        assert document["kind"] == "PodMonitor", f"nothing here translates a {document['kind']}"
        return list(of_pod_monitor(document, NAMESPACE))
    configs: list[Config] = document.get("scrape_configs", [])
    return [config for config in configs if config.get("metrics_path", "/metrics") == "/metrics"]


def of_pod_monitor(monitor: Config, namespace: str) -> Iterator[Config]:
    """Translate a PodMonitor as the Prometheus operator does (its ``generatePodMonitorConfig``).

    ``job`` is ``<namespace>/<name>``, or the value of the pod's label that ``jobLabel`` names.
    """
    spec = monitor["spec"]
    name = f"{namespace}/{monitor['metadata']['name']}"
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        rules = [
            {"source_labels": [pod_label(label)], "regex": value, "action": "keep"}
            for label, value in spec["selector"]["matchLabels"].items()
        ]
        port = {"source_labels": [PORT_NAME], "action": "keep"}
        rules += [{**port, "regex": endpoint["port"]}, {"target_label": "job", "replacement": name}]
        if "jobLabel" in spec:
            of_label = {"source_labels": [pod_label(spec["jobLabel"])], "regex": "(.+)"}
            rules.append({**of_label, "target_label": "job"})
        rules += [_in_snake_case(rule) for rule in endpoint.get("relabelings", [])]
        yield {
            "job_name": f"podMonitor/{name}/{number}",
            "metrics_path": endpoint.get("path", "/metrics"),
            "kubernetes_sd_configs": [{"role": "pod"}],
            "relabel_configs": rules,
        }


def _in_snake_case(rule: Config) -> Config:
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): rule[key] for key in rule}


def pod_label(label: str) -> str:
    """Return the name under which Kubernetes discovery tells of a pod's *label*."""
    return f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', label)}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a daemon answers and where nobody does, each under many loopback addresses.

    Attributes:
        live: the port of the daemon, which listens on all of them.
        dead: a port that nobody listens on.
    """

    live: int
    dead: int

    def is_live(self, address: str) -> bool:
        """Whether the daemon is at *address*."""
        return address.endswith(f":{self.live}")

    def pairs(self, number: int, count: int) -> Iterator[tuple[str, str]]:
        """Give *count* pairs of a live and a dead address, others for each *number*."""
        for host in range(1, count + 1):
            yield f"127.0.{number}.{host}:{self.live}", f"127.0.{number}.{host}:{self.dead}"


def with_targets(config: Config, number: int, addresses: Addresses) -> Config:
    """Put *addresses* in the place of what *config* discovers, with the labels of that discovery."""
    kept = {key: value for key, value in config.items() if not (_discovers(key) or key in PACE)}
    groups = [group for key in config if _discovers(key) for group in STAND_INS[key](number, addresses)]
    return {**kept, "static_configs": groups}


def _discovers(key: str) -> bool:
    return key == "static_configs" or key.endswith("_sd_configs")


def _group(address: str, labels: Labels) -> Config:
    return {"targets": [address], "labels": labels}


def _named(number: int, addresses: Addresses) -> Iterator[Config]:
    """Stand in for a list of hosts: so many that each shard of a fleet has some."""
    for pair in addresses.pairs(number, 48):
        for address in pair:
            yield _group(address, {})


def _in_consul(number: int, addresses: Addresses) -> Iterator[Config]:
    ((live, dead),) = addresses.pairs(number, 1)
    for node, address in (("gpu-1", live), ("gpu-2", dead)):
        yield _group(address, {"__meta_consul_node": node, "__meta_consul_service": "mlopsd"})


def _pods(number: int, addresses: Addresses) -> Iterator[Config]:
    """Stand in for the pod role: a live and a dead pod of each workload on one node, and a foreign pod."""
    pods = [template for template in _templates() for _ in ("live", "dead")]
    pairs = addresses.pairs(number, len(pods) + 1)
    for place, (pod, pair) in enumerate(zip([*pods, FOREIGN_POD], pairs, strict=True)):
        for labels in _ports(pod):
            address = pair[place % 2] if PORT_NAME in labels else pair[0].partition(":")[0]
            yield _group(address, {**labels, **_identity(pod, f"pod-{place}")})


def _templates() -> Iterator[Config]:
    for path in MANIFESTS:
        for manifest in yaml.safe_load_all(path.read_text("utf-8")):
            if manifest["kind"] in ("DaemonSet", "Deployment", "StatefulSet"):
                yield manifest["spec"]["template"]


def _ports(pod: Config) -> Iterator[Labels]:
    """Name each port of each container; a container without one is a target without a port."""
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        name = {"__meta_kubernetes_pod_container_name": container["name"]}
        for port in container.get("ports", [{}]):
            yield name | ({PORT_NAME: port["name"]} if port else {})


def _identity(pod: Config, name: str) -> Labels:
    labels = {pod_label(label): value for label, value in pod["metadata"]["labels"].items()}
    of_pod = {"name": name, "node_name": "gpu-1", "phase": "Running"}
    known = {f"__meta_kubernetes_pod_{key}": value for key, value in of_pod.items()}
    return {**labels, **known, "__meta_kubernetes_namespace": NAMESPACE}


STAND_INS: dict[str, Callable[[int, Addresses], Iterator[Config]]] = {
    "static_configs": _named,
    "file_sd_configs": _named,
    "consul_sd_configs": _in_consul,
    "kubernetes_sd_configs": _pods,
}
