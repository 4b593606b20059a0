"""The conformance kit: tests of every probe's duties, for the probe's own test suite to inherit.

::

    from mlopsd.testing import ProbeConformance

    class TestDoor(ProbeConformance):
        name = "door"                      # the entry point
        table = {"path": "/dev/door"}      # its keys, if the defaults are not enough
        may_be_absent = {"door_celsius"}   # metrics that this machine may not have
"""

import asyncio
import inspect
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from mlopsd.board import Board
from mlopsd.config import plugins
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig, configure, place
from mlopsd.config.schema import ProbeTable, Settings
from mlopsd.config.sources import Layer
from mlopsd.entry import Entry
from mlopsd.failures import BROKEN, RESULTS, CheckTimeout
from mlopsd.metrics.registry import Metrics
from mlopsd.predictor import PredictionError, is_predictor
from mlopsd.probe import Advice, Context, Finding, Probe, Reading, Status, declared_routes, has_routes
from mlopsd.watch import Watch
from mlopsd.worker.factory import make_worker
from mlopsd.worker.process import ProcessWorker

__all__ = ["ProbeConformance"]

FAILURES = frozenset({BROKEN, *RESULTS.values()} - {"cannot_tell"})  # an unknown reading is a valid one
REFUSALS = frozenset({400, 413, 415, 429, 500, 503, 504})
NO_SUCH_KEY = "no_probe_has_this_key"
GAP = 0.05  # seconds between two checks: the kernel counts CPU time in ticks of up to 10 ms
MOST_STARTS = 3  # a start just below the timeout leaves too little time for the first check


