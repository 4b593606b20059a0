"""Slurm's HealthCheckProgram against a ``scontrol`` that keeps one node as slurmctld would."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.installed import installed
from tests.running import GIVE_UP, Running

PROGRAM = Path(__file__).parents[2] / "deploy/slurm/mlopsd-health-check"
FAKE = Path(__file__).with_name("scontrol.py")
LOST = {
    "status": "unhealthy",
    "advice": "reboot",
    "summary": 'gpu 2 (GPU-1f) is lost | it\'s "off" [the] #bus=\n…',
}
HURT = {"status": "unhealthy", "advice": "reset_gpu", "summary": "XID 79"}
WELL = {"status": "healthy", "advice": "none", "summary": "all is well"}
WARM = {"status": "degraded", "advice": "watch", "summary": "gpu 1 is warm"}
DARK = {"status": "unknown", "advice": "none", "summary": "not checked yet"}
FOR_LOST = "mlopsd: unhealthy, advice reboot: gpu 2 (GPU-1f) is lost | it?s ?off? ?the? ?bus? ?"
Done = subprocess.CompletedProcess[str]


class Node:
    """A node of a cluster, and what its mlopsd says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "node.json"
        self._tools = folder / "bin"
        self._tools.mkdir()
        self.set(name="gpu7", base="IDLE", flags=[], reason="")
        self._tool("scontrol", f'exec {sys.executable} -I {FAKE} "$@"')
        self.says(WELL)

    def set(self, **values: Any) -> None:
        known = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        self._file.write_text(json.dumps(known | values), "utf-8")

    def says(self, answer: object) -> None:
        self.runs(f"[ \"$*\" = 'status --json' ] && printf '%s' {shlex.quote(json.dumps(answer))}; exit 2")

    def runs(self, script: str) -> None:
        """What the program ``mlopsd`` is from now on."""
        self._tool("mlopsd", script)

    def check(self, *words: str, program: Path = PROGRAM) -> Done:
        """As slurmd runs it: with nothing in its environment but the node's name."""
        (self._folder / "calls").unlink(missing_ok=True)
        options = ["--mlopsd", f"{self._tools}/mlopsd", "--scontrol", f"{self._tools}/scontrol"]
        command = [sys.executable, "-I", str(program), *options, "--state", f"{self._folder}/dark", *words]
        environment = {"SLURMD_NODENAME": "gpu7", "FAKE_SLURM": str(self._file)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=GIVE_UP)

    @property
    def calls(self) -> list[str]:
        file = self._folder / "calls"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    @property
    def state(self) -> str:
        node = json.loads(self._file.read_text("utf-8"))
        return "+".join([node["base"], *node["flags"]])

    @property
    def reason(self) -> str:
        return str(json.loads(self._file.read_text("utf-8"))["reason"])

    def drained_by(self, answer: object) -> None:
        self.says(answer)
        assert self.check().returncode == 0
        assert self.state == "IDLE+DRAIN"

    def _tool(self, name: str, script: str) -> None:
        path = self._tools / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_unhealthy_host_is_drained_with_advice_and_comes_back_when_it_is_well(node: Node) -> None:
    node.drained_by(LOST)
    assert node.reason.rpartition(" #")[0] == FOR_LOST
    node.says(WARM)
    assert node.check().returncode == 0
    assert (node.state, node.reason) == ("IDLE", "")


@pytest.mark.parametrize("answer", [WELL, WARM])
def test_a_host_that_serves_costs_one_question(node: Node, answer: object) -> None:
    node.says(answer)
    done = node.check()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert node.calls == ["show node gpu7 -o"]


def test_a_drain_is_reported_once_and_again_only_when_the_advice_is_another(node: Node) -> None:
    node.drained_by(HURT)
    node.says({**HURT, "summary": "XID 79, for the 12th time"})
    node.check()
    assert node.calls == ["show node gpu7 -o"]
    node.says(LOST)
    node.check()
    assert node.reason.startswith(FOR_LOST)


