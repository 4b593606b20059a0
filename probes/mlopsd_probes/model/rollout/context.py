"""What versions are taken up with: whom to ask, where to keep, whom to tell."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.metrics import ModelMetrics
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.serving.host import ModelHost
from mlopsd_probes.registry.registries import Registries


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """The parts of one model probe.

    Attributes:
        scratch: a folder for what lives as long as a process of ours.
        state_dir: the probe's folder, which no model may look into.
        private: what is of the daemon besides, and as little a model's to see.
        now: the time of day.
        mismatches: ids of the versions whose joined requests were answered otherwise than single ones.
        load: makes a host of a version that is on disk, as `ModelHost.load` does.
    """

    options: ModelOptions
    registries: Registries
    store: Store
    scratch: Path
    state_dir: Path
    measures: ModelMetrics
    log: logging.Logger
    now: Callable[[], datetime]
    private: Callable[[], Sequence[Path]] = tuple
    mismatches: set[str] = field(default_factory=set)
    load: Callable[..., Awaitable[ModelHost]] = ModelHost.load