class ProbeConformance:
    """The conformance tests of one probe.

    Inherit it in a class called ``Test…`` and set `name`: pytest runs every test below on your probe.

    Attributes:
        name: The entry point's name in the group ``mlopsd.probes``.
        table: The probe's own keys, as in its configuration table.
        may_be_absent: Declared metrics for which this machine may have no number.
    """

    name: ClassVar[str]
    table: ClassVar[Mapping[str, Any]] = {}
    may_be_absent: ClassVar[frozenset[str]] = frozenset()

    def test_it_is_installed_under_its_name_and_loads(self) -> None:
        """Check that the entry point exists, is the only one of its name, and is a probe."""
        assert issubclass(self._class(), Probe)

    def test_it_says_what_it_is(self) -> None:
        """Check that the class has a docstring of its own, and every metric a help text."""
        found = self._class()
        assert found.__doc__, f"{found.__name__} has no docstring"
        assert found.__doc__ != Probe.__doc__, f"{found.__name__} has no docstring of its own"
        for metric in found.metrics:
            assert metric.help.strip(), f"metric {metric.name} has no help"

    def test_its_metrics_are_distinct(self) -> None:
        """Check that no metric name is declared twice."""
        names = [metric.name for metric in self._class().metrics]
        assert sorted(names) == sorted(set(names))

    def test_its_schedule_makes_sense(self) -> None:
        """Check that interval, timeout and numbers of readings are above 0."""
        schedule = self._class().schedule
        assert schedule.timeout > 0
        assert schedule.interval > 0
        assert min(schedule.fail_after, schedule.recover_after) >= 1

    def test_an_unknown_key_is_refused(self) -> None:
        """Check that a misspelt option is an error that names it."""
        refusal = self._refusal({**self.table, NO_SUCH_KEY: 1})
        assert NO_SUCH_KEY in refusal, f"{NO_SUCH_KEY} was accepted as an option; forbid extra keys"

    def test_its_table_can_go_to_another_process(self) -> None:
        """Check that the keys are plain JSON."""
        assert json.loads(json.dumps(dict(self.table))) == dict(self.table)

    def test_a_check_gives_a_reading_with_evidence(self) -> None:
        """Check twice, in the probe's own isolation; a reading without a finding fails."""
        for entry in self._entries(checks=2):
            reading = entry.reading
            assert failure_of(reading) is None, f"check() gave no reading: {reading.summary}"
            assert reading.findings, "a reading without a finding is no evidence of anything"
            assert reading.summary, "the reading has no summary"

    def test_no_finding_is_worse_than_its_reading(self) -> None:
        """Check that no status is better than its findings: the daemon rejects such a reading."""
        for entry in self._entries():
            failure = failure_of(entry.reading)
            assert failure is None or failure.name != "nonsense", entry.reading.summary

    def test_every_finding_can_be_told_from_the_others(self) -> None:
        """Check that name and subject of a finding are unique together, and that it has a summary."""
        for entry in self._entries():
            identities = [_identity(finding) for finding in entry.reading.findings]
            assert len(identities) == len(set(identities)), identities
            assert all(finding.summary.strip() for finding in entry.reading.findings)

    def test_a_lasting_finding_says_what_to_do(self) -> None:
        """Check that a lasting finding has an advice, since it stays until somebody acts."""
        for entry in self._entries():
            for finding in entry.reading.findings:
                is_problem = finding.lasting and finding.status is not Status.HEALTHY
                assert not is_problem or finding.advice > Advice.WATCH, f"{finding.name} lasts without advice"

    def test_it_reports_what_it_declares(self) -> None:
        """Check that samples match declared metrics, and that every declared gauge is reported."""
        declared = {metric.name: metric for metric in self._class().metrics}
        reported: set[str] = set()
        for entry in self._entries(checks=2):
            for sample in entry.reading.samples:
                assert sample.name in declared, f"{sample.name} is reported and not declared"
                labels = tuple(name for name, _ in sample.labels)
                assert labels == declared[sample.name].labels, f"{sample.name} has the labels {labels}"
                reported.add(sample.name)
        silent = {name for name in declared if declared[name].kind == "gauge"} - reported - self.may_be_absent
        assert not silent, f"declared and never reported: {sorted(silent)}"

    def test_no_sample_is_there_twice(self) -> None:
        """Check that no two samples have the same name and labels."""
        for entry in self._entries():
            series = [(sample.name, sample.labels) for sample in entry.reading.samples]
            assert len(series) == len(set(series))

    def test_two_of_it_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        """Check in turns and close one: two tables may use one plugin."""

        async def check_in_turns() -> None:
            first, second = self._make("first", tmp_path), self._make("second", tmp_path)
            for probe in (first, second, first):
                assert isinstance(await _awaited(probe.check()), Reading)
            await _awaited(first.close())
            assert isinstance(await _awaited(second.check()), Reading)
            await _awaited(second.close())

        asyncio.run(check_in_turns())

    def test_it_can_be_closed_before_its_first_check(self, tmp_path: Path) -> None:
        """Close before the first check: a daemon may stop at any moment."""

        async def close() -> None:
            await _awaited(self._make("closed", tmp_path).close())

        asyncio.run(close())

    def test_a_predictor_without_a_prediction_says_why(self, tmp_path: Path) -> None:
        """Check that `predict` raises only `PredictionError`, also before the first check and after close."""
        if not is_predictor(self._class()):
            return

        async def ask() -> None:
            probe: Any = self._make("asked", tmp_path)
            for content_type in ("application/json", "", "text/nonsense"):
                await _refused_or_answered(probe, b"", content_type)
            assert probe.served_version is None or isinstance(probe.served_version, str)
            await _awaited(probe.close())
            await _refused_or_answered(probe, b"{}", "application/json")

        asyncio.run(ask())

    def test_its_routes_can_be_served(self, tmp_path: Path) -> None:
        """Check that no two routes match the same requests, and that the probe runs in the daemon."""
        found = self._class()
        isolation = place(found)
        assert not has_routes(found) or isolation != "process", "routes run in the daemon, not in a process"

        async def declare() -> None:
            probe = self._make("routed", tmp_path)
            try:
                declared_routes(probe)
            except (TypeError, ValueError) as error:
                raise AssertionError(str(error)) from error
            finally:
                await _awaited(probe.close())

        asyncio.run(declare())

    def _class(self) -> type[Probe[Any]]:
        return plugins.choose(plugins.find(), self.name).load()

    def _refusal(self, table: Mapping[str, Any]) -> str:
        """Return why *table* is invalid, or "" if it is valid."""
        try:
            self._class().Options(**table)
        except ValidationError as error:
            return str(error)
        return ""

    def _configured(self) -> ProbeConfig:
        settings = Settings(probes={"conform": ProbeTable(use=self.name, **self.table)})
        (configured,) = configure(LoadedConfig(settings, None, (Layer("the test", {}),)))
        return configured

    def _entries(self, checks: int = 1) -> list[Entry]:
        return asyncio.run(_checked(self._configured(), checks))

    def _make(self, name: str, state_dir: Path) -> Probe[Any]:
        found = self._class()
        options = found.Options(**self.table)
        instruments = Metrics(Board(), "0").probes.instruments(name, self.name, found.declares(options))
        folder = state_dir / name
        folder.mkdir(exist_ok=True)
        return found(options, Context(name, folder, logging.getLogger("mlopsd.testing"), {}, instruments))