@pytest.mark.parametrize(
    "reason", ["new disks", "mlopsd: unhealthy, advice reboot: by hand", "mlopsd: #00000000"]
)
@pytest.mark.parametrize("answer", [WELL, LOST])
def test_what_somebody_else_drained_stays_as_it_is(node: Node, answer: object, reason: str) -> None:
    node.set(flags=["DRAIN"], reason=reason, by="alice")
    node.says(answer)
    assert node.check().returncode == 0
    assert (node.calls, node.reason) == (["show node gpu7 -o"], reason)


def test_a_drain_whose_reason_somebody_has_changed_is_theirs(node: Node) -> None:
    node.drained_by(HURT)
    node.set(reason=f"{node.reason} - a card is ordered")
    node.says(WELL)
    node.check()
    assert node.state == "IDLE+DRAIN"


@pytest.mark.parametrize(
    ("base", "flags"),
    [
        ("DOWN", []), ("DOWN", ["NOT_RESPONDING"]), ("IDLE", ["FAIL"]), ("IDLE", ["POWERING_UP"]),
        ("DOWN*", []), ("IDLE", ["REBOOT_REQUESTED"]), ("FUTURE", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ours", [False, True])
def test_a_node_in_another_trouble_is_left_alone(
    node: Node, base: str, flags: list[str], *, ours: bool
) -> None:
    if ours:
        node.drained_by(HURT)
    node.set(base=base, flags=[*flags, *["DRAIN"] * ours])
    before = node.state
    for answer in (LOST, WELL):
        node.says(answer)
        assert node.check().returncode == 0
        assert (node.calls, node.state) == (["show node gpu7 -o"], before)


@pytest.mark.parametrize("base", ["ALLOCATED", "MIXED", "IDLE"])
def test_a_node_with_jobs_is_drained_and_undrained_with_its_jobs(node: Node, base: str) -> None:
    node.set(base=base, flags=["RESERVED"])
    node.says(LOST)
    node.check()
    assert node.state == f"{base}+RESERVED+DRAIN"
    node.says(WELL)
    node.check()
    assert node.state == f"{base}+RESERVED"


NO_ANSWER = [
    "exit 3",
    "echo '{'",
    "echo '[]'",
    "echo '{\"status\": null}'",
    "echo cannot ask the daemon >&2; exit 3",
]


@pytest.mark.parametrize("script", NO_ANSWER)
def test_what_is_unknown_drains_only_after_its_time(node: Node, script: str, tmp_path: Path) -> None:
    node.runs(script)
    assert node.check().returncode == 0
    assert node.check().returncode == 0
    assert (node.calls, node.state) == ([], "IDLE")
    begin_earlier(tmp_path / "dark", 901)
    node.check()
    assert node.state == "IDLE+DRAIN"
    assert node.reason.startswith("mlopsd: unknown, advice none: ")
    node.says(WELL)
    node.check()
    assert node.state == "IDLE"
    node.says(DARK)
    node.check()
    assert node.state == "IDLE", "its time begins anew"


def begin_earlier(file: Path, seconds: float) -> None:
    file.write_text(str(float(file.read_text()) - seconds))


def test_a_moment_of_an_earlier_boot_counts_for_nothing(node: Node, tmp_path: Path) -> None:
    """The file may be on a disk, and the clock begins again with each boot."""
    node.says(DARK)
    (tmp_path / "dark").write_text("1e12", "ascii")
    node.check()
    assert node.state == "IDLE"
    begin_earlier(tmp_path / "dark", 1000)
    node.check()
    assert node.state == "IDLE+DRAIN"


def test_what_is_unknown_may_be_never_a_reason(node: Node, tmp_path: Path) -> None:
    node.says(DARK)
    node.check("--unknown-after", "0")
    begin_earlier(tmp_path / "dark", 1e6)
    node.check("--unknown-after", "0")
    assert node.state == "IDLE"


def test_what_is_unknown_leaves_a_drain_and_its_reason(node: Node, tmp_path: Path) -> None:
    node.drained_by(HURT)
    reason = node.reason
    node.says(DARK)
    node.check()
    begin_earlier(tmp_path / "dark", 1000)
    node.check()
    assert (node.state, node.reason) == ("IDLE+DRAIN", reason)
    node.says(LOST)
    node.check()
    assert node.reason.startswith(FOR_LOST)


def test_what_never_answers_is_not_waited_for(node: Node, tmp_path: Path) -> None:
    text = PROGRAM.read_text("utf-8")
    for name, seconds in (("STATUS", 20), ("SCONTROL", 10)):
        assert f"{name}_SECONDS = {seconds}" in text
        text = text.replace(f"{name}_SECONDS = {seconds}", f"{name}_SECONDS = 0.5")
    quick = tmp_path / "quick"
    quick.write_text(text, "utf-8")
    node.runs("exec sleep 3600")
    node.set(hangs=True)
    (tmp_path / "dark").write_text("-1000000.0", "ascii")  # for long, also on a host that has just booted
    done = node.check(program=quick)  # the two that are asked take an hour
    assert done.returncode == 1
    assert "was not over within 0.5 s" in done.stdout


def test_all_that_it_may_wait_for_is_less_than_slurm_waits() -> None:
    numbers = dict(re.findall(r"^(\w+)_SECONDS = (\d+)", PROGRAM.read_text("utf-8"), re.MULTILINE))
    assert int(numbers["STATUS"]) + 2 * int(numbers["SCONTROL"]) < int(numbers["ALL"]) < 60


@pytest.mark.parametrize(
    ("values", "output"),
    [
        (
            {"fails": "slurm_load_node: Unable to contact slurm controller"},
            "Unable to contact slurm controller",
        ),
        ({"name": "gpu8"}, "cannot see node gpu7: Node gpu7 not found"),
    ],
)
def test_a_controller_that_does_not_answer_is_a_line_for_slurmds_log(
    node: Node, values: dict[str, str], output: str
) -> None:
    node.set(**values)
    done = node.check()
    assert done.returncode == 1
    assert output in done.stdout
    assert done.stderr == ""


def test_a_dry_run_says_what_it_would_do(node: Node) -> None:
    node.says(HURT)
    done = node.check("--dry-run")
    assert done.stdout.startswith(
        "update NodeName=gpu7 State=DRAIN Reason=mlopsd: unhealthy, advice reset_gpu: XID 79 #"
    )
    assert node.state == "IDLE"


@pytest.mark.parametrize("answer", [WELL, {"status": "unknown"}])
def test_a_dry_run_leaves_what_is_remembered_as_it_is(node: Node, tmp_path: Path, answer: object) -> None:
    node.says({"status": "unknown"})
    node.check("--dry-run")
    assert not (tmp_path / "dark").exists()
    (tmp_path / "dark").write_text("1.0", "ascii")
    node.says(answer)
    node.check("--dry-run")
    assert (tmp_path / "dark").read_text("ascii") == "1.0"


def test_a_reason_of_any_length_is_known_again(node: Node) -> None:
    node.drained_by({**LOST, "summary": "x" * 5000})
    assert len(node.reason) < 250
    node.says(WELL)
    node.check()
    assert node.state == "IDLE"


def test_the_real_daemon_drains_and_undrains_the_node(node: Node, strange_path: Path, tmp_path: Path) -> None:
    door = tmp_path / "door.json"
    tell(door, "unhealthy")
    environment = installed(tmp_path, {"steered": "steered:Steered"}, strange_path)
    text = f'[probes.steered]\npath = "{door}"\n'
    with Running(tmp_path, text, environment=environment) as daemon:
        daemon.until("/health/", lambda health: health["status"] == "unhealthy")
        node.runs(f'MLOPSD_SOCKET={daemon.socket} exec {sys.executable} -m mlopsd "$@"')
        assert node.check().returncode == 0
        assert node.reason.startswith("mlopsd: unhealthy, advice reboot: ")
        tell(door, "healthy")
        daemon.until("/health/", lambda health: health["status"] == "healthy")
        assert node.check().returncode == 0
    assert node.state == "IDLE"


def tell(file: Path, status: str) -> None:
    finding = {"name": "door", "status": status, "summary": "the door", "advice": "reboot"}
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"findings": [finding]}), "utf-8")
    fresh.replace(file)
