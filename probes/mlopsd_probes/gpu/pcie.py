"""A card's PCIe link to the host."""

import time
from collections.abc import Callable, Iterator

import pynvml

from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, ask, number
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.throttle import Sustained
from mlopsd_probes.gpu.utilization import PERCENT, SLOWEST

GENERATION = Metric("pcie_link_generation", "PCIe generation that the link runs at.", labels=LABELS)
GENERATION_LIMIT = Metric(
    "pcie_link_generation_limit",
    "Highest PCIe generation that the driver reports as possible.",
    labels=LABELS,
)
WIDTH = Metric("pcie_link_width", "PCIe lanes that the link uses.", labels=LABELS)
WIDTH_LIMIT = Metric(
    "pcie_link_width_limit", "Most PCIe lanes that the driver reports as possible.", labels=LABELS
)
REPLAYS = Metric(
    "pcie_replays_total", "Packets sent again since the driver loaded.", kind="counter", labels=LABELS
)
THROUGHPUT = Metric(
    "pcie_throughput_bytes_per_second", "PCIe throughput over the last 20 ms.", labels=(*LABELS, "direction")
)
DIRECTIONS = {"send": pynvml.NVML_PCIE_UTIL_TX_BYTES, "receive": pynvml.NVML_PCIE_UTIL_RX_BYTES}
KILO = 1024  # NVML counts in KB/s
MOST_LANES = 32
NEWEST = 16
SLOWEST_BUSY = 2  # P-state; CUDA runs in P0 on servers' cards and in P2 on many others


class Pcie(CardCollector):
    """``nvmlDeviceGet{Curr,Max}PcieLink{Generation,Width}``, ``…PcieReplayCounter``, ``…PcieThroughput``.

    NVML's maximum ignores the slot: healthy cards run at x8 of x16 in laptops and virtual machines. So the
    link is compared with its best state since the driver loaded.
    """

    name = "pcie"
    findings = ("pcie_width", "pcie_generation")
    metrics = (GENERATION, GENERATION_LIMIT, WIDTH, WIDTH_LIMIT, REPLAYS, THROUGHPUT)

    def __init__(
        self, options: GpuOptions, history: CardHistory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(options, history)
        self._clock = clock
        self._slow: dict[str, Sustained] = {}

    def collect(self, card: Card) -> Reading:
        """Report the link; judge it while the card is busy."""
        width = number(ask(pynvml.nvmlDeviceGetCurrPcieLinkWidth, card.handle), 1, MOST_LANES)
        widest = number(ask(pynvml.nvmlDeviceGetMaxPcieLinkWidth, card.handle), 1, MOST_LANES)
        generation = number(ask(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, card.handle), 1, NEWEST)
        newest = number(ask(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, card.handle), 1, NEWEST)
        replays = number(ask(pynvml.nvmlDeviceGetPcieReplayCounter, card.handle))
        samples = card.samples(WIDTH, width) + card.samples(WIDTH_LIMIT, widest)
        samples += card.samples(GENERATION, generation) + card.samples(GENERATION_LIMIT, newest)
        samples += card.samples(REPLAYS, replays)
        samples += _throughput(card) if self.options.pcie_throughput else ()
        return Reading(list(self._judge(card, width, generation)), samples)

    def _judge(self, card: Card, width: int | None, generation: int | None) -> Iterator[Finding]:
        """Compare the link with its best state."""
        with self.history.lock:
            known = self.history.of(card)
            known.pcie_width = widest = max(width or 0, known.pcie_width or 0) or None
            known.pcie_generation = newest = max(generation or 0, known.pcie_generation or 0) or None
        if width is not None and widest is not None:
            yield _judge_width(card, width, widest, busy=width < widest and self._is_busy(card))
        if generation is not None and newest is not None:
            yield self._judge_generation(card, generation, newest)

    def _judge_generation(self, card: Card, generation: int, newest: int) -> Finding:
        """Judge the generation: degraded if a busy card used a slower one for long enough."""
        slow = generation < newest and self._is_busy(card)
        after = self.options.pcie_generation_after
        if not slow:
            self._slow.pop(card.uuid, None)
        held = self._slow.setdefault(card.uuid, Sustained(after)).seen(self._clock(), holds=slow)
        bad = slow and held >= after
        summary = f"{card.title} has a PCIe link of generation {generation}"
        return Finding(
            "pcie_generation",
            Status.DEGRADED if bad else Status.HEALTHY,
            f"{summary} while it is busy; it had generation {newest} before" if bad else summary,
            card.subject,
            generation,
            "generation",
            newest,
            Advice.WATCH if bad else Advice.NONE,
        )

    def _is_busy(self, card: Card) -> bool:
        """Return true if the link should be at its best.

        The utilisation must be high and the P-state fast; a card in MIG mode has only a P-state.
        """
        state = number(ask(pynvml.nvmlDeviceGetPerformanceState, card.handle), most=SLOWEST)
        rates = ask(pynvml.nvmlDeviceGetUtilizationRates, card.handle)
        percent = None if rates is None else number(rates.gpu, most=PERCENT)
        if percent is None:
            return state is not None and state <= SLOWEST_BUSY
        is_used = percent / PERCENT >= self.options.pcie_busy
        return is_used and (state is None or state <= SLOWEST_BUSY)


def _judge_width(card: Card, width: int, widest: int, *, busy: bool) -> Finding:
    """Judge the lanes: a *busy* card with fewer lanes than before has a bad contact or riser."""
    bad = width < widest and busy
    summary = f"{card.title} uses {width} PCIe lanes"
    return Finding(
        "pcie_width",
        Status.DEGRADED if bad else Status.HEALTHY,
        f"{summary} while it is busy; it used {widest} before; reseat it" if bad else summary,
        card.subject,
        width,
        "lanes",
        widest,
        Advice.WATCH if bad else Advice.NONE,
    )


def _throughput(card: Card) -> tuple[Sample, ...]:
    """Measure both directions, 20 ms each."""
    answer = {
        direction: number(
            ask(pynvml.nvmlDeviceGetPcieThroughput, card.handle, counter, lacking=UNKNOWN_ARGUMENT)
        )
        for direction, counter in DIRECTIONS.items()
    }
    return card.samples_of(
        THROUGHPUT, {direction: None if kilo is None else kilo * KILO for direction, kilo in answer.items()}
    )
