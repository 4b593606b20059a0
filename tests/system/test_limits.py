"""Every limit of the configuration, crossed on the way down and on the way back."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mlopsd.probe import Finding, Reading, Status
from mlopsd_probes.limits import Limits
from mlopsd_probes.system import filesystem
from mlopsd_probes.system.cpu import CpuUse, Load
from mlopsd_probes.system.disks import Disks
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.memory import CgroupMemory, HostMemory, Swap
from mlopsd_probes.system.options import CEILINGS, FLOORS, SystemOptions
from mlopsd_probes.system.pids import Pids
from mlopsd_probes.system.pressure import Pressure
from mlopsd_probes.system.temperature import HostTemperature

Tree = Callable[[Mapping[str, str]], Path]
World = Callable[[float], Reading]  # a look at a host on which the judged number is the one given


def cpu_use(options: SystemOptions, tree: Tree) -> World:
    clock = SimpleNamespace(user=0.0, idle=0.0)
    collector = CpuUse(options, read=lambda: clock)
    collector.collect()

    def at(value: float) -> Reading:
        clock.user += 100 * value
        clock.idle += 100 * (1 - value)
        return collector.collect()

    return at


def load(options: SystemOptions, tree: Tree) -> World:
    return lambda value: Load(options, lambda: (99.0, 4 * value, 99.0), lambda: 4).collect()


def memory(share: float) -> Callable[[], Any]:
    return lambda: SimpleNamespace(total=10**9, available=round(share * 10**9))


def memory_available(options: SystemOptions, tree: Tree) -> World:
    return lambda value: HostMemory(options, memory(value)).collect()


def swap_used(options: SystemOptions, tree: Tree) -> World:
    def at(value: float) -> Reading:
        swap = SimpleNamespace(total=1000, free=round(1000 * (1 - value)))
        return Swap(options, lambda: swap, memory(0.01)).collect()

    return at


def pressure(resource: str) -> Callable[[SystemOptions, Tree], World]:
    def world(options: SystemOptions, tree: Tree) -> World:
        kind = "some" if resource == "cpu" else "full"

        def at(value: float) -> Reading:
            line = f"{kind} avg10=99.00 avg60={100 * value:.2f} avg300=99.00 total=1\n"
            return Pressure(options, tree({f"pressure/{resource}": line})).collect()

        return at

    return world


def statvfs(**numbers: int) -> Callable[[str], os.statvfs_result]:
    fields = {"f_bsize": 512, "f_frsize": 4096, "f_blocks": 10**6, "f_bfree": 10**6, "f_bavail": 10**6}
    fields |= {"f_files": 1000, "f_ffree": 1000, "f_favail": 1000, "f_flag": 0, "f_namemax": 255}
    return lambda path: os.statvfs_result(tuple({**fields, **numbers}.values()))


def disks(options: SystemOptions, **numbers: int) -> Disks:
    """One whose answers are waited for, however busy the machine is."""
    return Disks(options.model_copy(update={"path_timeout": 30.0}), statvfs(**numbers))


def disk_free(options: SystemOptions, tree: Tree) -> World:
    return lambda value: disks(options, f_bavail=round(value * 10**6)).collect()


def inodes_free(options: SystemOptions, tree: Tree) -> World:
    return lambda value: disks(options, f_favail=round(value * 1000)).collect()


def open_files(options: SystemOptions, tree: Tree) -> World:
    return lambda value: OpenFiles(
        options, tree({"sys/fs/file-nr": f"{value * 1000:.0f}\t0\t1000\n"})
    ).collect()


def pids(options: SystemOptions, tree: Tree) -> World:
    def at(value: float) -> Reading:
        root = tree(
            {
                "loadavg": f"0.00 0.00 0.00 1/{value * 1000:.0f} 4242\n",
                "sys/kernel/pid_max": "1000\n",
                "sys/kernel/threads-max": "500000\n",
                "self/cgroup": "0::/\n",
            }
        )
        return Pids(options, root, root).collect()

    return at


def cgroup_memory(options: SystemOptions, tree: Tree) -> World:
    def at(value: float) -> Reading:
        root = tree(
            {
                "self/cgroup": "0::/\n",
                "fs/cgroup/memory.max": "1000\n",
                "fs/cgroup/memory.current": f"{1000 * value:.0f}\n",
                "fs/cgroup/memory.stat": "anon 0\n",
            }
        )
        return CgroupMemory(options, root, root).collect()

    return at


def temperature(options: SystemOptions, tree: Tree) -> World:
    def at(value: float) -> Reading:
        sensor = SimpleNamespace(label="Composite", current=value, high=None, critical=None)
        return HostTemperature(options, lambda: {"nvme": [sensor]}).collect()

    return at


WORLDS: dict[str, tuple[str, Callable[[SystemOptions, Tree], World]]] = {  # key → finding, world
    "cpu_use": ("cpu_use", cpu_use),
    "load": ("load", load),
    "swap_used": ("swap_used", swap_used),
    "pressure_cpu": ("pressure_cpu", pressure("cpu")),
    "pressure_memory": ("pressure_memory", pressure("memory")),
    "pressure_io": ("pressure_io", pressure("io")),
    "open_files": ("open_files", open_files),
    "pids": ("pids", pids),
    "cgroup_memory": ("cgroup_memory", cgroup_memory),
    "temperature": ("temperature", temperature),
    "disk_free": ("disk_space", disk_free),
    "inodes_free": ("disk_inodes", inodes_free),
    "memory_available": ("memory_available", memory_available),
}


def the(name: str, reading: Reading) -> Finding:
    (finding,) = (finding for finding in reading.findings if finding.name == name)
    return finding


@pytest.mark.parametrize("key", CEILINGS + FLOORS)
def test_a_number_that_crosses_each_limit_and_comes_back(
    key: str, tree: Tree, page: dict[str, list[tuple[str, ...]]]
) -> None:
    name, world = WORLDS[key]
    unit = 100 if key == "temperature" else 1
    mild, hard = (0.6, 0.8) if key in CEILINGS else (0.4, 0.2)
    step = 0.01 if key in CEILINGS else -0.01
    at = world(
        SystemOptions.model_validate({f"{key}_degraded": mild * unit, f"{key}_unhealthy": hard * unit}), tree
    )
    way = [mild - step, mild + step, hard - step, hard + step, hard - step, mild + step, mild - step]
    found = [the(name, at(value * unit)) for value in way]
    good, bad, worst = Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY
    assert [finding.status for finding in found] == [good, bad, bad, worst, bad, bad, good]
    assert [finding.limit for finding in found] == pytest.approx(
        [limit * unit for limit in (mild, mild, mild, hard, mild, mild, mild)]
    )
    assert [finding.observed for finding in found] == pytest.approx([value * unit for value in way])
    (documented,) = (row for row in page["Findings"] if row[0] == name)
    assert {str(finding.advice) for finding in found} == {"none", *documented[3].split()}
    words = "at or above" if key in CEILINGS else "below"
    assert [words in finding.summary for finding in found] == [False, *[True] * 5, False]


@pytest.mark.parametrize("key", CEILINGS)
def test_an_upper_limit_is_crossed_when_it_is_reached(key: str, tree: Tree) -> None:
    name, world = WORLDS[key]
    limit = 50.0 if key == "temperature" else 0.5
    at = world(SystemOptions.model_validate({f"{key}_degraded": limit, f"{key}_unhealthy": 2 * limit}), tree)
    assert the(name, at(limit)).status is Status.DEGRADED


@pytest.mark.parametrize("key", FLOORS)
def test_a_lower_limit_is_not_crossed_when_it_is_just_kept_and_zero_switches_it_off(
    key: str, tree: Tree
) -> None:
    name, world = WORLDS[key]
    kept = world(SystemOptions.model_validate({f"{key}_degraded": 0.5, f"{key}_unhealthy": 0.1}), tree)
    assert the(name, kept(0.5)).status is Status.HEALTHY
    off = world(SystemOptions.model_validate({f"{key}_degraded": 0, f"{key}_unhealthy": 0}), tree)
    assert the(name, off(0.0)).status is Status.HEALTHY


@pytest.mark.parametrize("key", ["cpu_use", "pressure_cpu", "pressure_io", "temperature"])
def test_what_a_busy_gpu_host_does_all_day_has_no_limit_unless_one_is_configured(
    key: str, tree: Tree
) -> None:
    name, world = WORLDS[key]
    finding = the(name, world(SystemOptions(), tree)(99.0 if key == "temperature" else 1.0))
    assert (finding.status, finding.limit) == (Status.HEALTHY, None)


@pytest.mark.parametrize(("key", "value"), [("load", 1000.0), ("swap_used", 1.0)])
def test_load_and_swap_alone_never_make_a_host_unhealthy(key: str, value: float, tree: Tree) -> None:
    name, world = WORLDS[key]
    assert the(name, world(SystemOptions(), tree)(value)).status is Status.DEGRADED


def test_a_host_with_nothing_left_of_what_has_a_hard_default_is_unhealthy(tree: Tree) -> None:
    exhausted = {"disk_free": 0.0, "inodes_free": 0.0, "memory_available": 0.0}
    exhausted |= {"pressure_memory": 1.0, "open_files": 1.0, "pids": 1.0}
    for key, value in exhausted.items():
        name, world = WORLDS[key]
        assert the(name, world(SystemOptions(), tree)(value)).status is Status.UNHEALTHY, key


def test_a_summary_has_the_number_and_the_limit(tree: Tree) -> None:
    options = SystemOptions(paths=("/var",))
    reading = disks(options, f_blocks=25_000_000, f_bavail=300_000).collect()
    finding = the("disk_space", reading)
    assert finding.summary == "/var has 1.23 GB free of 102 GB (1.2 %), below 2 %"
    assert finding.subject == "/var"


def test_limits_without_a_value_never_apply() -> None:
    assert Limits().judge(1e300) == (Status.HEALTHY, None)
    assert Limits(unhealthy=2).judge(1) == (Status.HEALTHY, 2)


def test_the_builtin_reader_of_each_check_is_the_hosts_own() -> None:
    assert HostMemory(SystemOptions()).read is psutil.virtual_memory
    assert Disks(SystemOptions()).statvfs is filesystem.statvfs
