"""Time that tasks lose while they wait for a resource (PSI)."""

import errno
from collections.abc import Iterator
from pathlib import Path

from mlopsd.format import format_ratio
from mlopsd.probe import Advice, Finding, Metric, Reading, Sample
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

STALLED = Metric(
    "pressure_stalled_seconds_total",
    "Time in which some or all tasks waited for the resource.",
    kind="counter",
    unit="seconds",
    labels=("resource", "kind"),
)
RATIO = Metric(
    "pressure_ratio",
    "Share of the window in which some or all tasks waited for the resource.",
    unit="ratio",
    labels=("resource", "kind", "window"),
)
WINDOWS = {"avg10": "10s", "avg60": "60s", "avg300": "300s"}
JUDGED = {
    "cpu": ("some", Advice.WATCH),
    "memory": ("full", Advice.FREE_RESOURCES),
    "io": ("full", Advice.WATCH),
}
MICROSECONDS = 1e6

Lines = dict[str, dict[str, float]]  # kind → field → the kernel's number


class Pressure(HostCollector):
    """``/proc/pressure``, one finding per resource over 60 s.

    For cpu, ``full`` is undefined for a whole host (the kernel writes 0), so it is left out.
    """

    name = "pressure"
    source = "/proc/pressure"
    may_be_absent = True
    findings = ("pressure_cpu", "pressure_memory", "pressure_io")
    metrics = (STALLED, RATIO)

    def __init__(self, options: SystemOptions, proc: Path = Path("/proc")) -> None:
        self._folder = proc / "pressure"
        self._limits = {
            "cpu": Limits(options.pressure_cpu_degraded, options.pressure_cpu_unhealthy),
            "memory": Limits(options.pressure_memory_degraded, options.pressure_memory_unhealthy),
            "io": Limits(options.pressure_io_degraded, options.pressure_io_unhealthy),
        }

    def collect(self) -> Reading:
        """Return every resource that this kernel accounts for; an empty reading if PSI is off."""
        found = {resource: lines for resource in JUDGED if (lines := self._read(resource))}
        findings = [self._judge(resource, lines) for resource, lines in found.items()]
        samples = [sample for resource, lines in found.items() for sample in _to_samples(resource, lines)]
        return Reading(findings, samples)

    def _read(self, resource: str) -> Lines:
        """Read the lines of one file by kind; empty if the kernel lacks PSI or it is off (``psi=0``)."""
        try:
            text = (self._folder / resource).read_text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        lines = {line.split()[0]: _parse(line) for line in text.splitlines()}
        if resource == "cpu":
            lines.pop("full", None)
        return lines

    def _judge(self, resource: str, lines: Lines) -> Finding:
        """Return the finding over 60 s."""
        kind, mild = JUDGED[resource]
        ratio = lines[kind]["avg60"] / 100
        who = "some task" if kind == "some" else "every task"
        return self._limits[resource].finding(
            f"pressure_{resource}",
            f"{who} waited for {resource} in {format_ratio(ratio)} of the last 60 s",
            ratio,
            unit="ratio",
            text=format_ratio,
            advice=Advice.FREE_RESOURCES,
            mild=mild,
        )


def _parse(line: str) -> dict[str, float]:
    """Parse ``some avg10=0.00 … total=4`` into numbers by field."""
    return {field: float(value) for field, _, value in (word.partition("=") for word in line.split()[1:])}


def _to_samples(resource: str, lines: Lines) -> Iterator[Sample]:
    """Return the total in seconds and each window as a ratio, for each kind."""
    for kind, fields in lines.items():
        yield STALLED.sample(fields["total"] / MICROSECONDS, resource=resource, kind=kind)
        for field, window in WINDOWS.items():
            yield RATIO.sample(fields[field] / 100, resource=resource, kind=kind, window=window)
