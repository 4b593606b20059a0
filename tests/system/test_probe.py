"""The row of looks: one that fails, one that has nothing, and what is declared."""

from pathlib import Path
from typing import get_args

import psutil
import pytest

from mlopsd.probe import Context, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.cpu import Load
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.memory import CgroupMemory, Paging
from mlopsd_probes.system.options import LONGEST_PATH_TIMEOUT, SystemOptions
from mlopsd_probes.system.pids import Pids
from mlopsd_probes.system.pressure import Pressure
from mlopsd_probes.system.probe import COLLECTORS, SystemProbe
from mlopsd_probes.system.processes import StuckProcesses

NUMBER = Metric("number", "A number.")


class Whole(HostCollector):
    name = "whole"
    findings = ("whole",)
    metrics = (NUMBER,)

    def collect(self) -> Reading:
        return Reading([Finding("whole", Status.HEALTHY, "it is")], [NUMBER.sample(1)], {"key": "value"})


class Failing(HostCollector):
    name = "failing"
    source = "/proc/failing"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def collect(self) -> Reading:
        raise self.error


class Empty(HostCollector):
    name = "empty"
    source = "/proc/empty"

    def collect(self) -> Reading:
        return Reading()


class Optional(Failing):
    name = "optional"
    may_be_absent = True


class OptionalEmpty(Empty):
    may_be_absent = True


def check(context: Context, *looks: HostCollector) -> Reading:
    probe = SystemProbe(SystemOptions(), context)
    probe.collectors = looks
    return probe.check()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/proc/stat"), "/proc/stat: Permission denied"),
        (PermissionError(13, "Permission denied", "42/stat"), "/proc/failing/42/stat: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), "/proc/x: No such file or directory"),
        (NotImplementedError("no diskstats"), "/proc/failing: no diskstats"),
        (OSError("Load averages are unobtainable"), "/proc/failing: Load averages are unobtainable"),
        (ValueError("invalid literal for int()"), "/proc/failing: invalid literal for int()"),
        (IndexError("list index out of range"), "/proc/failing: list index out of range"),
        (RuntimeError("line 'btime' not found"), "/proc/failing: line 'btime' not found"),
    ],
)
def test_a_check_that_fails_takes_only_its_own_part(context: Context, error: Exception, words: str) -> None:
    reading = check(context, Failing(error), Whole(SystemOptions()))
    failed, whole = reading.findings
    assert (failed.name, failed.status) == ("failing", Status.UNKNOWN)
    assert failed.summary == f"cannot read failing from {words}"
    assert (whole.status, len(reading.samples), dict(reading.facts)) == (
        Status.HEALTHY,
        1,
        {"key": "value"},
    )
    assert reading.status is Status.UNKNOWN


@pytest.mark.parametrize(
    "look",
    [
        OptionalEmpty(SystemOptions()),
        Optional(FileNotFoundError(2, "gone")),
        Optional(NotImplementedError("no diskstats")),
    ],
)
def test_a_source_that_a_host_may_lack_is_named_and_is_no_fault(
    context: Context, look: HostCollector
) -> None:
    reading = check(context, look, Whole(SystemOptions()))
    assert [finding.name for finding in reading.findings] == ["whole"]
    assert reading.facts["absent"] == [look.name]
    assert reading.status is Status.HEALTHY


def test_a_source_that_every_host_has_and_that_says_nothing_is_unknown(context: Context) -> None:
    reading = check(context, Empty(SystemOptions()), Whole(SystemOptions()))
    assert reading.findings[0].summary == "cannot read empty from /proc/empty: it says nothing"
    assert reading.status is Status.UNKNOWN
    assert "absent" not in reading.facts


def no_load_averages() -> tuple[float, float, float]:
    raise OSError("Load averages are unobtainable")  # as os.getloadavg has it without /proc/loadavg


