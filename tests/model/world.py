"""A reconciler over a registry, a disk and hosts that a test steers."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from mlopsd.predictor import Prediction, Progress
from mlopsd.probe import Context, Finding, Reading, Status
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.report import report
from mlopsd_probes.model.rollout.reconciler import Reconciler
from mlopsd_probes.model.rollout.steps import RolloutContext
from mlopsd_probes.model.serving.canary import CanaryResult
from mlopsd_probes.model.serving.host import HostContext, HostDied, LoadFailed, ModelHost
from mlopsd_probes.model.serving.liveness import Backlog, Reason
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.registries import Complaint, FetchError, Registries, RegistryError, Resolution
from mlopsd_probes.registry.version import File, LoggedMetric, Version
from tests.fakes import Instruments, Sink
from tests.running import GIVE_UP

URI = "http://registry"
WELL = CanaryResult(passed=True, verified=True, source="example", rows=3, seconds=0.01)
DOWN = Complaint(URI, "unreachable", "connection refused")


def version(number: str, *, candidate: str = "@champion", rank: int = 0) -> Version:
    """Version *number*, named by the candidate of that *rank*."""
    return Version(number, candidate, URI, f"runs:/{number}/model", f"run {number}", candidate_rank=rank)


LOGGED_AT = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class FakeRegistry:
    """A registry: the versions that it names, and their metrics and files.

    *answering* is waited for before an answer, *judging* before metrics, *fetching* in a fetch.
    """

    names: Version | None = None
    complaints: tuple[Complaint, ...] = ()
    reported: tuple[Complaint, ...] = ()  # beside an answer
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    fails: FetchError | None = None
    arrives: int = 1  # bytes before it fails
    judges: RegistryError | None = None
    attests: RegistryError | str | None = None  # what is wrong with the files of any version on disk
    attested: list[str] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    judging: asyncio.Event = field(default_factory=asyncio.Event)
    fetching: asyncio.Event = field(default_factory=asyncio.Event)
    fetched: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)  # files that the last fetch could have linked

    def __post_init__(self) -> None:
        for event in (self.answering, self.judging, self.fetching):
            event.set()

    async def resolve(self) -> Resolution:
        await self.answering.wait()
        return Resolution(None if self.complaints else self.names, (*self.complaints, *self.reported))

    async def metrics(self, wanted: Version) -> Mapping[str, LoggedMetric]:
        await self.judging.wait()
        if self.judges is not None:
            raise self.judges
        scores = self.scores.get(wanted.number, {})
        return {
            name: LoggedMetric(value, f"run {wanted.number}", LOGGED_AT) for name, value in scores.items()
        }

    async def fetch(
        self,
        wanted: Version,
        folder: Path,
        progress: Callable[[int, int | None], None],
        cached: Iterable[File] = (),
    ) -> tuple[File, ...]:
        progress(self.arrives, 2)
        self.cached = [file.path for file in cached]
        (folder / "MLmodel").write_bytes(b"m")
        await self.fetching.wait()
        if self.fails is not None:
            raise self.fails
        self.fetched.append(wanted.number)
        return (File("MLmodel", 1, "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a"),)

    async def attest(self, wanted: Version, folder: Path, files: Iterable[File]) -> str | None:
        self.attested.append(wanted.number)
        if isinstance(self.attests, RegistryError):
            raise self.attests
        return self.attests

    async def close(self) -> None:
        return


class FakeHost:
    """A host that answers at once, until a test makes it hang or die."""

    def __init__(self, kept: CachedVersion, canary: CanaryResult, pid: int) -> None:
        self.number = kept.version.number
        self.next_canary = canary
        self.pid = pid
        self.facts: dict[str, Any] = {"flavor": "fake", "cuda": False}
        self.ended: list[float] = []
        self.is_killed = False
        self.hangs = False
        self.beat_interval = 0.005
        self.canary_behind = 0
        self.canaries = 0
        self.has_proof = False
        self.predictions_in_flight = 0
        self.backlog = Backlog()
        self.is_mismatched = False
        self.report_mismatch: Callable[[], None] = lambda: None
        self.diagnosis: tuple[Reason, str] | None = None
        self.proving = asyncio.Event()
        self.proving.set()
        self.death: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def canary(self, within: float) -> CanaryResult:
        assert within > 0
        await self.proving.wait()
        self.canaries += 1
        return self.next_canary

    def take_proof(self) -> bool:
        found, self.has_proof = self.has_proof, False
        return found

    async def predict(self, body: bytes, content_type: str, within: float) -> Prediction:
        assert content_type
        assert within > 0
        if self.is_killed or self.ended or self.death.done():
            raise HostDied("was ended")
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        return Prediction(body + self.number.encode())

    def diagnose(self) -> tuple[Reason, str] | None:
        return self.diagnosis

    async def rss(self) -> int | None:
        return 10**8

    async def died(self) -> str:
        return await asyncio.shield(self.death)

    async def end(self, within: float) -> None:
        self.ended.append(within)

    async def kill(self) -> None:
        self.is_killed = True

    def die(self, how: str = "was killed by SIGSEGV") -> None:
        self.death.set_result(how)


class World:
    """Everything that a life touches; its time stands still until a test has it pass."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = ModelOptions(model="iris", registries=(RegistryOptions(uri=URI),), **options)
        self.registry = FakeRegistry()
        self.canaries: dict[str, CanaryResult] = {}
        self.load_fails: dict[str, LoadFailed] = {}
        self.no_process: dict[str, OSError] = {}
        self.gates: dict[str, asyncio.Event] = {}  # waited for in the middle of a load
        self.proves: dict[str, asyncio.Event] = {}  # waited for in the middle of each canary
        self.hosts: list[FakeHost] = []
        self.loading = asyncio.Event()
        self.loading.set()
        self.steps: list[Progress | None] = []
        self.wishes = 0
        self.cuda = False
        self.board: dict[str, Reading] = {}
        self.started = datetime.now(UTC)
        self.passed = timedelta()
        self.sink = Sink()
        self.timeout = 20.0
        self.mismatches: set[str] = set()
        self.wake = asyncio.Event()
        self.reconciler = self.begin()

    def begin(self) -> Reconciler:
        """A life, as after a start of the daemon."""
        measures = ModelMetrics(*[cast("Any", self.sink)] * 12)
        log = logging.getLogger("test")
        probe = Context(
            name="model",
            state_dir=self.folder,
            log=log,
            board=self.board,
            instruments=Instruments(),
            timeout=self.timeout,
            request_check=self.wish,
            show_facts=lambda facts: self.steps.append(Progress.read(facts.get("progress"))),
        )
        context = RolloutContext(
            probe=probe,
            options=self.options,
            registries=cast("Registries", self.registry),
            store=Store(self.folder, self.options.model),
            hosts=HostContext(log, self.folder / "scratch", measures, self.mismatches, self.wake),
            now=lambda: self.started + self.passed,
            load=cast("Any", self.load),
        )
        self.reconciler = Reconciler(context)
        backoffs = self.reconciler._backoffs
        backoffs.common._clock = backoffs.transfer._clock = self.clock
        self.reconciler._losses.backoff._clock = self.clock
        return self.reconciler

    def clock(self) -> float:
        """In the place of the steady clock."""
        return self.passed.total_seconds()

    def wait(self, seconds: float) -> None:
        """Let so much time pass, and plan what was postponed until then."""
        self.passed += timedelta(seconds=seconds)
        self.reconciler._context.hosts.wake.set()

    def break_gpu(self, index: int, summary: str) -> None:
        """The GPU that the models use is unhealthy."""
        finding = Finding("presence", Status.UNHEALTHY, summary, subject=f"gpu {index}")
        self.board[self.options.gpu_probe] = Reading(findings=[finding])

    async def load(
        self, kept: CachedVersion, _options: ModelOptions, context: HostContext, *, hidden: Sequence[Path]
    ) -> ModelHost:
        assert self.folder in hidden
        await self.loading.wait()
        if (gate := self.gates.get(kept.version.number)) is not None:
            await gate.wait()
        if (error := self.no_process.get(kept.version.number)) is not None:
            raise error
        if failure := self.load_fails.get(kept.version.number):
            if failure.kind == "corrupt":  # what is fetched anew is whole
                del self.load_fails[kept.version.number]
            raise failure
        canary = self.canaries.get(kept.version.number, WELL)
        host = FakeHost(kept, canary, 1000 + len(self.hosts))
        host.facts["cuda"] = self.cuda
        host.is_mismatched = kept.version.id in context.mismatches
        host.report_mismatch = lambda: context.note_mismatch(kept.version)
        host.proving = self.proves.get(kept.version.number, host.proving)
        self.hosts.append(host)
        return cast("ModelHost", host)

    def amend(self, **changed: object) -> Reconciler:
        """The table is *changed* while the daemon runs."""
        before = self.reconciler
        self.options = self.options.model_copy(update=changed)
        self.begin().inherit(before)
        return before

    def wish(self) -> None:
        self.wishes += 1

    def stop_at(self, number: str, step: str) -> None:
        """Hold version *number* in the middle of *step*."""
        if step == "judge":
            self.registry.judging.clear()
        elif step == "fetch":
            self.registry.fetching.clear()
        else:
            gates = self.gates if step == "load" else self.proves
            gates[number] = asyncio.Event()

    async def until(self, comes_true: Callable[[], bool]) -> None:
        """Wait for what happens in other tasks."""
        async with asyncio.timeout(GIVE_UP):
            while not comes_true():
                await asyncio.sleep(0.005)

    async def until_at(self, number: str, step: str) -> None:
        """Wait until version *number* has come to *step*; to its first byte if that is the download."""
        await self.until(lambda: step in self.steps_of(number))
        if step == "fetch":
            await self.until(lambda: any(self.folder.rglob(f"{number}-*/files/MLmodel")))

    async def set_out(self, number: str, step: str) -> None:
        """The registry names version *number*, which is on its way and gets no further than into *step*."""
        self.names(number)
        self.stop_at(number, step)
        await self.reconciler.check()
        await self.until_at(number, step)

    def go_on(self, number: str) -> None:
        """Undo `stop_at`."""
        self.registry.judging.set()
        self.registry.fetching.set()
        for gates in (self.gates, self.proves):
            if (gate := gates.pop(number, None)) is not None:
                gate.set()

    async def check(self, times: int = 1) -> Reading:
        """Check as often, each time after what the one before set out for has ended; the last reading."""
        for _ in range(times):
            await self.reconciler.check()
            await self.settle()
        await self.reconciler.check()
        return await self.reading()

    async def reading(self) -> Reading:
        return report(await self.reconciler.observe(), self.options)

    async def until_serving(self, number: str) -> None:
        """Wait until version *number* serves."""
        await self.until(lambda: self.serves == number)

    async def until_killed(self) -> None:
        """Wait until the first host is ended for what it did."""
        await self.until(lambda: self.hosts[0].is_killed)

    async def settle(self) -> None:
        """Wait until nothing is on its way."""
        await self.until(
            lambda: not (self.reconciler.is_rolling or self.reconciler._context.hosts.wake.is_set())
        )

    @property
    def serves(self) -> str | None:
        serving = self.reconciler.active.serving
        return None if serving is None else serving.kept.version.number

    def names(self, number: str, *, candidate: str = "@champion", rank: int = 0) -> None:
        """The registry names version *number* from now on."""
        self.registry.names = version(number, candidate=candidate, rank=rank)

    def steps_of(self, number: str) -> list[str]:
        """The steps that version *number* was shown to go through."""
        found = [step.step for step in self.steps if step is not None and step.version == number]
        return [step for place, step in enumerate(found) if place == 0 or found[place - 1] != step]


def reported(reading: Reading, name: str) -> tuple[str, str]:
    """Status and summary of the finding *name*."""
    (finding,) = [finding for finding in reading.findings if finding.name == name]
    return str(finding.status), finding.summary


def failing(reason: str) -> CanaryResult:
    """A canary that did not pass."""
    return replace(WELL, passed=False, reason=reason)
