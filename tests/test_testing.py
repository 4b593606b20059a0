"""The kit that strangers run, run here over every installed entry point; and shown to be able to fail."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlopsd.config import plugins
from mlopsd.config.plugins import Plugin
from mlopsd.predictor import Prediction, PredictionError, Predictor
from mlopsd.probe import (
    Context,
    Finding,
    HttpRequest,
    HttpResponse,
    Metric,
    Options,
    Probe,
    Reading,
    Route,
    Sample,
    Schedule,
    Status,
)
from mlopsd.testing import ProbeConformance

MAY_BE_ABSENT = {
    # what this machine may not have: swap, PSI, sensors, a cgroup limit, some counters of a virtual disk,
    # InfiniBand, arrays, and the right to ask for the clock; and
    # in a container nothing is said of GPUs
    "system": frozenset(
        metric.name
        for metric in plugins.choose(plugins.find(), "system").load().metrics
        if metric.name.startswith(
            (
                *("swap_", "pressure_", "temperature_", "cgroup_", "disk_io_", "pids_", "nvidia_"),
                *("infiniband_", "md_", "clock_"),
            )
        )
    ),
    # there may be no GPU
    "gpu": frozenset(metric.name for metric in plugins.choose(plugins.find(), "gpu").load().metrics),
    # a registry that refuses names no version, and nothing is loaded
    "model": frozenset(metric.name for metric in plugins.choose(plugins.find(), "model").load().metrics),
}
TABLES = {"model": {"model": "iris", "registries": [{"uri": "http://127.0.0.1:9"}]}}


def conformance(plugin: Plugin) -> type[ProbeConformance]:
    absent = MAY_BE_ABSENT.get(plugin.name, frozenset())
    return type(
        f"Test_{plugin.name}",
        (ProbeConformance,),
        {"name": plugin.name, "may_be_absent": absent, "table": TABLES.get(plugin.name, {})},
    )


for found in plugins.find():
    globals()[f"Test_{found.name}"] = conformance(found)


LEVEL = Metric("level_ratio", "How full it is.", unit="ratio")
SILENT = Metric("silent_ratio", "Never reported.", unit="ratio")


class LaxOptions(Options):
    model_config: ClassVar[Any] = {"extra": "allow"}


class Lax(Probe):
    """A probe that breaks every rule of the kit."""

    Options = LaxOptions
    metrics = (LEVEL, LEVEL, SILENT)
    schedule = Schedule(interval=0)

    def check(self) -> Reading:
        same = Finding("a", Status.UNHEALTHY, " ")
        return Reading([same, same], [LEVEL.sample(1)])


class Rosy(Probe):
    """It calls itself better than what it found."""

    def check(self) -> Reading:
        return Reading([Finding("door", Status.UNHEALTHY, "broken")], status=Status.DEGRADED)


class Blind(Probe):
    def check(self) -> Reading:
        return Reading(status=Status.HEALTHY, summary="all is well")


class Wordy(Probe):
    """Its status is a word."""

    def check(self) -> Reading:
        return Reading([Finding("door", "degraded", "ajar")], status=Status.HEALTHY)  # type: ignore[arg-type]


class Broken(Probe):
    """It always raises."""

    def check(self) -> Reading:
        raise ZeroDivisionError


class Twice(Probe):
    """It declares one route twice."""

    def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "shut")])

    def routes(self) -> Sequence[Route]:
        return [Route("POST", "/open", self.open, "Open the door")] * 2

    async def open(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Apart(Twice):
    """Its routes cannot be reached in its process."""

    schedule = Schedule(isolation="process")

    def routes(self) -> Sequence[Route]:
        return super().routes()[:1]


class Doubled(Probe):
    """It reports one series twice."""

    metrics = (LEVEL,)

    def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "shut")], [LEVEL.sample(1), LEVEL.sample(1)])


class Mute(Probe):
    """It finds nothing."""

    def check(self) -> Reading:
        return Reading()


class PathTable(Lax):
    """Its table has a path, which JSON has not."""


class TupleTable(Lax):
    """Its table has a tuple, which JSON turns into a list."""


class Gloomy(Probe):
    """It calls itself worse than what it found."""

    def check(self) -> Reading:
        found = [Finding("door", Status.HEALTHY, "shut")]
        return Reading(found, status=Status.UNHEALTHY, summary="the door is gone")


class Terse(Probe):
    """Its finding says nothing."""

    def check(self) -> Reading:
        return Reading([Finding("door", Status.DEGRADED, " ")], summary="ajar")


class Helpless(Probe):
    """Its lasting finding has no advice."""

    def check(self) -> Reading:
        return Reading([Finding("door", Status.DEGRADED, "ajar", lasting=True)])


class Undeclared(Mute):
    """It reports what it does not declare."""

    def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "shut")], [LEVEL.sample(1)])


class Labelled(Mute):
    """It reports a label that it does not declare."""

    metrics = (LEVEL,)

    def check(self) -> Reading:
        sample = Sample(LEVEL.name, 1, (("side", "left"),))
        return Reading([Finding("door", Status.HEALTHY, "shut")], [sample])


class Silent(Undeclared):
    """Its reload says nothing."""

    metrics = (LEVEL,)

    def reload(self, *, dry_run: bool, force: bool) -> str:
        return " "


class Fails(Silent):
    """Its reload fails."""

    def reload(self, *, dry_run: bool, force: bool) -> str:
        raise KeyError("x")


class Exits(Silent):
    """Its constructor ends the interpreter."""

    def __init__(self, options: Options, context: Context) -> None:
        raise SystemExit(3)


class Foretells(Predictor):
    """Its version is a number."""

    @property
    def served_version(self) -> Any:
        return 7

    async def check(self) -> Reading:
        return Reading([Finding("model", Status.HEALTHY, "it serves")])

    async def predict(self, body: bytes, content_type: str) -> Any:
        return Prediction(body)


class Texts(Foretells):
    """Its predictions are text."""

    async def predict(self, body: bytes, content_type: str) -> Any:
        return Prediction("text")  # type: ignore[arg-type]


class Teapot(Foretells):
    """It refuses with an unusual code."""

    async def predict(self, body: bytes, content_type: str) -> Any:
        raise PredictionError(418, "no coffee")


class Wordless(Foretells):
    """It refuses without a reason."""

    async def predict(self, body: bytes, content_type: str) -> Any:
        raise PredictionError(400, " ")


PREDICTS = "test_a_predictor_without_a_prediction_says_why"
OWN_TABLES: dict[type, Any] = {
    **{kind: {"model": "iris"} for kind in (Foretells, Texts, Teapot, Wordless)},
    PathTable: {"path": Path("/")},
    TupleTable: {"paths": ("/",)},
}


@pytest.mark.parametrize(
    ("kind", "rule", "line"),
    [
        (Lax, "test_its_metrics_are_distinct", "declared twice: level_ratio; remove one of each"),
        (
            Lax,
            "test_its_schedule_makes_sense",
            "longer than its interval: timeout 10 s, interval 0 s",
        ),
        (Lax, "test_an_unknown_key_is_refused", "no_probe_has_this_key was accepted as an option"),
        (PathTable, "test_its_table_can_go_to_another_process", "its table is no JSON: .*PosixPath"),
        (TupleTable, "test_its_table_can_go_to_another_process", "its table changes on its way"),
        (Rosy, "test_its_status_is_that_of_its_worst_finding", "but its finding 'door' is unhealthy"),
        (Rosy, "test_a_check_gives_a_reading_with_evidence", "gave no reading: .* 'door' is unhealthy"),
        (
            Gloomy,
            "test_its_status_is_that_of_its_worst_finding",
            "its worst finding is healthy; omit the",
        ),
        (Blind, "test_its_status_is_that_of_its_worst_finding", "healthy without a finding"),
        (
            Lax,
            "test_every_finding_can_be_told_from_the_others",
            "more than one finding is called a of None",
        ),
        (
            Terse,
            "test_every_finding_can_be_told_from_the_others",
            "finding door has no summary; write one",
        ),
        (Helpless, "test_a_lasting_finding_says_what_to_do", "door lasts without advice"),
        (Lax, "test_it_reports_what_it_declares", r"declared and never reported: \['silent_ratio'\]"),
        (Undeclared, "test_it_reports_what_it_declares", "level_ratio is reported and not declared"),
        (Labelled, "test_it_reports_what_it_declares", r"has the labels \('side',\), and declares \(\)"),
        (Doubled, "test_no_sample_is_there_twice", "report each series once"),
        (Blind, "test_it_says_what_it_is", "Blind has no docstring"),
        (Blind, "test_a_check_gives_a_reading_with_evidence", "healthy without a finding"),
        (
            Wordy,
            "test_a_check_gives_a_reading_with_evidence",
            "finding 'door': its status is not a Status",
        ),
        (Broken, "test_a_check_gives_a_reading_with_evidence", "gave no reading: ZeroDivisionError"),
        (
            Mute,
            "test_a_check_gives_a_reading_with_evidence",
            "a reading without a finding is no evidence",
        ),
        (Silent, "test_a_reload_says_what_it_did", "reload returned an empty text; return a sentence"),
        (Fails, "test_a_reload_says_what_it_did", "reload failed: KeyError: 'x'"),
        (
            Exits,
            "test_it_can_be_closed_before_its_first_check",
            "the probe raised SystemExit; raise ProbeEr",
        ),
        (Foretells, PREDICTS, "served_version is 7, not a str"),
        (Texts, PREDICTS, "a prediction's body is bytes"),
        (Teapot, PREDICTS, "418 is not a code of a prediction error"),
        (Wordless, PREDICTS, "a prediction error needs a detail"),
        (Twice, "test_its_routes_can_be_served", "two routes match the same requests"),
        (Apart, "test_its_routes_can_be_served", "routes run in the daemon, not in a process"),
    ],
)
def test_the_kit_finds_what_is_wrong(
    kind: type[Probe], rule: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point = EntryPoint("lax", f"{__name__}:{kind.__name__}", plugins.GROUP)
    monkeypatch.setattr(plugins, "find", lambda: plugins_of(point))
    monkeypatch.setattr(Plugin, "load", lambda self: kind)
    checker = type("Checked", (ProbeConformance,), {"name": "lax", "table": OWN_TABLES.get(kind, {})})()
    method = getattr(checker, rule)
    with pytest.raises(AssertionError, match=line):
        method(tmp_path) if "tmp_path" in method.__code__.co_varnames else method()


def plugins_of(point: EntryPoint) -> tuple[Plugin, ...]:
    return (Plugin(point.name, point.value),)


def checked_in_its_process(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule on checks, for the class *kind* among the misbehaving probes."""
    monkeypatch.setattr(plugins, "find", lambda: (Plugin("slow", f"troubled:{kind}"),))
    checker: Any = type("Checked", (ProbeConformance,), {"name": "slow"})()
    checker.test_a_check_gives_a_reading_with_evidence()


def test_a_process_may_take_longer_to_start_than_a_check_may(
    strange_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_in_its_process("SlowToStart", monkeypatch)


def test_the_first_check_in_a_process_may_not_take_longer_than_any_other(
    strange_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="no answer within 1 s"):
        checked_in_its_process("SlowAtFirst", monkeypatch)


def test_the_kit_passes_on_a_decent_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Decent(Probe):
        """Full or not."""

        metrics = (LEVEL,)

        def check(self) -> Reading:
            return Reading([Finding("level", Status.HEALTHY, "half full")], [LEVEL.sample(0.5)])

    monkeypatch.setattr(plugins, "find", lambda: (Plugin("decent", "tests:Decent"),))
    monkeypatch.setattr(Plugin, "load", lambda self: Decent)
    checker: Any = type("Checked", (ProbeConformance,), {"name": "decent"})()
    rules = [name for name in dir(checker) if name.startswith("test_")]
    assert len(rules) >= 18
    for rule in rules:
        method = getattr(checker, rule)
        wanted = set(method.__code__.co_varnames) & {"tmp_path", "capfd"}
        method(*[{"tmp_path": tmp_path, "capfd": capfd}[name] for name in wanted])
