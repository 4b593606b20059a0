"""Temperatures of the host's sensors; the gpu probe reads those of the GPUs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import psutil

from mlopsd.format import format_celsius
from mlopsd.probe import Advice, Finding, Metric, Reading
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

TEMPERATURE = Metric(
    "temperature_celsius",
    "Temperature of the hottest sensor of each kind of chip.",
    unit="celsius",
    labels=("chip",),
)
PLAUSIBLE = (-40.0, 150.0)  # °C; an unconnected input reads -128, 255 or 65261
PLAUSIBLE_LIMIT = (
    30.0,
    150.0,
)  # °C; an NVMe disk without a limit reports 65261, a thermal zone may report 0.1


class Sensor(NamedTuple):
    """A sensor of psutil, in °C; *label* may be empty, and two chips of a kind may have the same label."""

    label: str
    current: float
    high: float | None
    critical: float | None


class HostTemperature(HostCollector):
    """Sensors of hwmon, else thermal zones (``psutil.sensors_temperatures``); a finding per kind of chip."""

    name = "temperature"
    source = "/sys/class/hwmon"
    may_be_absent = True
    findings = ("temperature",)
    metrics = (TEMPERATURE,)

    def __init__(
        self,
        options: SystemOptions,
        read: Callable[[], Mapping[str, Sequence[Any]]] = psutil.sensors_temperatures,
    ) -> None:
        self._options = options
        self._read = read

    def collect(self) -> Reading:
        """Return the hottest sensor of each kind, and judge each kind by its worst sensor."""
        chips = {chip: _plausible(sensors) for chip, sensors in self._read().items()}
        findings = [
            self._judge(chip, sensors) for chip, sensors in chips.items() if self._is_judged(chip, sensors)
        ]
        samples = [
            TEMPERATURE.sample(max(sensor.current for sensor in sensors), chip=chip)
            for chip, sensors in chips.items()
            if sensors
        ]
        return Reading(findings, samples)

    def _is_judged(self, chip: str, sensors: list[Sensor]) -> bool:
        """Return true if a sensor can be judged and the operator has not excluded the chip."""
        ignored = any(fnmatchcase(chip, pattern) for pattern in self._options.temperature_ignored_chips)
        return bool(sensors) and not ignored

    def _judge(self, chip: str, sensors: list[Sensor]) -> Finding:
        """Return the finding of the sensor with the worst status; among equals, the hottest."""
        return max(
            (
                self._judge_sensor(chip, sensor)
                for sensor in sorted(sensors, key=lambda sensor: -sensor.current)
            ),
            key=lambda finding: finding.status,
        )

    def _judge_sensor(self, chip: str, sensor: Sensor) -> Finding:
        """Judge one sensor against the configured limits, else its own."""
        limits = Limits(
            self._options.temperature_degraded or sensor.high,
            self._options.temperature_unhealthy or sensor.critical,
        )
        return limits.finding(
            "temperature",
            f"{' '.join(filter(None, (chip, sensor.label)))} is at {format_celsius(sensor.current)}",
            sensor.current,
            unit="celsius",
            text=format_celsius,
            advice=Advice.CHECK_HARDWARE,
            mild=Advice.WATCH,
            subject=chip,
        )


def _plausible(sensors: Iterable[Any]) -> list[Sensor]:
    """Return the sensors with a plausible reading, without implausible limits."""
    low, high = PLAUSIBLE
    return [
        Sensor(sensor.label, sensor.current, _plausible_limit(sensor.high), _plausible_limit(sensor.critical))
        for sensor in sensors
        if sensor.current is not None and low < sensor.current < high
    ]


def _plausible_limit(limit: float | None) -> float | None:
    """Return *limit* if it is plausible for a chip."""
    low, high = PLAUSIBLE_LIMIT
    return limit if limit is not None and low < limit < high else None
