"""The probe of one registered model."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mlopsd.predictor import Prediction, Predictor
from mlopsd.probe import Context, Diagnosis, Metric, Reading, Schedule, Setup
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.metrics import METRICS, model_metrics, with_buckets
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.report import report
from mlopsd_probes.model.rollout.reconciler import Reconciler
from mlopsd_probes.model.rollout.steps import RolloutContext
from mlopsd_probes.model.serving.host import HostContext
from mlopsd_probes.registry import diagnosis
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.registries import Registries

SCRATCH = "scratch"
CLIENTS = "clients"  # not in the scratch folder: another table may use a client longer than this one


class ModelProbe(Predictor[ModelOptions]):
    """One registered model: resolve, judge, fetch, load beside the old version, verify, swap.

    The probe decides and holds every clock. The registry's client and the models run in their own processes,
    so they cannot stop this one.
    """

    Options = ModelOptions
    metrics = METRICS
    schedule = Schedule(interval=30, timeout=20, fail_after=2, recover_after=1, critical=True)

    def __init__(self, options: ModelOptions, context: Context) -> None:
        super().__init__(options, context)
        self._mismatches: set[str] = set()  # known to each reconciler in turn
        self._wake = asyncio.Event()  # also for a process that a reconciler takes over
        self._reconciler = self._reconcile_with(options)

    @classmethod
    def declares(cls, options: ModelOptions) -> Sequence[Metric]:
        """Return the metrics, with the configured buckets for predicted values."""
        value = with_buckets(options.prediction.buckets)
        return tuple(value if metric.name == value.name else metric for metric in cls.metrics)

    @classmethod
    def diagnose(cls, setup: Setup[ModelOptions]) -> Iterable[Diagnosis]:
        """Return whether each registry answers."""
        wanted = {name: options.wanted for name, options in setup.tables.items()}
        return diagnosis.diagnose(wanted, setup.scratch, has_environment=setup.has_environment)

    async def check(self) -> Reading:
        """Ask the registries, run the canary of the version in service, and return the reading."""
        await self._reconciler.check()
        return report(await self._reconciler.observe(), self.options)

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        """Roll out the version that the registry names now."""
        return await self._reconciler.reload(dry_run=dry_run, force=force)

    async def reconfigure(self, options: ModelOptions) -> bool:
        """Apply *options*; return False if they need a restart of the probe.

        The version in service keeps answering until it, or the version now desired, passes its canary under
        *options*. Another model needs a restart. So do other buckets, since a histogram cannot change them.
        """
        now = self.options
        if (options.model, options.prediction.buckets) != (now.model, now.prediction.buckets):
            return False
        before, self._reconciler = self._reconciler, self._reconcile_with(options)
        self._reconciler.inherit(before)
        self.options = options
        await before.close()
        return True

    async def close(self) -> None:
        """End every process."""
        await self._reconciler.close()

    @property
    def served_version(self) -> str | None:
        """The version in service; None while its process is known not to answer."""
        serving = self._reconciler.active.serving
        return None if serving is None or not serving.is_answering else serving.kept.version.number

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Return the prediction of the version in service."""
        return await self._reconciler.active.predict(body, content_type)

    def _reconcile_with(self, options: ModelOptions) -> Reconciler:
        context = self.context
        scratch, clients = context.state_dir / SCRATCH, context.state_dir / CLIENTS
        measures = model_metrics(context.instruments, with_buckets(options.prediction.buckets))
        return Reconciler(
            RolloutContext(
                probe=context,
                options=options,
                registries=Registries(
                    options.wanted, context.log, measures.operation, clients, context.name, pool=POOL
                ),
                store=Store(context.state_dir, options.model),
                hosts=HostContext(context.log, scratch, measures, self._mismatches, self._wake),
                now=lambda: datetime.now(UTC),
            )
        )
