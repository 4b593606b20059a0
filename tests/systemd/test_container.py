"""The daemon as a pod has it, but for the engine: not root, no rights, nothing to write to but its state."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy.image import ROOT, environment, health_check
from tests.systemd.machine import NEEDED, VENV, Box

pytestmark = [NEEDED, pytest.mark.timeout(180)]
CONFIG = "/etc/mlopsd-pod.toml"
UNIT = "pod.service"
STATE = "/var/lib/mlopsd-pod"
POD = {
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "BindReadOnlyPaths": "/:/host",
    "ReadWritePaths": STATE,
    "NotifyAccess": "all",
}
AS_USER = (
    *("setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all", "--bounding-set=-all"),
)


def configuration() -> str:
    """That of the monitoring pods without the GPU probe, which needs what is not installed in the box."""
    text = (ROOT / "deploy/kubernetes/monitoring.yaml").read_text("utf-8")
    config: str = next(yaml.safe_load_all(text))["data"]["config.toml"]
    head, _, _ = config.partition("[probes.gpu]")
    return f"{head}timeout = 60\n"  # of the system probe: no slow machine fails a test


@pytest.fixture
def pod(box: Box) -> Iterator[Box]:
    box.write(CONFIG, configuration())
    box.run("install", "--directory", "--owner=10001", "--group=10001", "--mode=0750", STATE)
    variables = environment() | {
        "MLOPSD_STATE_DIR": STATE,
        "PATH": f"{VENV}/bin:/usr/bin:/bin",
    }
    rights = [f"--property={name}={value}" for name, value in POD.items()]
    setting = [f"--setenv={name}={value}" for name, value in variables.items()]
    command = (*AS_USER, f"{VENV}/bin/mlopsd", "run", "--config", CONFIG)
    unit = (f"--unit={UNIT}", "--property=Type=notify", *rights, *setting)
    if box.run("systemd-run", *unit, *command, check=False).returncode:
        pytest.fail(box.run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager").stdout)
    yield box
    box.run("systemctl", "stop", UNIT, check=False)
    box.run("systemctl", "reset-failed", check=False)
    box.run("rm", "-rf", STATE, CONFIG)


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


def assert_it_is_shut_in(pod: Box) -> None:
    pid = pod.run("systemctl", "show", "--property=MainPID", "--value", UNIT).stdout.strip()
    status = dict(
        line.split(":\t", 1) for line in pod.read(f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    mounts = [line.split() for line in pod.read(f"/proc/{pid}/mounts").splitlines()]
    assert {options.split(",")[0] for _, place, _, options, *_ in mounts if place == "/"} == {"ro"}
