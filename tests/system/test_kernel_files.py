"""Pressure, pids, open files and paging as kernels and containers really write them."""

import errno
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlopsd.probe import Reading, Status
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.memory import Paging
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.pids import Pids
from mlopsd_probes.system.pressure import Pressure

Tree = Callable[[Mapping[str, str]], Path]

LIMITS = {"sys/kernel/pid_max": "32768\n", "sys/kernel/threads-max": "1000\n"}
LOADAVG = {"loadavg": "0.10 0.20 0.30 3/250 99999\n"}


def values(reading: Reading) -> dict[tuple[str, ...], float]:
    return {(sample.name, *dict(sample.labels).values()): sample.value for sample in reading.samples}


def psi(some: float, full: float | None = None) -> str:
    lines = [f"some avg10={some:.2f} avg60={some:.2f} avg300={some:.2f} total=2500000"]
    if full is not None:
        lines.append(f"full avg10={full:.2f} avg60={full:.2f} avg300={full:.2f} total=1500000")
    return "\n".join(lines) + "\n"


def test_pressure_is_in_ratios_and_seconds(tree: Tree) -> None:
    root = tree({"pressure/memory": psi(50, 12.5)})
    reading = Pressure(SystemOptions(), root).collect()
    assert values(reading)[("pressure_ratio", "memory", "full", "60s")] == 0.125
    assert values(reading)[("pressure_ratio", "memory", "some", "300s")] == 0.5
    assert values(reading)[("pressure_stalled_seconds_total", "memory", "full")] == 1.5
    assert reading.findings[0].summary == "every task waited for memory in 12.5 % of the last 60 s"


@pytest.mark.parametrize("text", [psi(3), psi(3, 0)])
def test_full_cpu_pressure_means_nothing_and_is_left_out_on_old_kernels_and_new(
    text: str, tree: Tree
) -> None:
    reading = Pressure(SystemOptions(), tree({"pressure/cpu": text})).collect()
    assert {labels[2] for labels in values(reading)} == {"some"}


def test_a_kernel_without_psi_is_no_fault(tree: Tree) -> None:
    reading = Pressure(SystemOptions(), tree({"loadavg": ""})).collect()
    assert (reading.findings, reading.samples) == ([], [])


def test_a_kernel_with_psi_switched_off_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert Pressure(SystemOptions()).collect().samples == []


def test_another_error_is_not_taken_for_a_missing_psi(tree: Tree) -> None:
    root = tree({"pressure/memory/is/a/folder": ""})
    (finding,) = Pressure(SystemOptions(), root).try_collect().findings
    assert (finding.name, finding.status) == ("pressure", Status.UNKNOWN)
    assert "Is a directory" in finding.summary


def test_pids_are_held_against_the_lower_of_the_kernels_limits(tree: Tree) -> None:
    root = tree({**LOADAVG, **LIMITS, "self/cgroup": "0::/\n"})
    reading = Pids(SystemOptions(), root, root).collect()
    assert values(reading) == {("pids", "host"): 250, ("pids_limit", "host"): 1000}
    assert reading.findings[0].summary == "250 of the 1000 process ids of the host are used (25 %)"


def test_of_a_services_cgroups_the_one_nearest_to_its_limit_counts(tree: Tree) -> None:
    cgroup = "fs/cgroup/system.slice/mlopsd.service"
    root = tree(
        {
            **LOADAVG,
            **LIMITS,
            "self/cgroup": "0::/system.slice/mlopsd.service\n",
            f"{cgroup}/pids.max": "max\n",
            f"{cgroup}/pids.current": "7\n",
            "fs/cgroup/system.slice/pids.max": "100\n",
            "fs/cgroup/system.slice/pids.current": "96\n",
            "fs/cgroup/pids.max": "500\n",
            "fs/cgroup/pids.current": "200\n",
        }
    )
    reading = Pids(SystemOptions(), root, root).collect()
    assert values(reading)[("pids", "cgroup")] == 96
    assert values(reading)[("pids_limit", "cgroup")] == 100
    host, cgroup_finding = reading.findings
    assert (host.subject, host.status) == ("host", Status.HEALTHY)
    assert (cgroup_finding.subject, cgroup_finding.status) == ("cgroup", Status.UNHEALTHY)


def test_a_first_generation_hierarchy_has_its_limit_under_its_controller(tree: Tree) -> None:
    root = tree(
        {
            **LOADAVG,
            **LIMITS,
            "self/cgroup": "8:pids:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            "fs/cgroup/pids/docker/abc/pids.max": "50\n",
            "fs/cgroup/pids/docker/abc/pids.current": "10\n",
            "fs/cgroup/memory/docker/abc/pids.max": "1\n",
            "fs/cgroup/memory/docker/abc/pids.current": "1\n",
        }
    )
    assert values(Pids(SystemOptions(), root, root).collect())[("pids_limit", "cgroup")] == 50


def test_a_cgroup_that_allows_nothing_new_is_full_and_not_an_error(tree: Tree) -> None:
    root = tree({**LOADAVG, **LIMITS, "self/cgroup": "0::/a\n"})
    tree({"fs/cgroup/a/pids.max": "0\n", "fs/cgroup/a/pids.current": "3\n"})
    findings = Pids(SystemOptions(), root, root).collect().findings
    assert [finding.status for finding in findings] == [Status.HEALTHY, Status.UNHEALTHY]


def test_a_container_without_cgroup_files_still_has_the_hosts_pids(tree: Tree) -> None:
    root = tree({**LOADAVG, **LIMITS})
    assert values(Pids(SystemOptions(), root, root).collect())[("pids", "host")] == 250


def test_a_kernel_that_allows_any_number_of_files_is_far_from_its_limit(tree: Tree) -> None:
    root = tree({"sys/fs/file-nr": f"4000\t0\t{2**63 - 1}\n"})
    reading = OpenFiles(SystemOptions(), root).collect()
    assert reading.findings[0].summary == "4000 files are open, and there is no limit"
    assert values(reading)[("open_files",)] == 4000


def test_swap_traffic_is_in_bytes_and_oom_kills_are_counted(tree: Tree) -> None:
    root = tree({"vmstat": "nr_free_pages 1\npswpin 2\npswpout 3\npswpin_zero 9\noom_kill 4\n"})
    page = resource.getpagesize()
    assert values(Paging(SystemOptions(), root).collect()) == {
        ("swapped_in_bytes_total",): 2 * page,
        ("swapped_out_bytes_total",): 3 * page,
        ("oom_kills_total",): 4,
    }


def test_a_kernel_that_does_not_count_oom_kills_has_no_such_number(tree: Tree) -> None:
    root = tree({"vmstat": "pswpin 2\n"})
    assert values(Paging(SystemOptions(), root).collect()).keys() == {("swapped_in_bytes_total",)}
