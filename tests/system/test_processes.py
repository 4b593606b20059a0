"""Stuck processes are distinguished from processes that wait for a busy disk."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.processes import Stall, StuckProcesses, context_switches, stalls

Tree = Callable[[Mapping[str, str]], Path]


def process(
    pid: int,
    command: str,
    state: str,
    *,
    switches: int = 5,
    started: int = 100,
    pending: int = 0,
    threads: int = 1,
) -> dict[str, str]:
    before, between = " ".join(["0"] * 16), " ".join(["0"] * 8)
    return {
        f"{pid}/stat": f"{pid} ({command}) {state} {before} {threads} 0 {started} {between} {pending} 0\n",
        f"{pid}/status": f"Name:\t{command}\nvoluntary_ctxt_switches:\t{switches}\n"
        "nonvoluntary_ctxt_switches:\t2\n",
    }


INIT = process(1, "systemd", "S")


class Host:
    """A look at a fake /proc under a clock that is set."""

    def __init__(self, tree: Tree, options: SystemOptions | None = None) -> None:
        self.tree = tree
        self.now = 0.0
        root = tree({**INIT, "version": "Linux", "sys/x": ""})
        self.processes = StuckProcesses(options or SystemOptions(), root, lambda: self.now)

    def at(self, seconds: float, *processes: dict[str, str]) -> Reading:
        self.now = seconds
        for files in processes:
            self.tree(files)
        return self.processes.collect()


def only(reading: Reading) -> Finding:
    (finding,) = reading.findings
    return finding


def values(reading: Reading) -> dict[str, float]:
    return {sample.name: sample.value for sample in reading.samples}


def test_a_hung_driver_is_unhealthy_once_it_has_lasted_and_not_before(tree: Tree) -> None:
    host = Host(tree)
    hung = process(42, "nvidia-smi", "D")
    assert only(host.at(0, hung)).status is Status.HEALTHY
    assert only(host.at(45)).status is Status.HEALTHY
    finding = only(host.at(60))
    assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.REBOOT)
    assert finding.summary == "in one uninterruptible sleep for 60 s (limit 60 s): nvidia-smi (pid 42)"
    assert (finding.observed, finding.unit, finding.limit) == (60.0, "seconds", 60.0)


def test_any_other_stuck_process_is_degraded_and_recovers_when_it_wakes(tree: Tree) -> None:
    host = Host(tree)
    host.at(0, process(42, "df", "D"))
    stuck = host.at(90)
    assert (only(stuck).status, only(stuck).advice) == (Status.DEGRADED, Advice.WATCH)
    assert values(stuck) == {"uninterruptible_processes": 1, "stuck_processes": 1}
    awake = host.at(105, process(42, "df", "S", switches=6))
    assert only(awake).status is Status.HEALTHY
    assert values(awake) == {"uninterruptible_processes": 0, "stuck_processes": 0}


def test_a_reader_of_a_busy_disk_is_seen_asleep_each_time_and_is_not_stuck(tree: Tree) -> None:
    host = Host(tree)
    for number in range(20):
        reading = host.at(15 * number, process(42, "nvidia-cuda-mps", "D", switches=number))
        assert only(reading).status is Status.HEALTHY
        assert values(reading)["uninterruptible_processes"] == 1


def test_another_process_with_the_same_pid_starts_again(tree: Tree) -> None:
    host = Host(tree)
    host.at(0, process(42, "df", "D"))
    assert only(host.at(90, process(42, "df", "D", started=9999))).status is Status.HEALTHY


def test_the_drivers_processes_are_named_first_and_the_rest_is_counted(tree: Tree) -> None:
    host = Host(tree)
    crowd = [process(pid, f"worker{pid}", "D") for pid in range(100, 107)]
    host.at(0, *crowd)
    host.at(1, process(200, "nvidia-persiste", "D"))
    finding = only(host.at(70))
    assert finding.summary.startswith(
        "in one uninterruptible sleep for 70 s (limit 60 s): nvidia-persiste (pid 200), worker"
    )
    assert finding.summary.endswith("and 3 more")
    assert finding.status is Status.UNHEALTHY


def test_the_operator_says_what_is_ignored_what_is_grave_and_after_how_long(tree: Tree) -> None:
    options = SystemOptions(
        stuck_after=10, stuck_ignored_commands=("vmm*",), stuck_unhealthy_commands=("df",)
    )
    host = Host(tree, options)
    host.at(0, process(42, "df", "D"), process(43, "vmmemctl", "D"))
    reading = host.at(10)
    assert only(reading).status is Status.UNHEALTHY
    assert "vmmemctl" not in only(reading).summary
    assert values(reading)["uninterruptible_processes"] == 1


def test_a_command_with_brackets_and_spaces_and_no_utf8_is_read_right(tree: Tree) -> None:
    root = tree({**INIT, **process(42, "a) D (b", "S"), **process(43, "x) S 1 (y", "D")})
    (root / "44").mkdir()
    line = b"44 (\xff\xfe) D " + b"0 " * 18 + b"7 " + b"0 " * 10 + b"\n"
    (root / "44/stat").write_bytes(line)
    (root / "44/status").write_text("voluntary_ctxt_switches:\t1\n")
    assert sorted(stalls(root), key=lambda stall: stall.pid) == [
        Stall(43, 100, 7, "x) S 1 (y", "D", is_killed=False),
        Stall(44, 7, 1, "\\xff\\xfe", "D", is_killed=False),
    ]


def test_a_process_that_ends_while_it_is_checked_is_not_there(tree: Tree) -> None:
    root = tree(INIT)
    (root / "42").mkdir()  # listed, and its stat already gone
    (root / "43").mkdir()
    (root / "43/stat").write_text(process(43, "cp", "D")["43/stat"])  # gone before its status is read
    assert list(stalls(root)) == []


def test_where_proc_hides_processes_the_check_is_unknown_rather_than_blind(tree: Tree) -> None:
    root = tree(process(42, "own", "S"))
    reading = StuckProcesses(SystemOptions(), root).try_collect()
    assert (only(reading).name, only(reading).status) == ("stuck_processes", Status.UNKNOWN)
    assert f"from {root}/1/stat: other users' processes are hidden" in only(reading).summary
    assert reading.samples == ()


def test_a_status_without_context_switches_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(ValueError, match="no context switches"):
        context_switches(b"Name:\tx\n")


def test_a_check_leaves_no_descriptor_open(tree: Tree) -> None:
    root = tree({**INIT, **process(42, "df", "D")})
    before = sorted(open_descriptors())
    StuckProcesses(SystemOptions(), root).collect()
    assert sorted(open_descriptors()) == before


def open_descriptors() -> Iterator[str]:
    return (entry.name for entry in Path("/proc/self/fd").iterdir())


KILLED = 1 << 8  # SIGKILL in the field of pending signals


def test_a_process_that_outlives_its_sigkill_is_stuck_whatever_it_does(tree: Tree) -> None:
    host = Host(tree)
    killed = process(42, "python", "R", pending=KILLED)
    assert only(host.at(0, killed)).status is Status.HEALTHY
    reading = host.at(75, process(42, "python", "T", pending=KILLED))
    finding = only(reading)
    assert (finding.status, finding.advice) == (Status.DEGRADED, Advice.WATCH)
    assert finding.summary == (
        "no end after SIGKILL for 75 s (limit 60 s): python (pid 42, state T after SIGKILL)"
    )
    assert values(reading) == {"uninterruptible_processes": 0, "stuck_processes": 1}


def test_a_stuck_process_that_is_killed_stays_stuck_and_counts_once(tree: Tree) -> None:
    host = Host(tree)
    host.at(0, process(42, "nvidia-smi", "D"))
    reading = host.at(70, process(42, "nvidia-smi", "D", pending=KILLED))
    assert (
        only(reading).summary
        == "in one uninterruptible sleep for 70 s (limit 60 s): nvidia-smi (pid 42, state D after SIGKILL)"
    )
    later = host.at(140)
    assert values(later) == {"uninterruptible_processes": 1, "stuck_processes": 1}


def test_a_zombie_has_ended_unless_a_thread_of_it_is_left(tree: Tree) -> None:
    host = Host(tree)
    host.at(0, process(42, "a", "Z", pending=KILLED), process(43, "b", "Z", pending=KILLED, threads=2))
    assert "b (pid 43, state Z after SIGKILL)" in only(host.at(60)).summary
    assert values(host.at(61))["stuck_processes"] == 1


def test_another_pending_signal_is_no_sigkill(tree: Tree) -> None:
    host = Host(tree)
    host.at(0, process(42, "python", "T", pending=1 << 14))
    assert only(host.at(90)).status is Status.HEALTHY


def test_a_real_process_has_no_pending_sigkill_until_it_gets_one() -> None:
    assert os.getpid() not in {stall.pid for stall in stalls(Path("/proc"))}
