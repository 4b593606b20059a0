"""The probe's report of the real host, compared with other sources of the kernel."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from mlopsd.probe import Context, Reading, Status
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.probe import SystemProbe
from tests.running import GIVE_UP

PROC = Path("/proc")


@pytest.fixture
def probe(context: Context) -> SystemProbe:
    return SystemProbe(SystemOptions().model_copy(update={"path_timeout": GIVE_UP}), context)


@pytest.fixture
def reading(probe: SystemProbe) -> Reading:
    probe.check()
    return probe.check()


def value(reading: Reading, name: str, **labels: str) -> float:
    (found,) = (s.value for s in reading.samples if s.name == name and dict(s.labels) == labels)
    return found


def field(file: str, name: str) -> int:
    """One number of a /proc file of ``name number`` lines."""
    lines = (line.replace(":", " ").split() for line in (PROC / file).read_text().splitlines())
    return next(int(words[1]) for words in lines if words and words[0] == name)


def assert_it_tells(
    probe: SystemProbe, reported: Callable[[Reading], float], kernel: Callable[[], float], slack: float
) -> None:
    """Hold a reading against what the kernel says right before and right after it.

    Others change the number meanwhile; only a probe that is wrong is outside ten times running.
    """
    for _ in range(10):
        before, found, after = kernel(), reported(probe.check()), kernel()
        if min(before, after) - slack <= found <= max(before, after) + slack:
            return
    pytest.fail(f"{found} is not between {before} and {after}")


def test_memory_is_the_kernels(reading: Reading) -> None:
    assert value(reading, "memory_total_bytes") == field("meminfo", "MemTotal") * 1024
    assert reading.facts["memory_total_bytes"] == field("meminfo", "MemTotal") * 1024


def test_available_memory_is_the_kernels(probe: SystemProbe) -> None:
    slack = 0.05 * field("meminfo", "MemAvailable") * 1024
    assert_it_tells(
        probe,
        lambda reading: value(reading, "memory_available_bytes"),
        lambda: field("meminfo", "MemAvailable") * 1024,
        slack,
    )


def test_a_disk_is_what_statvfs_says(probe: SystemProbe, reading: Reading) -> None:
    root = os.statvfs("/")
    assert value(reading, "disk_total_bytes", path="/") == root.f_blocks * root.f_frsize
    assert value(reading, "disk_path_up", path="/") == 1
    assert_it_tells(
        probe,
        lambda reading: value(reading, "disk_free_bytes", path="/"),
        lambda: os.statvfs("/").f_bavail * root.f_frsize,
        2**24,
    )


@pytest.mark.parametrize(
    ("place", "mode"),
    list(enumerate(("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), 1)),
)
def test_cpu_times_are_those_of_proc_stat(probe: SystemProbe, place: int, mode: str) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert_it_tells(
        probe,
        lambda reading: value(reading, "cpu_seconds_total", mode=mode),
        lambda: int((PROC / "stat").read_text().split()[place]) / ticks,
        1,
    )


def test_load_and_cpus_are_those_of_the_scheduler(probe: SystemProbe, reading: Reading) -> None:
    assert value(reading, "cpus") == psutil.cpu_count() == os.sysconf("SC_NPROCESSORS_ONLN")
    assert_it_tells(
        probe,
        lambda reading: value(reading, "load_average", window="15m"),
        lambda: os.getloadavg()[2],
        0.01,
    )


def test_open_files_and_threads_are_the_kernels_count(probe: SystemProbe, reading: Reading) -> None:
    files, loadavg = PROC / "sys/fs/file-nr", PROC / "loadavg"
    assert value(reading, "open_files_limit") == float(files.read_text().split()[2])
    assert value(reading, "pids_limit", scope="host") <= int((PROC / "sys/kernel/pid_max").read_text())
    counted_apart = 64 * (os.cpu_count() or 1)  # each CPU has some that are not in the kernel's sum yet
    assert_it_tells(
        probe,
        lambda reading: value(reading, "open_files"),
        lambda: int(files.read_text().split()[0]),
        counted_apart,
    )
    assert_it_tells(
        probe,
        lambda reading: value(reading, "pids", scope="host"),
        lambda: int(loadavg.read_text().split("/")[1].split()[0]),
        20,
    )


def test_the_facts_are_the_hosts(probe: SystemProbe, reading: Reading) -> None:
    assert reading.facts["hostname"] == (PROC / "sys/kernel/hostname").read_text().strip()
    assert reading.facts["kernel"] == (PROC / "sys/kernel/osrelease").read_text().strip()
    booted = datetime.fromisoformat(reading.facts["boot_time"])
    assert booted.timestamp() == pytest.approx(field("stat", "btime"), abs=2)
    assert value(reading, "boot_timestamp_seconds") == booted.timestamp()
    assert_it_tells(
        probe,
        lambda reading: float(reading.facts["uptime_seconds"]),
        lambda: float((PROC / "uptime").read_text().split()[0]),
        1,
    )


def test_what_this_host_does_not_have_is_absent_and_never_zero(reading: Reading) -> None:
    absent = set(reading.facts.get("absent", ()))
    names = {sample.name for sample in reading.samples}
    has = {
        "swap_used": field("meminfo", "SwapTotal") > 0,
        "pressure": (PROC / "pressure").exists(),
        "temperature": bool(psutil.sensors_temperatures()),
    }
    assert {collector for collector in has if collector in absent} == {
        collector for collector, there in has.items() if not there
    }
    prefixes = {"swap_used": "swap_", "pressure": "pressure_", "temperature": "temperature_"}
    for collector, prefix in prefixes.items():
        assert any(name.startswith(prefix) for name in names) == has[collector], collector


def test_nothing_of_this_host_is_unknown(reading: Reading) -> None:
    unknown = [finding for finding in reading.findings if finding.status is Status.UNKNOWN]
    assert unknown == []
