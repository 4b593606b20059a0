"""The manifests are what Kubernetes takes, and say what the code does; no cluster runs here."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mlopsd.config.load import load
from mlopsd.config.schema import Settings
from mlopsd.web.app import ROUTES, make_app
from tests.cli.command import mlopsd
from tests.keys import line_of
from tests.web.fakes import House

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
VERSIONS = ("1.25", "1.29", "1.33", "1.37")
SECRETS = "/run/secrets/mlopsd"
Manifest = dict[str, Any]


def manifests() -> Iterator[Manifest]:
    for file in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text("utf-8"))


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


ALL = {named(manifest): manifest for manifest in manifests()}
OF_KUBERNETES = [name for name in ALL if not name.startswith("PodMonitor")]
WORKLOADS = [ALL[name] for name in ALL if name.startswith(("Deployment", "DaemonSet"))]
by_name = pytest.mark.parametrize("workload", WORKLOADS, ids=named)


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def container(workload: Manifest) -> Manifest:
    (found,) = pod(workload)["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OF_KUBERNETES)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    assert kubernetes_validate.validate(ALL[name], version, strict=True) == version


def test_a_key_that_kubernetes_does_not_know_would_be_found() -> None:
    wrong = copy.deepcopy(ALL["Deployment mlopsd-serving"])
    container(wrong)["livenessProbe"]["httpGet"]["pth"] = "/livez"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@by_name
def test_its_probes_ask_what_there_is_and_only_readiness_asks_for_the_verdict(workload: Manifest) -> None:
    house = House()
    known = {path for route in make_app(house.parts, local=False)[ROUTES] for path in route.paths}
    house.board.close()
    asked = {
        name: container(workload)[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/livez", "liveness": "/livez", "readiness": "/readyz",
    }  # fmt: skip
    (endpoint,) = ALL["PodMonitor mlopsd"]["spec"]["podMetricsEndpoints"]
    assert {"/livez", "/readyz", endpoint["path"]} <= known
    assert {get["port"] for get in asked.values()} == {"http"}


@by_name
def test_every_place_has_the_daemons_port(workload: Manifest) -> None:
    assert container(workload)["ports"] == [{"name": "http", "containerPort": Settings().api.port}]


def test_what_refers_to_pods_finds_them() -> None:
    labels = {named(one): one["spec"]["template"]["metadata"]["labels"] for one in WORKLOADS}
    for name, manifest in ALL.items():
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= having.items() for having in labels.values()), name
    (endpoint,) = ALL["PodMonitor mlopsd"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "http"
    assert all(port["targetPort"] == "http" for port in ALL["Service mlopsd-serving"]["spec"]["ports"])


@by_name
def test_it_has_no_rights_and_writes_to_its_state_and_tmp_alone(workload: Manifest) -> None:
    assert pod(workload)["securityContext"]["runAsUser"] == 10001
    assert pod(workload)["securityContext"]["runAsNonRoot"]
    assert pod(workload)["automountServiceAccountToken"] is False
    rights = container(workload)["securityContext"]
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    mounts = container(workload)["volumeMounts"]
    assert {one["mountPath"] for one in mounts if not one.get("readOnly")} == {"/var/lib/mlopsd", "/tmp"}
    assert {one["name"] for one in mounts} == {volume["name"] for volume in pod(workload)["volumes"]}


@by_name
def test_its_configuration_is_a_good_one(workload: Manifest, tmp_path: Path) -> None:
    (volume,) = [volume for volume in pod(workload)["volumes"] if volume["name"] == "config"]
    text = ALL[f"ConfigMap {volume['configMap']['name']}"]["data"]["config.toml"]
    (tmp_path / "api_keys").write_text(f"{line_of()}\n", "ascii")
    (tmp_path / "mlflow_token").write_text("token\n", "ascii")
    assert f"{SECRETS}/" in text or "keys" not in text
    config = tmp_path / "config.toml"
    config.write_text(text.replace(SECRETS, str(tmp_path)), "utf-8")
    done = mlopsd("config", "check", "--config", config)
    warned = "callers send their API keys there in clear text" if "api_keys_file" in text else ""
    assert done.returncode == 0
    assert warned in done.stderr
    assert len(done.stderr.splitlines()) == bool(warned)
    settings = load(config, {}, {}).settings
    assert settings.api.host == "0.0.0.0"
    assert container(workload)["args"] == ["run", "--config", "/etc/mlopsd/config.toml"]


@by_name
def test_it_has_the_time_to_drain_and_services_have_the_time_to_notice(
    workload: Manifest, tmp_path: Path
) -> None:
    (volume,) = [volume for volume in pod(workload)["volumes"] if volume["name"] == "config"]
    config = tmp_path / "config.toml"
    lines = ALL[f"ConfigMap {volume['configMap']['name']}"]["data"]["config.toml"].splitlines()
    config.write_text("\n".join(line for line in lines if "api_keys_file" not in line), "utf-8")
    api = load(config, {}, {}).settings.api
    assert api.drain_delay + api.drain_timeout + 2 < pod(workload)["terminationGracePeriodSeconds"]
    if workload["kind"] == "Deployment":
        ready = container(workload)["readinessProbe"]
        assert ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] < api.drain_delay
