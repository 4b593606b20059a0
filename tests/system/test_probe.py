"""The row of looks: one that fails, one that has nothing, and what is declared."""

from typing import get_args

import pytest

from mlopsd.probe import Context, Finding, Metric, Reading, Status
from mlopsd_probes.system import LOOKS, SystemProbe
from mlopsd_probes.system.look import Look
from mlopsd_probes.system.options import SystemOptions

NUMBER = Metric("number", "A number.")


class Whole(Look):
    name = "whole"
    findings = ("whole",)
    metrics = (NUMBER,)

    def look(self) -> Reading:
        return Reading([Finding("whole", Status.HEALTHY, "it is")], [NUMBER.sample(1)], {"key": "value"})


class Failing(Look):
    name = "failing"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def look(self) -> Reading:
        raise self.error


class Empty(Look):
    name = "empty"

    def look(self) -> Reading:
        return Reading()


def check(context: Context, *looks: Look) -> Reading:
    probe = SystemProbe(SystemOptions(), context)
    probe.looks = looks
    return probe.check()


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/proc/stat"),
        ValueError("invalid literal for int()"),
        IndexError("list index out of range"),
        RuntimeError("line 'btime' not found in /proc/stat"),
    ],
)
def test_a_look_that_fails_takes_only_its_own_part(context: Context, error: Exception) -> None:
    reading = check(context, Failing(error), Whole(SystemOptions()))
    failed, whole = reading.findings
    assert (failed.name, failed.status) == ("failing", Status.UNKNOWN)
    assert failed.summary == f"cannot read failing: {error}"
    assert (whole.status, len(reading.samples), dict(reading.facts)) == (
        Status.HEALTHY,
        1,
        {"key": "value"},
    )
    assert reading.status is Status.UNKNOWN


@pytest.mark.parametrize(
    "look",
    [
        Empty(SystemOptions()),
        Failing(FileNotFoundError(2, "gone")),
        Failing(NotImplementedError("no diskstats")),
    ],
)
def test_a_source_that_is_not_there_is_named_and_is_no_fault(context: Context, look: Look) -> None:
    reading = check(context, look, Whole(SystemOptions()))
    assert [finding.name for finding in reading.findings] == ["whole"]
    assert reading.facts["absent"] == [look.name]
    assert reading.status is Status.HEALTHY


def test_a_defect_of_the_probe_is_not_hidden_as_a_reading(context: Context) -> None:
    with pytest.raises(TypeError):
        check(context, Failing(TypeError("a defect")))


def test_whatever_a_check_reports_was_declared_and_no_series_is_there_twice(context: Context) -> None:
    probe = SystemProbe(SystemOptions(path_timeout=10), context)
    readings = [probe.check(), probe.check()]
    declared = {metric.name: metric for metric in probe.metrics}
    findings = {name for look in LOOKS for name in (look.name, *look.findings)}
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
    assert SystemProbe.Options is SystemOptions
    assert get_args(SystemProbe.__orig_bases__[0]) == (SystemOptions,)  # type: ignore[attr-defined]


def test_no_paths_is_a_choice(context: Context) -> None:
    reading = SystemProbe(SystemOptions(paths=()), context).check()
    assert "disk_path" in reading.facts["absent"]
    assert reading.status is not Status.UNKNOWN
