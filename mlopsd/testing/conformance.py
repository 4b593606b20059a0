"""The conformance tests of every probe's duties, for the probe's own test suite to inherit."""

import asyncio
import inspect
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import ValidationError

from mlopsd.board import Board
from mlopsd.config import plugins
from mlopsd.config.load import LoadedConfig
from mlopsd.config.plugins import PluginError
from mlopsd.config.probes import ProbeConfig, configure, place
from mlopsd.config.schema import ProbeTable, Settings
from mlopsd.config.sources import Layer
from mlopsd.entry import Entry
from mlopsd.failures import BROKEN, RESULTS, CheckTimeout, why
from mlopsd.metrics.registry import Metrics
from mlopsd.predictor import PredictionError, is_predictor
from mlopsd.probe import (
    Advice,
    Context,
    Finding,
    Probe,
    ProbeError,
    Reading,
    ReloadRefused,
    Status,
    can_reload,
    declared_routes,
    has_routes,
)
from mlopsd.testing.deadline import run_coroutine
from mlopsd.watch import Watch
from mlopsd.worker.factory import make_worker
from mlopsd.worker.mask import MASKED, SecretMask
from mlopsd.worker.process import ProcessWorker
from mlopsd.worker.worker import Worker

FAILURES = frozenset({BROKEN, *RESULTS.values()} - {"cannot_tell"})  # an unknown reading is a valid one
REFUSALS = frozenset({400, 413, 415, 429, 500, 503, 504})
NO_SUCH_KEY = "no_probe_has_this_key"
GAP = 0.05  # seconds between two checks: the kernel counts CPU time in ticks of up to 10 ms
MOST_STARTS = 3  # a start just below the timeout leaves too little time for the first check
MOST_CHECKS = 6  # of one test, starts included
LONGEST_SUMMARY = 300  # characters: a sentence for a person, on a page and in a notification
FIRST_TEST = "test_it_is_installed_under_its_name_and_loads"

Result = TypeVar("Result")


