"""The reasons for throttled clocks of a card, and their time."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pynvml

from mlopsd.format import format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Sample, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, Fields, ask, number
from mlopsd_probes.gpu.options import GpuOptions

THROTTLED = Metric("throttled", "1 while the reason holds the clocks down.", labels=(*LABELS, "reason"))
THROTTLED_SECONDS = Metric(
    "throttled_seconds_total",
    "Time that the policy held the clocks down, since the driver loaded.",
    kind="counter",
    unit="seconds",
    labels=(*LABELS, "policy"),
)
REASONS = {
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
}  # without idle, application and display clock settings, which are no throttling
JUDGED = {
    "hw_thermal": "for heat: look at its cooling",
    "hw_power_brake": "by the power brake: look at the power supply",
    "hw_slowdown": "by the hardware: look at its power and cooling",  # also set with either of the above
}
POLICIES = {
    "power": pynvml.NVML_PERF_POLICY_POWER,
    "thermal": pynvml.NVML_PERF_POLICY_THERMAL,
    "board_limit": pynvml.NVML_PERF_POLICY_BOARD_LIMIT,
    "reliability": pynvml.NVML_PERF_POLICY_RELIABILITY,
}
POLICY_FIELDS = {
    "sw_thermal": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
    "hw_thermal": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
    "hw_power_brake": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
}  # of drivers of 2025 and later
FIELDS = Fields(*POLICY_FIELDS.values())
NANO = 1_000_000_000


class Throttle(CardCollector):
    """``nvmlDeviceGetCurrentClocksThrottleReasons`` and ``nvmlDeviceGetViolationStatus`` (ns).

    Only lasting slowdowns by the hardware are judged, never the software's power cap.
    """

    name = "throttled"
    findings = ("throttled",)
    metrics = (THROTTLED, THROTTLED_SECONDS)

    def __init__(
        self, options: GpuOptions, history: CardHistory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(options, history)
        self._clock = clock
        self._held: dict[tuple[str, str], Sustained] = {}

    def collect(self, card: Card) -> Reading:
        """Report the present reasons; judge them over the window."""
        samples = _lost_time(card)
        reasons = number(ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, card.handle))
        if reasons is None:
            return Reading(samples=samples)
        holding = {reason: int(bool(reasons & bit)) for reason, bit in REASONS.items()}
        return Reading([self._judge(card, reasons)], samples + card.samples_of(THROTTLED, holding))

    def _judge(self, card: Card, reasons: int) -> Finding:
        """Judge the reason that held longest; among equals, the most specific."""
        now = self._clock()
        held = {
            reason: self._held_for(card, reason, now, holds=bool(reasons & REASONS[reason]))
            for reason in JUDGED
        }
        reason = max(held, key=lambda reason: held[reason])
        limit, window = self.options.throttled_degraded, format_duration(self.options.throttled_window)
        summary = f"{card.title} was slowed down for {format_duration(held[reason])} of the last {window}"
        if held[reason] < limit:
            return Finding("throttled", Status.HEALTHY, summary, card.subject, held[reason], "seconds", limit)
        summary = f"{summary} {JUDGED[reason]}"
        return Finding(
            "throttled",
            Status.DEGRADED,
            summary,
            card.subject,
            held[reason],
            "seconds",
            limit,
            Advice.CHECK_HARDWARE,
        )

    def _held_for(self, card: Card, reason: str, now: float, *, holds: bool) -> float:
        """Return the seconds of the window in which *reason* held."""
        sustained = self._held.setdefault((card.uuid, reason), Sustained(self.options.throttled_window))
        return sustained.seen(now, holds=holds)


class Sustained:
    """The seconds within the last *window* seconds in which a condition held.

    Each call of `seen` counts for the time since the previous call; the first call counts for none.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self.spans: deque[tuple[float, float, bool]] = deque()
        self._last: float | None = None

    def seen(self, at: float, *, holds: bool) -> float:
        """Record whether the condition *holds* *at* a monotonic time; return its seconds in the window."""
        if self._last is not None:
            went_on = bool(self.spans) and self.spans[-1][2] == holds
            start = self.spans.pop()[0] if went_on else self._last
            self.spans.append((start, at, holds))
        self._last = at
        while self.spans and self.spans[0][1] <= at - self._window:
            self.spans.popleft()
        return sum(end - max(start, at - self._window) for start, end, held in self.spans if held)


def _lost_time(card: Card) -> tuple[Sample, ...]:
    """Return the throttled time of each policy that the card counts."""
    reported = {policy: _violation(card.handle, policy_id) for policy, policy_id in POLICIES.items()}
    newer = FIELDS.of(card.handle)
    reported |= {policy: newer.get(field) for policy, field in POLICY_FIELDS.items()}
    lost = {policy: None if nano is None else nano / NANO for policy, nano in reported.items()}
    return card.samples_of(THROTTLED_SECONDS, lost)


def _violation(handle: Any, policy: int) -> float | None:
    """Return the nanoseconds for which *policy* held the clocks down."""
    reported = ask(pynvml.nvmlDeviceGetViolationStatus, handle, policy, lacking=UNKNOWN_ARGUMENT)
    return None if reported is None else number(reported.violationTime)