def test_a_host_that_shows_nothing_of_itself_is_never_healthy(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``ProcSubset=pid``, in a chroot without /proc, or under a seccomp profile."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    options = SystemOptions(paths=())
    probe = SystemProbe(options, context)
    own = {"load": Load(options, no_load_averages), "paging": Paging(options, tmp_path)}
    own |= {"pressure": Pressure(options, tmp_path), "open_files": OpenFiles(options, tmp_path)}
    own |= {"pids": Pids(options, tmp_path, tmp_path), "stuck_processes": StuckProcesses(options, tmp_path)}
    own |= {"cgroup_memory": CgroupMemory(options, tmp_path, tmp_path)}
    of_sysfs = {"disk_io", "temperature", "nvidia_gpus", "cpu_throttling", "memory_errors", "md_arrays"}
    of_sysfs |= {"infiniband", "pcie_errors", "clock"}  # the clock is a system call
    probe.collectors = tuple(
        own.get(look.name, look) for look in probe.collectors if look.name not in of_sysfs
    )
    reading = probe.check()
    unknown = {finding.name: finding.summary for finding in reading.findings}
    assert {finding.status for finding in reading.findings} == {Status.UNKNOWN}
    assert list(unknown) == [
        *("host", "cpu_use", "load", "memory_available", "paging", "open_files", "pids", "stuck_processes")
    ]
    sources = ("stat", "stat", None, "meminfo", "vmstat", "sys/fs/file-nr", "loadavg", "1/stat")
    for source, summary in zip(sources, unknown.values(), strict=True):
        where = "/proc/loadavg" if source is None else f"{tmp_path}/{source}"
        assert f" from {where}: " in summary
    assert reading.facts["absent"] == ["cgroup_memory", "swap_used", "pressure", "disk_path", "network"]
    assert reading.status is Status.UNKNOWN


def test_only_what_a_host_may_lack_may_be_absent() -> None:
    absent = {look.name for look in COLLECTORS if look.may_be_absent}
    of_memory = {"cgroup_memory", "memory_errors", "swap_used", "pressure"}
    of_devices = {
        "temperature",
        "nvidia_gpus",
        "disk_io",
        "md_arrays",
        "network",
        "infiniband",
        "pcie_errors",
    }
    no_file = {"disk_path", "clock"}  # paths = [] is a choice; a system call may be forbidden
    assert absent == of_memory | of_devices | {"cpu_throttling"} | no_file
    assert all(look.source.startswith("/") for look in COLLECTORS if look.name not in no_file)


def test_a_defect_of_the_probe_is_not_hidden_as_a_reading(context: Context) -> None:
    with pytest.raises(TypeError):
        check(context, Failing(TypeError("a defect")))


def test_whatever_a_check_reports_was_declared_and_no_series_is_there_twice(context: Context) -> None:
    probe = SystemProbe(SystemOptions(path_timeout=LONGEST_PATH_TIMEOUT), context)
    readings = [probe.check(), probe.check()]
    declared = {metric.name: metric for metric in probe.metrics}
    findings = {name for look in COLLECTORS for name in (look.name, *look.findings)}
    for reading in readings:
        for sample in reading.samples:
            assert tuple(name for name, _ in sample.labels) == declared[sample.name].labels
        assert len({(sample.name, sample.labels) for sample in reading.samples}) == len(reading.samples)
        assert len({(finding.name, finding.subject) for finding in reading.findings}) == len(reading.findings)
        assert {finding.name for finding in reading.findings} <= findings


def test_no_metric_is_declared_twice() -> None:
    names = [metric.name for metric in SystemProbe.metrics]
    assert len(names) == len(set(names))


def test_the_probe_may_block_and_therefore_has_a_process_of_its_own() -> None:
    schedule = SystemProbe.schedule
    assert (schedule.interval, schedule.timeout, schedule.isolation) == (15, 5, "process")
    assert (schedule.fail_after, schedule.recover_after) == (2, 2)
    assert SystemOptions().path_timeout == schedule.timeout / 5
    assert schedule.timeout * 0.8 == LONGEST_PATH_TIMEOUT
    assert SystemProbe.Options is SystemOptions
    assert get_args(SystemProbe.__orig_bases__[0]) == (SystemOptions,)  # type: ignore[attr-defined]


def test_no_paths_is_a_choice(context: Context) -> None:
    reading = SystemProbe(SystemOptions(paths=()), context).check()
    assert "disk_path" in reading.facts["absent"]
    assert reading.status is not Status.UNKNOWN
