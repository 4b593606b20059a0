"""The probe of one registered model: what it is given, and who does what."""

from collections.abc import Sequence
from datetime import UTC, datetime

from mlopsd.predictor import Prediction, Predictor, VersionFacts
from mlopsd.probe import Context, Metric, Reading, Schedule
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.metrics import METRICS, model_metrics, with_buckets
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.progress import Progress
from mlopsd_probes.model.report import report
from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.preconditions import broken_gpu, too_little_memory
from mlopsd_probes.model.rollout.reconciler import Reconciler
from mlopsd_probes.model.serving.active_model import ActiveVersion
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.registries import Registries

SCRATCH = "scratch"


class ModelProbe(Predictor[ModelOptions]):
    """One registered model: resolved, judged, fetched, loaded beside the old one, proven and swapped in.

    The probe itself decides and holds every clock; the registry's client and the models live in
    processes of their own, so that nothing they do can stop this one.
    """

    Options = ModelOptions
    metrics = METRICS
    schedule = Schedule(interval=30, timeout=20, fail_after=2, recover_after=1, critical=True)

    def __init__(self, options: ModelOptions, context: Context) -> None:
        super().__init__(options, context)
        self._mismatches: set[str] = set()  # known to whatever life a process was begun by
        self._life = self._lead(options)

    @classmethod
    def declares(cls, options: ModelOptions) -> Sequence[Metric]:
        """The metrics, with the configured buckets for predicted values."""
        value = with_buckets(options.prediction.buckets)
        return tuple(value if metric.name == value.name else metric for metric in cls.metrics)

    async def check(self) -> Reading:
        """Ask the registries, have the version in service prove itself, and tell how things stand."""
        await self._life.look()
        return report(await self._life.state(), self.options)

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Go to the version that the registry names now."""
        return await self._life.reload(dry_run=dry_run, force=force)

    async def reconfigure(self, options: ModelOptions) -> bool:
        """Go on with *options*: what serves answers until it, or what is wanted now, has proven itself anew.

        Another model is another matter, and so are other buckets, which a histogram cannot change.
        """
        now = self.options
        if (options.model, options.prediction.buckets) != (now.model, now.prediction.buckets):
            return False
        before, self._life = self._life, self._lead(options)
        self._life.inherit(before)
        self.options = options
        await before.close()
        return True

    async def close(self) -> None:
        """End every process."""
        await self._life.close()

    @property
    def served_version(self) -> str | None:
        """The version in service."""
        serving = self._life.service.serving
        return None if serving is None else serving.kept.version.number

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Have the version in service predict."""
        return await self._life.service.predict(body, content_type)

    def _lead(self, options: ModelOptions) -> Reconciler:
        context = self.context
        scratch = context.state_dir / SCRATCH
        counted = model_metrics(context.instruments, with_buckets(options.prediction.buckets))
        means = RolloutContext(
            options=options,
            registries=Registries(options.wanted, context.log, counted.operation, scratch, context.name),
            store=Store(context.state_dir, options.model),
            scratch=scratch,
            state_dir=context.state_dir,
            measures=counted,
            log=context.log,
            now=lambda: datetime.now(UTC),
            private=context.private_paths,
            mismatches=self._mismatches,
        )
        return Reconciler(
            means,
            again=context.request_check,
            show=self._show,
            obstacle=self._obstacle,
            timeout=context.timeout,
        )

    def _show(self, progress: Progress | None) -> None:
        self.context.show_facts(VersionFacts(progress=progress).facts())

    def _obstacle(self, kept: CachedVersion | None, serving: ActiveVersion | None) -> str | None:
        """Why no version can be taken up now; blocks."""
        before = serving.kept if serving is not None else None
        notes = [one.notes or {} for one in (kept, before) if one is not None]
        if any(note.get("cuda") for note in notes):
            broken = broken_gpu(self.context.board, self.options.gpu_probe)
            if broken is not None:
                return broken
        needed = next((note["load_bytes"] for note in notes if note.get("load_bytes")), None)
        makes_room = before is not None and self.options.swap == "replace"
        return too_little_memory(needed, (needed or 0) if makes_room else 0)
