"""Counters of the hardware, md arrays, hot CPUs, the clock and the memory of the control group."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.cgroup import tightest_memory
from mlopsd_probes.system.arrays import Arrays
from mlopsd_probes.system.clock import Clock, ClockSynchronisation, read_clock
from mlopsd_probes.system.collector import is_empty
from mlopsd_probes.system.cpu_throttling import CpuThrottling
from mlopsd_probes.system.growth import STEPS, Growth
from mlopsd_probes.system.hardware_errors import InfinibandPorts, MemoryErrors, PcieErrors
from mlopsd_probes.system.memory import CgroupMemory
from mlopsd_probes.system.options import SystemOptions

Tree = Callable[[Mapping[str, str]], Path]
OPTIONS = SystemOptions()
HOUR = 3600.0


class Watch:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def only(reading: Reading) -> Finding:
    (finding,) = reading.findings
    return finding


def values(reading: Reading) -> dict[tuple[str, ...], float]:
    return {(sample.name, *dict(sample.labels).values()): sample.value for sample in reading.samples}


def test_growth_is_counted_from_the_first_look_on_and_forgotten_after_the_window(watch: Watch) -> None:
    growth: Growth[str] = Growth(60, watch)
    assert growth.of({"a": 1000}) == {"a": 0}
    watch.now = 30
    assert growth.of({"a": 1005}) == {"a": 5}
    watch.now = 89
    assert growth.of({"a": 1005}) == {"a": 5}
    watch.now = 90
    assert growth.of({"a": 1005}) == {"a": 0}


def test_a_counter_that_was_reset_has_not_grown(watch: Watch) -> None:
    growth: Growth[str] = Growth(60, watch)
    growth.of({"a": 1000})
    assert growth.of({"a": 3}) == {"a": 0}
    assert growth.of({"a": 5}) == {"a": 2}


def test_a_counter_that_is_gone_is_forgotten_and_memory_stays_bounded(watch: Watch) -> None:
    growth: Growth[str] = Growth(60, watch)
    for number in range(10_000):
        watch.now = number / 10
        growth.of({"a": number})
    (points,) = growth._points.values()
    assert len(points) <= STEPS + 2
    growth.of({})
    assert not growth._points


def aer(device: str, correctable: int = 0, nonfatal: int = 0, fatal: int = 0) -> dict[str, str]:
    """The files of a device as Linux writes them."""
    folder = f"bus/pci/devices/{device}"
    return {
        f"{folder}/aer_dev_correctable": f"RxErr {correctable}\nBadTLP 0\nTOTAL_ERR_COR {correctable}\n",
        f"{folder}/aer_dev_nonfatal": f"Undefined 0\nCmpltTO {nonfatal}\nTOTAL_ERR_NONFATAL {nonfatal}\n",
        f"{folder}/aer_dev_fatal": f"Undefined 0\nDLP {fatal}\nTOTAL_ERR_FATAL {fatal}\n",
    }


CARD, PORT = "0000:3b:00.0", "0000:3a:00.0"


def test_errors_before_the_first_look_are_counted_and_not_judged(tree: Tree, watch: Watch) -> None:
    root = tree({**aer(CARD, 5000, 3), **aer(PORT), "bus/pci/devices/0000:00:00.0/vendor": "0x8086"})
    reading = PcieErrors(OPTIONS, root, watch).collect()
    assert only(reading).summary == "2 PCIe devices had no errors that count in the last 60 min"
    assert values(reading)["pcie_errors_total", CARD, "correctable"] == 5000
    assert len(reading.samples) == 6


@pytest.mark.parametrize(
    ("errors", "words", "limit"),
    [
        ({"fatal": 1, "nonfatal": 2}, "1 fatal PCIe error", 1),
        ({"nonfatal": 2}, "2 uncorrected PCIe errors", 1),
        ({"correctable": 100}, "100 corrected PCIe errors", 100),
    ],
)
def test_a_device_whose_link_makes_errors_is_named(
    tree: Tree, watch: Watch, errors: dict[str, int], words: str, limit: int
) -> None:
    probe = PcieErrors(OPTIONS, tree({**aer(CARD), **aer(PORT)}), watch)
    probe.collect()
    tree(aer(CARD, **errors))
    finding = only(probe.collect())
    assert (finding.status, finding.subject, finding.advice) == (
        Status.DEGRADED,
        CARD,
        Advice.CHECK_HARDWARE,
    )
    assert finding.summary == f"{CARD} had {words} in the last 60 min (limit {limit})"
    watch.now = HOUR + 60
    probe.collect()
    watch.now = 2 * HOUR + 120
    assert only(probe.collect()).status is Status.HEALTHY


def test_few_corrected_errors_are_what_aer_is_for(tree: Tree, watch: Watch) -> None:
    probe = PcieErrors(OPTIONS, tree(aer(CARD)), watch)
    probe.collect()
    tree(aer(CARD, correctable=99))
    assert only(probe.collect()).status is Status.HEALTHY


@pytest.mark.parametrize("collector", [PcieErrors, MemoryErrors, InfinibandPorts, CpuThrottling, Arrays])
def test_a_host_without_the_counters_is_no_fault(collector: type[PcieErrors], tree: Tree) -> None:
    assert is_empty(collector(OPTIONS, tree({"empty": ""})).try_collect())


def edac(
    corrected: int, uncorrected: int = 0, label: str = "CPU_SrcID#0_MC#0_Chan#0_DIMM#0"
) -> dict[str, str]:
    folder = "devices/system/edac/mc/mc0"
    return {
        "devices/system/edac/mc/uevent": "",
        "devices/system/edac/mc/power/control": "auto\n",
        f"{folder}/ue_noinfo_count": "0\n",
        f"{folder}/ce_noinfo_count": "0\n",
        f"{folder}/dimm0/dimm_label": f"{label}\n",
        f"{folder}/dimm0/dimm_ce_count": f"{corrected}\n",
        f"{folder}/dimm0/dimm_ue_count": f"{uncorrected}\n",
    }


@pytest.mark.parametrize(
    ("errors", "words"),
    [((10, 0), "10 corrected ECC errors"), ((50, 1), "1 uncorrected ECC error")],
)
def test_a_memory_module_is_named_with_its_label(
    tree: Tree, watch: Watch, errors: tuple[int, int], words: str
) -> None:
    probe = MemoryErrors(OPTIONS, tree(edac(0)), watch)
    assert only(probe.collect()).status is Status.HEALTHY
    tree(edac(*errors))
    summary = only(probe.collect()).summary
    assert summary.startswith(f"mc0 dimm0 (CPU_SrcID#0_MC#0_Chan#0_DIMM#0) had {words} in the last 24 h")


def port(state: str = "4: ACTIVE", downed: int = 0) -> dict[str, str]:
    folder = "class/infiniband/mlx5_0/ports/1"
    return {
        f"{folder}/state": f"{state}\n",
        f"{folder}/counters/link_downed": f"{downed}\n",
        f"{folder}/counters/symbol_error": "7\n",
    }


def test_a_port_that_was_active_and_is_down_is_degraded(tree: Tree, watch: Watch) -> None:
    probe = InfinibandPorts(OPTIONS, tree(port()), watch)
    assert (
        only(probe.collect()).summary
        == "1 InfiniBand or RoCE port had no errors that count in the last 60 min"
    )
    tree(port("1: DOWN", downed=1))
    reading = probe.collect()
    assert only(reading).status is Status.DEGRADED
    assert only(reading).summary.startswith("mlx5_0/1 was ACTIVE and is DOWN")
    assert values(reading)["infiniband_port_active", "mlx5_0/1"] == 0


def test_a_port_that_somebody_disabled_is_no_broken_cable(tree: Tree, watch: Watch) -> None:
    probe = InfinibandPorts(OPTIONS, tree(port()), watch)
    probe.collect()
    tree({**port("1: DOWN"), "class/infiniband/mlx5_0/ports/1/phys_state": "3: Disabled\n"})
    finding = only(probe.collect())
    assert (finding.summary, finding.advice) == (
        "mlx5_0/1 was ACTIVE and is DOWN; it was disabled on this host",
        Advice.WATCH,
    )


def test_a_counter_that_a_device_lacks_is_left_out(tree: Tree, watch: Watch) -> None:
    root = tree({**port(), "class/infiniband/mlx5_0/ports/1/counters/link_downed": "N/A (no PMA)\n"})
    reading = InfinibandPorts(OPTIONS, root, watch).try_collect()
    assert only(reading).status is Status.HEALTHY
    assert ("infiniband_errors_total", "mlx5_0/1", "symbol_error") in values(reading)
    assert ("infiniband_errors_total", "mlx5_0/1", "link_downed") not in values(reading)


def test_a_memory_module_may_be_a_rank(tree: Tree, watch: Watch) -> None:
    folder = "devices/system/edac/mc/mc1/rank2"
    root = tree({f"{folder}/dimm_ce_count": "3\n", f"{folder}/dimm_ue_count": "0\n"})
    assert (
        values(MemoryErrors(OPTIONS, root, watch).collect())["memory_errors_total", "mc1 rank2", "corrected"]
        == 3
    )


def test_a_port_without_a_cable_is_no_fault(tree: Tree, watch: Watch) -> None:
    assert only(InfinibandPorts(OPTIONS, tree(port("1: DOWN")), watch).collect()).status is Status.HEALTHY


def test_a_link_that_flaps_is_degraded_although_it_is_up(tree: Tree, watch: Watch) -> None:
    probe = InfinibandPorts(OPTIONS, tree(port()), watch)
    probe.collect()
    tree(port(downed=2))
    assert only(probe.collect()).summary == "mlx5_0/1 had 2 lost links in the last 60 min (limit 2)"


def array(
    missing: int, action: str = "idle", states: tuple[str, ...] = ("in_sync", "in_sync")
) -> dict[str, str]:
    disks = {f"block/md0/md/dev-sd{'ab'[at]}/state": f"{state}\n" for at, state in enumerate(states)}
    return {
        "block/md0/md/degraded": f"{missing}\n",
        "block/md0/md/raid_disks": "2\n",
        "block/md0/md/sync_action": f"{action}\n",
        "block/sda/size": "1",
        **disks,
    }


@pytest.mark.parametrize(
    ("files", "status", "advice", "summary"),
    [
        (array(0), Status.HEALTHY, Advice.NONE, "md0 has all its 2 disks"),
        (
            array(1, states=("in_sync", "faulty")),
            Status.DEGRADED,
            Advice.REPLACE_HARDWARE,
            "md0 runs with 1 of 2 disks; failed: sdb",
        ),
        (array(1), Status.DEGRADED, Advice.CHECK_HARDWARE, "md0 runs with 1 of 2 disks"),
        (
            array(1, "recover"),
            Status.DEGRADED,
            Advice.WATCH,
            "md0 runs with 1 of 2 disks; it is being rebuilt",
        ),
    ],
)
def test_an_array_that_lacks_a_disk_is_degraded(
    tree: Tree, files: dict[str, str], status: Status, advice: Advice, summary: str
) -> None:
    finding = only(Arrays(OPTIONS, tree(files)).collect())
    assert (finding.status, finding.advice, finding.summary) == (status, advice, summary)


def hot(milliseconds: int) -> dict[str, str]:
    cpus = {}
    for cpu in ("cpu0", "cpu1"):
        cpus[f"devices/system/cpu/{cpu}/topology/physical_package_id"] = "0\n"
        cpus[f"devices/system/cpu/{cpu}/thermal_throttle/package_throttle_total_time_ms"] = (
            f"{milliseconds}\n"
        )
    return cpus


def test_a_package_that_is_slowed_down_for_long_is_degraded(tree: Tree, watch: Watch) -> None:
    probe = CpuThrottling(OPTIONS, tree(hot(900_000)), watch)
    assert only(probe.collect()).status is Status.HEALTHY
    tree(hot(960_000))
    reading = probe.collect()
    assert only(reading).summary == (
        "CPU package 0 was too hot for its full speed in 10 % of the last 10 min, at or above 10 %"
    )
    assert values(reading) == {("cpu_throttled_seconds_total", "0"): 960}


def test_the_kernels_own_word_on_this_hosts_clock_can_be_read() -> None:
    found = read_clock()
    assert found.max_error >= 0


def test_a_clock_that_nothing_synchronises_is_degraded_after_a_while(watch: Watch) -> None:
    found = [Clock(is_synchronised=False, max_error=16)]
    probe = ClockSynchronisation(OPTIONS, lambda: found[0], watch)
    assert only(probe.collect()).status is Status.HEALTHY
    watch.now = 600
    finding = only(probe.collect())
    assert (finding.status, finding.advice) == (Status.DEGRADED, Advice.FIX_CONFIG)
    assert finding.summary.startswith("no time service has synchronised the clock for 10 min; start chrony")
    found[0] = Clock(is_synchronised=True, max_error=0.01)
    assert only(probe.collect()).summary == "the clock is synchronised"
    found[0] = Clock(is_synchronised=False, max_error=0.01)
    assert only(probe.collect()).status is Status.HEALTHY


def test_a_filter_that_forbids_the_call_is_absence_and_not_health() -> None:
    def forbidden() -> Clock:
        raise NotImplementedError

    assert is_empty(ClockSynchronisation(OPTIONS, forbidden).try_collect())


GROUP = "fs/cgroup/system.slice/mlopsd.service"
SECOND = {
    "self/cgroup": "0::/system.slice/mlopsd.service\n",
    f"{GROUP}/memory.max": "max\n",
    f"{GROUP}/memory.current": "5\n",
    f"{GROUP}/memory.stat": "anon 1\ninactive_file 2\n",
    "fs/cgroup/system.slice/memory.max": "1000000000\n",
    "fs/cgroup/system.slice/memory.current": "980000000\n",
    "fs/cgroup/system.slice/memory.stat": "inactive_file 80000000\n",
}
FIRST = {
    "self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n",
    "fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "1000000000\n",
    "fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "980000000\n",
    "fs/cgroup/memory/docker/abc/memory.stat": "total_inactive_file 80000000\n",
    "fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "fs/cgroup/memory/memory.usage_in_bytes": "5\n",
    "fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
}


@pytest.mark.parametrize("files", [SECOND, FIRST])
def test_the_control_groups_memory_counts_without_the_cache_that_can_be_dropped(
    tree: Tree, files: dict[str, str]
) -> None:
    root = tree(files)
    reading = CgroupMemory(OPTIONS, root, root).collect()
    assert (only(reading).status, only(reading).advice) == (Status.DEGRADED, Advice.FREE_RESOURCES)
    assert only(reading).summary == (
        "900 MB of the 1 GB that the daemon's control group allows are used (90 %), at or above 90 %"
    )
    use = tightest_memory(root, root)
    assert use is not None
    assert use.available == 100_000_000


def test_a_group_without_a_limit_has_no_finding(tree: Tree) -> None:
    root = tree({"self/cgroup": "0::/\n", "fs/cgroup/cgroup.controllers": "memory\n"})
    assert is_empty(CgroupMemory(OPTIONS, root, root).try_collect())
