"""A card's temperatures, compared with its own limits, and its fan speed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pynvml

from mlopsd.format import format_celsius
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import UNKNOWN_ARGUMENT, Fields, ask, number
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.limits import Limits

TEMPERATURE = Metric(
    "temperature_celsius",
    "Temperature of the GPU or of its memory.",
    unit="celsius",
    labels=(*LABELS, "sensor"),
)
LIMIT = Metric(
    "temperature_limit_celsius",
    "Temperature of slowdown, of shutdown, or the maximum of memory or GPU.",
    unit="celsius",
    labels=(*LABELS, "limit"),
)
LIMITS = {
    "slowdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
    "shutdown": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
    "memory_max": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
    "gpu_max": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
}
MEMORY = pynvml.NVML_FI_DEV_MEMORY_TEMP
SLOWDOWN = pynvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT
MEMORY_FIELDS, SLOWDOWN_FIELDS = Fields(MEMORY), Fields(SLOWDOWN)
HOTTEST = 150  # °C; higher values are not measurements
COLDEST = -40
SLOWS_DOWN = ", its own limit for full speed, so the card slows itself down"
FIX = ": check the fans and the air, or give it less load"
LIMIT_RANGE = (60, 125)  # °C; limits of all cards are inside
DERIVED_RANGE = (70, 110)  # °C; a cool H100 may report a margin of 0 or less
SPEED = Metric("fan_speed_ratio", "Fan speed setting as a share of the maximum.", unit="ratio", labels=LABELS)
FASTEST = 200  # percent; NVML allows more than 100


class CardTemperature(CardCollector):
    """``nvmlDeviceGetTemperature``, the field ``MEMORY_TEMP``, and ``nvmlDeviceGetTemperatureThreshold``.

    Hopper and later report only the margin to the slowdown limit (T.Limit: ``nvmlDeviceGetMarginTemperature``
    and the field ``TEMPERATURE_SLOWDOWN_TLIMIT``). The limit is then derived from it. An implausible limit is
    ignored.
    """

    name = "temperature"
    findings = ("temperature", "memory_temperature")
    metrics = (TEMPERATURE, LIMIT)

    def collect(self, card: Card) -> Reading:
        """Judge each sensor."""
        degrees = _temperatures(card.handle)
        limits = _own_limits(card)
        samples = card.samples_of(TEMPERATURE, degrees) + card.samples_of(LIMIT, limits)
        return Reading(list(self._judge(card, degrees, limits)), samples)

    def _judge(self, card: Card, degrees: Mapping[str, int], limits: Mapping[str, int]) -> Iterator[Finding]:
        """Judge each temperature against the operator's limits, else the card's."""
        if (gpu := degrees.get("gpu")) is not None:
            slowdown = limits.get("slowdown")
            if slowdown is None and (margin := _slowdown_margin(card.handle)) is not None:
                slowdown = number(gpu + margin, *DERIVED_RANGE)
            limits_of_gpu = gpu_limits(slowdown, self.options)
            heat = _heat("temperature", card.title, gpu, limits_of_gpu, card)
            is_own = limits_of_gpu.unhealthy == slowdown
            yield _explained(heat, f"{SLOWS_DOWN}{FIX}" if is_own else FIX)
        if (memory := degrees.get("memory")) is not None:
            most = limits.get("memory_max")
            mild = None if most is None else most - self.options.temperature_margin
            heat = _heat("memory_temperature", f"{card.title} memory", memory, Limits(mild, most), card)
            yield _explained(heat, FIX)


def _heat(name: str, what: str, degrees: int, limits: Limits, card: Card) -> Finding:
    """Judge a temperature in °C."""
    return limits.finding(
        name,
        f"{what} is at {format_celsius(degrees)}",
        degrees,
        unit="celsius",
        text=format_celsius,
        advice=Advice.CHECK_HARDWARE,
        mild=Advice.WATCH,
        subject=card.subject,
    )


def _explained(finding: Finding, why: str) -> Finding:
    """Return *finding* with *why* in its sentence if it is unhealthy."""
    bad = finding.status is Status.UNHEALTHY
    return replace(finding, summary=f"{finding.summary}{why}") if bad else finding


def gpu_limits(slowdown: float | None, options: GpuOptions) -> Limits:
    """Return the limits of the GPU temperature in °C: the operator's, else from the card's *slowdown*."""
    hard = slowdown if options.temperature_unhealthy is None else options.temperature_unhealthy
    mild = options.temperature_degraded
    if mild is None and hard is not None:
        mild = hard - options.temperature_margin
    return Limits(mild, hard)


def _temperatures(handle: Any) -> dict[str, int]:
    """Return °C by sensor; a memory at 0 °C cannot be measured, and is left out."""
    gpu = number(ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU), COLDEST, HOTTEST)
    memory = MEMORY_FIELDS.of(handle).get(MEMORY)
    found = {"gpu": gpu, "memory": number(None if memory is None else int(memory), 1, HOTTEST)}
    return {sensor: value for sensor, value in found.items() if value is not None}


def _own_limits(card: Card) -> dict[str, int]:
    """Return °C by limit, without implausible ones."""
    found: dict[str, int] = {}
    for name, threshold in LIMITS.items():
        value = card.once(pynvml.nvmlDeviceGetTemperatureThreshold, threshold, lacking=UNKNOWN_ARGUMENT)
        if (limit := number(value, *LIMIT_RANGE)) is not None:
            found[name] = limit
    return found


def _slowdown_margin(handle: Any) -> int | None:
    """Return the degrees until the card slows down."""
    margin = ask(pynvml.nvmlDeviceGetMarginTemperature, handle, lacking=UNKNOWN_ARGUMENT)
    margin = number(margin, -HOTTEST, HOTTEST)
    if margin is None:
        return None
    offset = SLOWDOWN_FIELDS.of(handle).get(SLOWDOWN, 0)  # -2 on an H100: it slows down two degrees later
    return margin - int(offset) if -HOTTEST < offset < HOTTEST else margin


class Fan(CardCollector):
    """``nvmlDeviceGetFanSpeed`` in percent: the setting, not a measurement."""

    name = "fan"
    metrics = (SPEED,)

    def collect(self, card: Card) -> Reading:
        """Report the speed."""
        speed = number(ask(pynvml.nvmlDeviceGetFanSpeed, card.handle), most=FASTEST)
        return Reading(samples=card.samples(SPEED, None if speed is None else speed / 100))
