"""What the probe reports of the host it runs on, against what the kernel says to others who ask."""

import os
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from mlopsd.probe import Context, Reading, Status
from mlopsd_probes.system.options import SystemOptions
from mlopsd_probes.system.probe import SystemProbe

PROC = Path("/proc")


@pytest.fixture
def probe(context: Context) -> SystemProbe:
    return SystemProbe(SystemOptions(path_timeout=4), context)


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


def test_memory_is_the_kernels(reading: Reading) -> None:
    assert value(reading, "memory_total_bytes") == field("meminfo", "MemTotal") * 1024
    assert reading.facts["memory_total_bytes"] == field("meminfo", "MemTotal") * 1024


def test_available_memory_is_the_kernels(probe: SystemProbe) -> None:
    """Others take and return it meanwhile; only a probe that is wrong is so ten times running."""
    for _ in range(10):
        before = field("meminfo", "MemAvailable") * 1024
        told = value(probe.check(), "memory_available_bytes")
        after = field("meminfo", "MemAvailable") * 1024
        if 0.95 * min(before, after) <= told <= 1.05 * max(before, after):
            return
    pytest.fail(f"{told} is not between {before} and {after}")


def test_a_disk_is_what_statvfs_says(reading: Reading) -> None:
    root = os.statvfs("/")
    assert value(reading, "disk_total_bytes", path="/") == root.f_blocks * root.f_frsize
    assert value(reading, "disk_free_bytes", path="/") == pytest.approx(
        root.f_bavail * root.f_frsize, abs=2**28
    )
    assert value(reading, "disk_path_up", path="/") == 1


def test_cpu_times_are_those_of_proc_stat(reading: Reading) -> None:
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = (PROC / "stat").read_text().split()[1:9]
    for mode, count in zip(modes, ticks, strict=True):
        seconds = int(count) / os.sysconf("SC_CLK_TCK")
        assert value(reading, "cpu_seconds_total", mode=mode) == pytest.approx(seconds, abs=30), mode


def test_load_and_cpus_are_those_of_the_scheduler(reading: Reading) -> None:
    assert value(reading, "cpus") == psutil.cpu_count() == os.sysconf("SC_NPROCESSORS_ONLN")
    assert value(reading, "load_average", window="15m") == pytest.approx(os.getloadavg()[2], abs=0.5)


def test_open_files_and_threads_are_the_kernels_count(reading: Reading) -> None:
    files = (PROC / "sys/fs/file-nr").read_text().split()
    assert value(reading, "open_files") == pytest.approx(int(files[0]), rel=0.2, abs=100)
    assert value(reading, "open_files_limit") == float(files[2])
    processes = psutil.process_iter(["num_threads"])  # a container sees fewer
    visible = sum(process.info["num_threads"] or 0 for process in processes)
    assert value(reading, "pids", scope="host") >= 0.8 * visible - 20
    counted = int((PROC / "loadavg").read_text().split("/")[1].split()[0])
    assert value(reading, "pids", scope="host") == pytest.approx(counted, rel=0.2, abs=20)
    assert value(reading, "pids_limit", scope="host") <= int((PROC / "sys/kernel/pid_max").read_text())


def test_the_facts_are_the_hosts(reading: Reading) -> None:
    assert reading.facts["hostname"] == (PROC / "sys/kernel/hostname").read_text().strip()
    assert reading.facts["kernel"] == (PROC / "sys/kernel/osrelease").read_text().strip()
    booted = datetime.fromisoformat(reading.facts["boot_time"])
    assert booted.timestamp() == pytest.approx(field("stat", "btime"), abs=2)
    assert value(reading, "boot_timestamp_seconds") == booted.timestamp()
    uptime = float((PROC / "uptime").read_text().split()[0])
    assert reading.facts["uptime_seconds"] == pytest.approx(uptime, abs=5)
    assert booted.timestamp() + uptime == pytest.approx(time.time(), abs=5)


def test_what_this_host_does_not_have_is_absent_and_never_zero(reading: Reading) -> None:
    absent = set(reading.facts.get("absent", ()))
    names = {sample.name for sample in reading.samples}
    has = {
        "swap_used": field("meminfo", "SwapTotal") > 0,
        "pressure": (PROC / "pressure").exists(),
        "temperature": bool(psutil.sensors_temperatures()),
    }
    assert {look for look in has if look in absent} == {look for look, there in has.items() if not there}
    prefixes = {"swap_used": "swap_", "pressure": "pressure_", "temperature": "temperature_"}
    for look, prefix in prefixes.items():
        assert any(name.startswith(prefix) for name in names) == has[look], look


def test_nothing_of_this_host_is_unknown(reading: Reading) -> None:
    unknown = [finding for finding in reading.findings if finding.status is Status.UNKNOWN]
    assert unknown == []
