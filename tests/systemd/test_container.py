"""A box as Kubernetes makes one, but for the engine: no root, no rights, a root file system that is read-only."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy.image import ROOT, environment, health_check
from tests.systemd.machine import VENV, Box

pytestmark = pytest.mark.timeout(180)
CONFIG = "/etc/mlopsd-pod.toml"
UNIT = "pod.service"
POD = {
    "User": "10001",
    "Group": "10001",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "BindReadOnlyPaths": "/:/host",
    "StateDirectory": "mlopsd-pod",
}


def configuration() -> str:
    """That of the monitoring pods without the GPU probe, which needs what is not installed in the box."""
    text = (ROOT / "deploy/kubernetes/monitoring.yaml").read_text("utf-8")
    config: str = next(yaml.safe_load_all(text))["data"]["config.toml"]
    head, _, _ = config.partition("[probes.gpu]")
    return head


@pytest.fixture
def pod(box: Box) -> Iterator[Box]:
    box.write(CONFIG, configuration())
    variables = environment() | {
        "MLOPSD_STATE_DIR": "/var/lib/mlopsd-pod",
        "PATH": f"{VENV}/bin:/usr/bin:/bin",
    }
    rights = [f"--property={name}={value}" for name, value in POD.items()]
    setting = [f"--setenv={name}={value}" for name, value in variables.items()]
    command = (f"{VENV}/bin/mlopsd", "run", "--config", CONFIG)
    box.run("systemd-run", f"--unit={UNIT}", "--property=Type=notify", *rights, *setting, *command)
    yield box
    box.run("systemctl", "stop", UNIT, check=False)
    box.run("systemctl", "reset-failed", check=False)


def test_the_daemon_runs_and_sees_the_host_in_it(pod: Box) -> None:
    address = "http://127.0.0.1:9178"
    done = pod.run(f"{VENV}/bin/mlopsd", "status", "--json", "--url", address, check=False)
    health = json.loads(done.stdout)
    reading = health["probes"]["system"]
    assert reading["status"] in ("healthy", "degraded"), reading
    assert any(finding.get("subject") == "/host" for finding in reading["findings"]), reading
    assert (
        "rw"
        not in pod.run("sh", "-c", f"cat /proc/$(systemctl show -p MainPID --value {UNIT})/status").stdout
    )
    program, *words = health_check()
    assert pod.run(f"{VENV}/bin/{program}", *words, check=False).returncode == 0
    pod.run("systemctl", "stop", UNIT)
    assert pod.run(f"{VENV}/bin/{program}", *words, check=False).returncode == 1
