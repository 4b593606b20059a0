"""CPUs, swap, sensors, disks and cards through psutil, with what real hosts have shown."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlopsd.probe import Reading, Status
from mlopsd_probes.system.cpu import CpuUse, Load
from mlopsd_probes.system.disks import DiskIO
from mlopsd_probes.system.memory import HostMemory, Swap
from mlopsd_probes.system.network import Network
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.temperature import HostTemperature

Tree = Callable[[Mapping[str, str]], Path]


def values(reading: Reading) -> dict[tuple[str, ...], float]:
    return {(sample.name, *dict(sample.labels).values()): sample.value for sample in reading.samples}


def times(**modes: float) -> SimpleNamespace:
    return SimpleNamespace(**{"user": 0.0, "system": 0.0, "idle": 0.0, "iowait": 0.0, **modes})


def test_cpu_use_needs_two_checks_and_is_silent_after_one() -> None:
    looks = iter([times(user=10, idle=90), times(user=20, idle=120), times(user=20, idle=120)])
    cpu = CpuUse(SystemOptions(), lambda: next(looks))
    first, second, third = cpu.collect(), cpu.collect(), cpu.collect()
    assert not first.findings
    assert ("cpu_use_ratio",) not in values(first)
    assert values(first)[("cpu_seconds_total", "user")] == 10
    assert values(second)[("cpu_use_ratio",)] == 0.25
    assert ("cpu_use_ratio",) not in values(third)  # no tick passed: nothing is known


def test_waiting_for_a_disk_and_a_time_that_jumps_back_are_not_use() -> None:
    looks = iter(
        [times(iowait=50, idle=50), times(iowait=40, idle=80, user=10), times(iowait=140, idle=80, user=20)]
    )
    cpu = CpuUse(SystemOptions(), lambda: next(looks))
    cpu.collect()
    second = values(cpu.collect())
    assert second[("cpu_use_ratio",)] == 0.25
    assert second[("cpu_seconds_total", "iowait")] == 50  # a counter never falls
    assert values(cpu.collect())[("cpu_use_ratio",)] == pytest.approx(0.1)


def test_a_guests_time_is_not_counted_twice() -> None:
    looks = iter([times(), times(user=50, guest=50, idle=50)])
    cpu = CpuUse(SystemOptions(), lambda: next(looks))
    cpu.collect()
    reading = values(cpu.collect())
    assert reading[("cpu_use_ratio",)] == 0.5
    assert ("cpu_seconds_total", "guest") not in reading


def test_a_load_without_a_count_of_cpus_is_reported_and_unknown() -> None:
    reading = Load(SystemOptions(), lambda: (1.0, 2.0, 3.0), lambda: None).collect()
    (finding,) = reading.findings
    assert (finding.name, finding.status) == ("load", Status.UNKNOWN)
    assert finding.summary.startswith("cannot judge the load over 5 min (2): neither /sys/devices/system/cpu")
    assert values(reading) == {
        ("load_average", "1m"): 1,
        ("load_average", "5m"): 2,
        ("load_average", "15m"): 3,
    }


def memory(available: int, total: int = 10**9) -> Callable[[], SimpleNamespace]:
    return lambda: SimpleNamespace(total=total, available=available)


def swap(free: int, total: int = 1000) -> Callable[[], SimpleNamespace]:
    return lambda: SimpleNamespace(total=total, free=free)


def test_a_large_host_with_much_memory_left_is_not_short_of_it() -> None:
    reading = HostMemory(SystemOptions(), memory(20 * 10**9, 2 * 10**12)).collect()
    assert reading.status is Status.HEALTHY
    assert reading.findings[0].summary == "20 GB of 2 TB memory is available (1 %)"


@pytest.mark.parametrize(
    ("available", "total", "status"),
    [
        (5 * 10**8, 10**9, Status.HEALTHY),
        (10**8 - 1, 10**9, Status.DEGRADED),
        (180 * 10**9, 2 * 10**12, Status.HEALTHY),
    ],
)
def test_full_swap_is_a_fault_only_while_memory_is_short(available: int, total: int, status: Status) -> None:
    reading = Swap(SystemOptions(), swap(0), memory(available, total)).collect()
    assert reading.status is status


def test_a_host_without_swap_has_no_number_for_it() -> None:
    reading = Swap(SystemOptions(), swap(0, 0), memory(1)).collect()
    assert (reading.findings, reading.samples) == ((), ())


def sensor(
    label: str, current: float | None, high: float | None = None, critical: float | None = None
) -> SimpleNamespace:
    return SimpleNamespace(label=label, current=current, high=high, critical=critical)


def temperatures(
    options: SystemOptions | None = None, **chips: list[SimpleNamespace]
) -> tuple[Reading, dict[tuple[str, ...], float]]:
    reading = HostTemperature(options or SystemOptions(), lambda: chips).collect()
    return reading, values(reading)


@pytest.mark.parametrize(
    ("current", "status", "limit"),
    [(83.0, Status.HEALTHY, 84.0), (84.0, Status.DEGRADED, 84.0), (100.0, Status.UNHEALTHY, 100.0)],
)
def test_a_sensor_is_held_against_its_own_limits(current: float, status: Status, limit: float) -> None:
    reading, _ = temperatures(coretemp=[sensor("Package id 0", current, 84, 100)])
    (finding,) = reading.findings
    assert (finding.status, finding.limit, finding.subject) == (status, limit, "coretemp")


def test_of_many_sensors_of_a_kind_the_worst_is_judged_and_the_hottest_is_the_number() -> None:
    sensors = [sensor("Core 0", 90, 95, 100), sensor("Core 0", 80, 75, 85), sensor("", 20)]
    reading, numbers = temperatures(coretemp=sensors)
    (finding,) = reading.findings
    assert finding.summary == "coretemp Core 0 is at 80 °C, at or above 75 °C"
    assert numbers == {("temperature_celsius", "coretemp"): 90}


def test_the_operators_limits_go_before_the_sensors() -> None:
    options = SystemOptions(temperature_degraded=60, temperature_unhealthy=70)
    reading, _ = temperatures(options, nvme=[sensor("Composite", 65, 84, 90)])
    assert (reading.findings[0].status, reading.findings[0].limit) == (Status.DEGRADED, 60)


@pytest.mark.parametrize("limit", [65261.85, 0.0, 0.105, -273.15, None])
def test_a_limit_that_no_chip_can_mean_is_none(limit: float | None) -> None:
    reading, _ = temperatures(nvme=[sensor("Composite", 45, limit, limit)])
    assert (reading.findings[0].status, reading.findings[0].limit) == (Status.HEALTHY, None)


@pytest.mark.parametrize("current", [-128.0, 255.0, 65261.85, None])
def test_an_input_with_nothing_on_it_is_no_temperature(current: float | None) -> None:
    reading, numbers = temperatures(nvme=[sensor("Composite", current, 80, 90)])
    assert (reading.findings, numbers) == ([], {})


def test_a_mainboards_open_input_is_reported_and_not_judged() -> None:
    reading, numbers = temperatures(nct6775=[sensor("AUXTIN0", 127, 80, 100)])
    assert (reading.findings, numbers) == ([], {("temperature_celsius", "nct6775"): 127})


def test_a_host_without_sensors_has_no_temperature() -> None:
    reading, numbers = temperatures()
    assert (reading.findings, numbers) == ([], {})


def test_only_whole_disks_that_are_hardware_are_counted(tree: Tree) -> None:
    root = tree({"block/sda/device/model": "", "block/sda/sda1/stat": "", "block/loop0/size": "0"})
    counters = SimpleNamespace(read_bytes=10, write_bytes=20, busy_time=1500)
    disks = DiskIO(SystemOptions(), lambda **_: dict.fromkeys(("sda", "sda1", "loop0"), counters), root)
    assert values(disks.collect()) == {
        ("disk_read_bytes_total", "sda"): 10,
        ("disk_written_bytes_total", "sda"): 20,
        ("disk_busy_seconds_total", "sda"): 1.5,
    }


def test_only_network_cards_are_counted_and_not_each_containers_interface(tree: Tree) -> None:
    root = tree({"class/net/eth0/device/vendor": "", "class/net/veth1a2b/mtu": "", "class/net/lo/mtu": ""})
    counters = SimpleNamespace(bytes_recv=1, bytes_sent=2, errin=3, errout=4)
    cards = Network(SystemOptions(), lambda **_: dict.fromkeys(("eth0", "veth1a2b", "lo"), counters), root)
    assert values(cards.collect()) == {
        ("network_received_bytes_total", "eth0"): 1,
        ("network_sent_bytes_total", "eth0"): 2,
        ("network_errors_total", "eth0", "receive"): 3,
        ("network_errors_total", "eth0", "send"): 4,
    }