class ProbeConformance:
    """The conformance tests of one probe.

    Inherit it in a class called ``Test…`` and set `name`: pytest runs every test below on your probe.
    A probe with ``isolation = "process"`` runs only in its child process, as in the daemon.

    Attributes:
        name: The entry point's name in the group ``mlopsd.probes``.
        table: The probe's own keys, as in its configuration table. Or define a pytest fixture called
            ``table`` that returns them, if they need a folder or a server of the test.
        may_be_absent: Declared metrics for which this machine may have no number.
        patience: The seconds that one test may take beyond the timeouts of its checks.
    """

    name: ClassVar[str]
    table: ClassVar[Any] = {}
    may_be_absent: ClassVar[AbstractSet[str]] = frozenset()
    patience: ClassVar[float] = 60.0

    _table: Mapping[str, Any] | None = None
    _cache: ClassVar[dict[str, Any]] = {}  # `_CheckedTwice`, or why there is none

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._cache = {}  # each class has its own

    @pytest.fixture(autouse=True)
    def _table_of_the_test(self, request: pytest.FixtureRequest) -> None:
        """Take the fixture ``table`` if there is one, else the attribute."""
        attribute = type(self).table
        if isinstance(attribute, Mapping) and attribute:
            self._table = attribute
            return
        try:
            self._table = request.getfixturevalue("table")
        except LookupError:
            self._table = {}

    def test_it_is_installed_under_its_name_and_loads(self) -> None:
        """Check that the entry point exists, is the only one of its name, and is a probe."""
        try:
            plugins.choose(plugins.find(), self.name).load()
        except PluginError as error:
            raise AssertionError(str(error)) from error

    def test_it_says_what_it_is(self) -> None:
        """Check that the class has a docstring of its own, which ``mlopsd probes`` shows."""
        found = self._class()
        assert found.__doc__, f"{found.__name__} has no docstring"

    def test_its_metrics_are_distinct(self) -> None:
        """Check that no metric name is declared twice."""
        names = [metric.name for metric in self._declared()]
        twice = sorted({name for name in names if names.count(name) > 1})
        assert not twice, f"declared twice: {', '.join(twice)}; remove one of each"

    def test_its_table_shows_what_it_declares(self) -> None:
        """Check that each column of `Probe.table` shows a declared metric."""
        table, declared = self._class().table, set(self._declared())
        for column in table.columns if table is not None else ():
            for metric in filter(None, (column.metric, column.limit)):
                assert metric in declared, f"column {column.title} shows {metric.name}, which is not declared"

    def test_its_schedule_makes_sense(self) -> None:
        """Check that no check overlaps the next one."""
        schedule = self._class().schedule
        times = f"timeout {schedule.timeout:g} s, interval {schedule.interval:g} s"
        assert schedule.timeout <= schedule.interval, f"a check may last longer than its interval: {times}"

    def test_an_unknown_key_is_refused(self) -> None:
        """Check that a misspelt option is an error that names it."""
        refusal = self._refusal({**self._own_table(), NO_SUCH_KEY: 1})
        assert NO_SUCH_KEY in refusal, f"{NO_SUCH_KEY} was accepted as an option; forbid extra keys"

    def test_its_table_can_go_to_another_process(self) -> None:
        """Check that the keys are plain JSON."""
        self._class()
        table = dict(self._own_table())
        try:
            copy = json.loads(json.dumps(table))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"its table is no JSON: {error}; use plain values") from error
        assert copy == table, f"its table changes on its way through JSON: {table} becomes {copy}"

    def test_a_check_gives_a_reading_with_evidence(self) -> None:
        """Check twice, in the probe's own isolation; a reading without a finding fails."""
        for reading in self._readings():
            failure = failure_of(reading)
            assert failure is None, f"check() gave no reading: {reading.summary}"
            assert reading.findings, "a reading without a finding is no evidence of anything"

    def test_it_does_not_block_the_event_loop(self) -> None:
        """Check that no coroutine holds the event loop of the daemon."""
        for reading in self._readings():
            holds = [finding.summary for finding in reading.findings if finding.name == "event_loop"]
            assert not holds, holds[0]

    def test_its_status_is_that_of_its_worst_finding(self) -> None:
        """Check that the status has a finding as its reason: the daemon rejects a better status."""
        for reading in self._readings():
            failure = failure_of(reading)
            assert failure is None or failure.name != "nonsense", reading.summary
            if failure is None:
                worst = max((finding.status for finding in reading.findings), default=Status.UNKNOWN)
                what = f"the reading is {reading.status}, but its worst finding is {worst}"
                assert reading.status == worst, f"{what}; omit the status, or add a finding"

    def test_every_finding_can_be_told_from_the_others(self) -> None:
        """Check that name and subject of a finding are unique together, and that it has a summary."""
        for reading in self._readings():
            identities = [_identity(finding) for finding in reading.findings]
            twice = {
                f"{name} of {subject}"
                for name, subject in identities
                if identities.count((name, subject)) > 1
            }
            assert not twice, f"more than one finding is called {', '.join(sorted(twice))}; add a subject"
            for finding in reading.findings:
                assert finding.summary.strip(), f"finding {finding.name} has no summary; write one sentence"

    def test_its_summaries_are_short(self) -> None:
        """Check that each summary is a sentence and no report."""
        for reading in self._readings():
            named = {"the reading": reading.summary}
            named |= {f"finding {finding.name}": finding.summary for finding in reading.findings}
            for what, summary in named.items():
                long = f"the summary of {what} has {len(summary)} characters, more than {LONGEST_SUMMARY}"
                assert len(summary) <= LONGEST_SUMMARY, f"{long}; put details into the facts"

    def test_a_lasting_finding_says_what_to_do(self) -> None:
        """Check that a lasting finding has an advice, since it stays until somebody acts."""
        for reading in self._readings():
            for finding in reading.findings:
                is_problem = finding.lasting and finding.status is not Status.HEALTHY
                assert not is_problem or finding.advice > Advice.WATCH, f"{finding.name} lasts without advice"

    def test_it_reports_what_it_declares(self) -> None:
        """Check that samples match declared metrics, and that every declared gauge is reported."""
        declared = {metric.name: metric for metric in self._declared()}
        reported: set[str] = set()
        for reading in self._readings():
            for sample in reading.samples:
                assert sample.name in declared, f"{sample.name} is reported and not declared"
                labels = tuple(name for name, _ in sample.labels)
                wanted = declared[sample.name].labels
                assert labels == wanted, f"{sample.name} has the labels {labels}, and declares {wanted}"
                reported.add(sample.name)
        silent = {name for name in declared if declared[name].kind == "gauge"} - reported - self.may_be_absent
        assert not silent, f"declared and never reported: {sorted(silent)}"

    def test_no_sample_is_there_twice(self) -> None:
        """Check that no two samples have the same name and labels: the daemon rejects such a reading."""
        for reading in self._readings():
            assert "report each series once" not in reading.summary, reading.summary

    def test_it_tells_no_secret(self) -> None:
        """Check that no value of a ``SecretStr`` leaves the probe, though the daemon masks it."""
        configured = self._configured()
        mask = SecretMask.of([configured.options])
        for reading in self._checked().raw:
            for part in ("summary", "findings", "samples", "facts"):
                told = getattr(mask.reading(reading), part) != getattr(reading, part)
                assert not told, f"the {part} of its reading tell a secret of its options; write {MASKED}"

    def test_it_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        """Check that it logs and does not print: the daemon's output is a log of JSON lines."""
        lines: list[str] = []
        capfd.readouterr()
        self._check_twice(on_line=lines.append)
        printed = capfd.readouterr()
        lines += [*printed.out.splitlines(), *printed.err.splitlines()]
        assert not lines, f"it printed {lines[0]!r:.80}; use self.context.log"

    def test_a_reload_says_what_it_did(self) -> None:
        """Check that a dry run of `reload` returns a sentence, or raises `ReloadRefused` or `ProbeError`."""
        if not can_reload(self._class()):
            return

        async def reload(watch: Watch, _worker: Worker) -> None:
            await watch.check()
            try:
                done = await watch.start_reload(dry_run=True, force=False).done
            except (ReloadRefused, ProbeError):
                return
            except Exception as error:  # the boundary to third-party code
                raise AssertionError(f"reload failed: {why(error)}") from error
            assert done.strip(), "reload returned an empty text; return a sentence that says what was done"

        self._watching(reload)

    def test_two_of_it_do_not_disturb_each_other(self) -> None:
        """Check in turns and close one: two tables may use one plugin."""

        async def check_in_turns(first: Watch, its: _ObservedWorker) -> None:
            async with self._watched(self._configured("second")) as (second, other):
                for watch, worker in ((first, its), (second, other), (first, its)):
                    _check_reading((await _from_the_start(watch, worker)).reading)
                await first.close()
                _check_reading((await _later(second)).reading)

        self._watching(check_in_turns)

    def test_it_can_be_closed_before_its_first_check(self, tmp_path: Path) -> None:
        """Close before the first check: a daemon may stop at any moment."""
        if self._configured().isolation == "process":
            self._watching(_close_early)
            return

        async def close() -> None:
            await _awaited(self._make("closed", tmp_path).close())

        self._run(close)

    def test_a_predictor_without_a_prediction_says_why(self, tmp_path: Path) -> None:
        """Check that `predict` raises only `PredictionError`, also before the first check and after close."""
        if not is_predictor(self._class()):
            return

        async def ask() -> None:
            probe: Any = self._make("asked", tmp_path)
            for content_type in ("application/json", "", "text/nonsense"):
                await _refused_or_answered(probe, b"", content_type)
            version = probe.served_version
            assert version is None or isinstance(version, str), f"served_version is {version!r}, not a str"
            await _awaited(probe.close())
            await _refused_or_answered(probe, b"{}", "application/json")

        self._run(ask)

    def test_its_routes_can_be_served(self, tmp_path: Path) -> None:
        """Check that no two routes match the same requests, and that the probe runs in the daemon."""
        found = self._class()
        isolation = place(found)
        if not has_routes(found):
            return
        assert isolation != "process", "routes run in the daemon, not in a process"

        async def declare() -> None:
            probe = self._make("routed", tmp_path)
            try:
                declared_routes(probe)
            except (TypeError, ValueError) as error:
                raise AssertionError(str(error)) from error
            finally:
                await _awaited(probe.close())

        self._run(declare)

    def _class(self) -> type[Probe[Any]]:
        """Return the class. If it cannot be loaded, skip the test: the first one fails and says why."""
        try:
            return plugins.choose(plugins.find(), self.name).load()
        except PluginError as error:
            pytest.skip(f"see {FIRST_TEST}: {error}")

    def _own_table(self) -> Mapping[str, Any]:
        table: Mapping[str, Any] = type(self).table if self._table is None else self._table
        return table

    def _declared(self) -> Any:
        found = self._class()
        return found.declares(found.Options(**self._own_table()))

    def _refusal(self, table: Mapping[str, Any]) -> str:
        """Return why *table* is invalid, or "" if it is valid."""
        try:
            self._class().Options(**table)
        except ValidationError as error:
            return str(error)
        return ""

    def _configured(self, name: str = "conform") -> ProbeConfig:
        self._class()
        settings = Settings(probes={name: ProbeTable(use=self.name, **self._own_table())})
        (configured,) = configure(LoadedConfig(settings, None, (Layer("the test", {}),)))
        return configured

    def _limit(self) -> float:
        return self.patience + MOST_CHECKS * self._class().schedule.timeout

    def _run(self, coroutine: Callable[[], Any]) -> Any:
        return run_coroutine(self._limit(), coroutine)

    @asynccontextmanager
    async def _watched(
        self, configured: ProbeConfig, on_line: Callable[[str], None] = lambda _line: None
    ) -> AsyncIterator[tuple[Watch, "_ObservedWorker"]]:
        board = Board()
        board.enrol(configured.name, configured.plugin.name, configured.terms)
        recorder = Metrics(board, "0").probes
        log = _PrintedLog(on_line)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            worker = _ObservedWorker(make_worker(configured, Path(folder), board, recorder, log))
            watch = Watch(configured, worker, board, recorder)
            try:
                yield watch, worker
            finally:
                await watch.close()
                board.close()

    def _watching(self, use: Callable[[Watch, Any], Awaitable[Result]], **options: Any) -> Result:
        """Return the result of *use* with a watch of the probe, in its own isolation."""
        configured = self._configured()

        async def watch() -> Result:
            async with self._watched(configured, **options) as (watch, worker):
                return await use(watch, worker)

        result: Result = self._run(watch)
        return result

    def _readings(self) -> Sequence[Reading]:
        """Return the readings of two checks, as the daemon has them."""
        return self._checked().masked

    def _checked(self) -> "_CheckedTwice":
        """Return the readings of two checks, which the tests of a class share as long as the table is equal.

        Raises:
            AssertionError: The probe does not return.
        """
        key = repr(dict(self._own_table()))
        if key not in self._cache:
            try:
                self._cache[key] = self._check_twice()
            except AssertionError as error:
                self._cache[key] = str(error)
        found = self._cache[key]
        assert isinstance(found, _CheckedTwice), found
        return found

    def _check_twice(self, **options: Any) -> "_CheckedTwice":
        """Check twice in the probe's own isolation.

        The first check includes the start of the process. If it times out, it is retried in another process.
        A slow start may be this machine's fault, but a slow check is slow there too.
        """

        async def check(watch: Watch, worker: _ObservedWorker) -> _CheckedTwice:
            entries = [await _from_the_start(watch, worker), await _later(watch)]
            return _CheckedTwice([entry.reading for entry in entries], worker.readings)

        for _ in range(MOST_STARTS):
            found = self._watching(check, **options)
            if self._configured().isolation != "process" or not _is_late(found.masked[0]):
                break
        return found

    def _make(self, name: str, state_dir: Path) -> Probe[Any]:
        """Make the probe in this process, where it also runs in the daemon."""
        configured = self._configured(name)
        instruments = Metrics(Board(), "0").probes.instruments(name, self.name, self._declared())
        folder = state_dir / name
        folder.mkdir(exist_ok=True)
        log = logging.getLogger("mlopsd.testing")
        timeout = configured.terms.timeout
        return configured.probe(configured.options, Context(name, folder, log, {}, instruments, timeout))


