"""One look at one signal of a card; the probe is a row of them for each card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlopsd.probe import Finding, Metric, Sample
from mlopsd_probes.gpu.card import Card
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.options import GpuOptions


@dataclass(frozen=True, slots=True)
class CardResult:
    """What one look found, as in a reading; only all looks together have a status."""

    findings: Sequence[Finding] = ()
    samples: Sequence[Sample] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class CardCollector:
    """What the probe asks of each look; what one must remember of a card between checks, it keeps by uuid.

    Attributes:
        name: the name of the finding that it makes when NVML fails it.
        findings: the name of every finding that it makes when NVML does not; with none it only reports.
        metrics: every number that it reports, each with the labels ``gpu`` and ``uuid``.
    """

    name: ClassVar[str]
    findings: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def __init__(self, options: GpuOptions, past: CardHistory) -> None:
        self.options = options
        self.past = past

    def look(self, card: Card) -> CardResult:
        """Look at *card* once; its facts are that card's. What the card lacks is left out.

        Raises:
            NVMLError: NVML fails in a way that is no lack.
        """
        raise NotImplementedError