async def _checked(configured: ProbeConfig, checks: int) -> list[Entry]:
    """Check a probe in its own isolation, and return the entry after each check.

    The first check includes the start of the process. If it times out, it is retried in another process.
    A slow start may be this machine's fault, but a slow check is slow there too.
    """
    for _ in range(MOST_STARTS):
        entries = await _checked_from_the_start(configured, checks)
        if configured.isolation != "process" or not _is_late(entries[0]):
            break
    return entries


async def _checked_from_the_start(configured: ProbeConfig, checks: int) -> list[Entry]:
    board = Board()
    board.enrol(configured.name, configured.plugin.name, configured.terms)
    recorder = Metrics(board, "0").probes
    log = logging.getLogger("mlopsd.testing")
    with tempfile.TemporaryDirectory() as folder:
        worker = make_worker(configured, Path(folder), board, recorder, log)
        watch = Watch(configured, worker, board, recorder)
        try:
            first = await watch.check()
            while _is_late(first) and isinstance(worker, ProcessWorker) and not worker.pause:
                first = await watch.check()  # its process is still starting and was not killed
            return [first, *[await _later(watch) for _ in range(checks - 1)]]
        finally:
            await watch.close()
            board.close()


async def _later(watch: Watch) -> Entry:
    """Check after a gap: a daemon never checks twice in one tick, where no rate can be read."""
    await asyncio.sleep(GAP)
    return await watch.check()


def failure_of(reading: Reading) -> Finding | None:
    """Return the daemon's own finding for a check that gave no reading, or None."""
    unknown = (finding for finding in reading.findings if finding.status is Status.UNKNOWN)
    return next((finding for finding in unknown if finding.name in FAILURES), None)


def _is_late(entry: Entry) -> bool:
    failure = failure_of(entry.reading)
    return failure is not None and failure.name == RESULTS[CheckTimeout]


async def _awaited(result: Any) -> Any:
    """Return *result*, awaited if it is awaitable."""
    return await result if inspect.isawaitable(result) else result


async def _refused_or_answered(probe: Any, body: bytes, content_type: str) -> None:
    """Request a prediction; accept it, or a `PredictionError` with a documented code and a detail."""
    try:
        prediction = await probe.predict(body, content_type)
    except PredictionError as error:
        refusal = error
    else:
        assert isinstance(prediction.body, bytes), "a prediction's body is bytes"
        return
    assert refusal.code in REFUSALS, f"{refusal.code} is not a code of a prediction error"
    assert refusal.detail.strip(), "a prediction error needs a detail"


def _identity(finding: Finding) -> tuple[str, str | None]:
    return finding.name, finding.subject