@dataclass(frozen=True, slots=True)
class _CheckedTwice:
    """The readings of two checks, as the daemon has them and as the probe gave them."""

    masked: Sequence[Reading]
    raw: Sequence[Reading]


class _PrintedLog(logging.Logger):
    """A log that passes on the lines that a process prints."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__("mlopsd.testing")
        self.addHandler(logging.NullHandler())
        self._on_line = on_line

    def handle(self, record: logging.LogRecord) -> None:
        """Pass on a printed line; drop any other record."""
        line = getattr(record, "line", None)
        if line is not None:
            self._on_line(line)


class _ObservedWorker:
    """A worker that keeps the *readings* as the probe gave them."""

    def __init__(self, worker: Worker) -> None:
        self.readings: list[Reading] = []
        self.worker = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self.worker, name)

    async def check(self) -> Reading:
        """Run one check."""
        reading = await self.worker.check()
        self.readings.append(reading)
        return reading


async def _from_the_start(watch: Watch, observed: _ObservedWorker) -> Entry:
    """Check, and while the process is still starting, check again."""
    worker = observed.worker
    entry = await watch.check()
    for _ in range(MOST_STARTS):
        if not (_is_late(entry.reading) and isinstance(worker, ProcessWorker) and not worker.pause):
            break
        entry = await watch.check()  # its process is still starting and was not killed
    return entry


async def _close_early(_watch: Watch, worker: _ObservedWorker) -> None:
    worker.prepare()
    await worker.close()


def _check_reading(reading: Reading) -> None:
    assert failure_of(reading) is None, f"check() gave no reading: {reading.summary}"


async def _later(watch: Watch) -> Entry:
    """Check after a gap: a daemon never checks twice in one tick, where no rate can be read."""
    await asyncio.sleep(GAP)
    return await watch.check()


def failure_of(reading: Reading) -> Finding | None:
    """Return the daemon's own finding for a check that gave no reading, or None."""
    unknown = (finding for finding in reading.findings if finding.status is Status.UNKNOWN)
    return next((finding for finding in unknown if finding.name in FAILURES), None)


def _is_late(reading: Reading) -> bool:
    failure = failure_of(reading)
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
