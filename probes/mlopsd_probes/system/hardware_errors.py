"""Error counters of the hardware, judged by their growth: PCIe links, memory modules, InfiniBand ports."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from mlopsd.format import format_count, format_duration
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.growth import Growth
from mlopsd_probes.system.options import SystemOptions

PCIE = Metric(
    "pcie_errors_total",
    "Errors that PCIe's advanced error reporting counted for the device.",
    kind="counter",
    labels=("device", "severity"),
)
MEMORY = Metric(
    "memory_errors_total",
    "ECC errors that EDAC counted for the memory module.",
    kind="counter",
    labels=("device", "severity"),
)
INFINIBAND = Metric(
    "infiniband_errors_total",
    "Errors that the InfiniBand or RoCE port counted.",
    kind="counter",
    labels=("device", "counter"),
)
LINK = Metric("infiniband_port_active", "1 if the port is ACTIVE, else 0.", labels=("device",))


class Rule(NamedTuple):
    """The noun for one error of a kind in a summary, and the limit of its growth."""

    noun: str
    limit: int


class HardwareErrors(HostCollector):
    """A collector of counters by device and kind; a finding for each device that is at fault, or one for all.

    Attributes:
        device: what a device is, in the healthy summary.
        total: the counter, with labels for the device and the kind.
    """

    may_be_absent = True
    device: ClassVar[str]
    total: ClassVar[Metric]

    def __init__(
        self,
        options: SystemOptions,
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sys = sys
        self._growth: Growth[tuple[str, str]] = Growth(self.window(options), clock)
        self._rules = self.rules(options)

    @classmethod
    def window(cls, options: SystemOptions) -> float:
        """Return the window in which growth counts, in seconds."""
        return options.link_errors_window

    def rules(self, options: SystemOptions) -> Mapping[str, Rule]:
        """Return the rule of each kind that is judged, worst first."""
        raise NotImplementedError

    def counts(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield the counter of each device and kind."""
        raise NotImplementedError

    def collect(self) -> Reading:
        """Judge the growth of each device's counters; return an empty reading without devices."""
        counts = dict(self.counts())
        if not counts:
            return Reading()
        growth = self._growth.of(counts)
        devices = {device for device, _ in counts}
        bad = [finding for device in sorted(devices) for finding in self._judge(device, growth)]
        _, label = self.total.labels
        samples = [
            self.total.sample(count, **{"device": device, label: kind})
            for (device, kind), count in counts.items()
        ]
        return Reading(bad or [self._healthy(len(devices))], samples)

    def _judge(self, device: str, growth: Mapping[tuple[str, str], int]) -> list[Finding]:
        """Return a finding if a counter of *device* grew by its limit, of the worst kind."""
        for kind, (noun, limit) in self._rules.items():
            grown = growth.get((device, kind), 0)
            if grown >= limit:
                errors, window = format_count(grown, noun), format_duration(self._growth.window)
                summary = f"{device} had {errors} in the last {window} (limit {limit})"
                advice = Advice.CHECK_HARDWARE
                return [Finding(self.name, Status.DEGRADED, summary, device, grown, None, limit, advice)]
        return []

    def _healthy(self, number: int) -> Finding:
        window = format_duration(self._growth.window)
        summary = f"{format_count(number, self.device)} had no errors that count in the last {window}"
        return Finding(self.name, Status.HEALTHY, summary)


class PcieErrors(HardwareErrors):
    """Advanced error reporting, the files ``aer_dev_*`` of each PCIe device (Linux 4.19)."""

    name = "pcie_errors"
    source = "/sys/bus/pci/devices"
    findings = ("pcie_errors",)
    metrics = (PCIE,)
    device = "PCIe device"
    total = PCIE

    def rules(self, options: SystemOptions) -> Mapping[str, Rule]:
        """Return a rule for each severity."""
        return {
            "fatal": Rule("fatal PCIe error", 1),
            "nonfatal": Rule("uncorrected PCIe error", 1),
            "correctable": Rule("corrected PCIe error", options.pcie_corrected_limit),
        }

    def counts(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield the totals of each device that has the files."""
        for folder in sorted((self._sys / "bus/pci/devices").iterdir()):
            for severity in ("fatal", "nonfatal", "correctable"):
                with suppress(FileNotFoundError):  # a device without AER, or one that was just removed
                    text = (folder / f"aer_dev_{severity}").read_text()
                    totals = [line.split()[1] for line in text.splitlines() if line.startswith("TOTAL_")]
                    yield from (((folder.name, severity), int(total)) for total in totals)


class MemoryErrors(HardwareErrors):
    """Corrected and uncorrected ECC errors of each memory module (EDAC)."""

    name = "memory_errors"
    source = "/sys/devices/system/edac/mc"
    findings = ("memory_errors",)
    metrics = (MEMORY,)
    device = "memory module"
    total = MEMORY

    @classmethod
    def window(cls, options: SystemOptions) -> float:
        """Return the window of memory errors."""
        return options.memory_errors_window

    def rules(self, options: SystemOptions) -> Mapping[str, Rule]:
        """Return a rule for each severity."""
        return {
            "uncorrected": Rule("uncorrected ECC error", 1),
            "corrected": Rule("corrected ECC error", options.memory_corrected_limit),
        }

    def counts(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield the counts of each module, and those that a controller cannot assign to one.

        Raises:
            FileNotFoundError: no controller has a driver.
        """
        for controller in sorted((self._sys / "devices/system/edac/mc").iterdir()):
            for severity, short in (("uncorrected", "ue"), ("corrected", "ce")):
                with suppress(FileNotFoundError):
                    unassigned = (controller / f"{short}_noinfo_count").read_text()
                    yield (f"{controller.name} (module unknown)", severity), int(unassigned)
                for module in sorted(controller.glob("dimm*")):
                    with suppress(FileNotFoundError):
                        count = int((module / f"dimm_{short}_count").read_text())
                        yield (_module(controller, module), severity), count


def _module(controller: Path, module: Path) -> str:
    """Return the module's place, with the label that is printed on the board if the driver knows it."""
    place = f"{controller.name} {module.name}"
    try:
        label = (module / "dimm_label").read_text().strip()
    except FileNotFoundError:
        return place
    return f"{place} ({label})" if label else place


class InfinibandPorts(HardwareErrors):
    """The counters of InfiniBand and RoCE ports, and whether a port that was ACTIVE still is."""

    name = "infiniband"
    source = "/sys/class/infiniband"
    findings = ("infiniband",)
    metrics = (INFINIBAND, LINK)
    device = "InfiniBand or RoCE port"
    total = INFINIBAND
    kinds = (
        "link_downed",
        "link_error_recovery",
        "local_link_integrity_errors",
        "port_rcv_errors",
        "symbol_error",
    )

    def __init__(
        self,
        options: SystemOptions,
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(options, sys, clock)
        self._were_active: set[str] = set()

    def rules(self, options: SystemOptions) -> Mapping[str, Rule]:
        """Return the rule for lost links; the other counters also grow on sound links."""
        return {"link_downed": Rule("lost link", options.link_downed_limit)}

    def counts(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield the counters of each port."""
        for port in self._ports():
            for kind in self.kinds:
                with suppress(FileNotFoundError):
                    yield (_port(port), kind), int((port / "counters" / kind).read_text())

    def collect(self) -> Reading:
        """Judge the counters, and each port that was ACTIVE and no longer is."""
        counted = super().collect()
        states = {
            _port(port): (port / "state").read_text().partition(":")[2].strip() for port in self._ports()
        }
        self._were_active |= {port for port, state in states.items() if state == "ACTIVE"}
        down = [
            Finding(
                self.name,
                Status.DEGRADED,
                f"{port} was ACTIVE and is {state}; look at its cable, then at the port of the switch",
                port,
                advice=Advice.CHECK_HARDWARE,
            )
            for port, state in states.items()
            if port in self._were_active and state != "ACTIVE"
        ]
        lost = {finding.subject for finding in down}
        rest = [one for one in counted.findings if one.subject not in lost]
        findings = down + [one for one in rest if not (down and one.status is Status.HEALTHY)]
        links = [LINK.sample(state == "ACTIVE", device=port) for port, state in states.items()]
        return Reading(findings, [*counted.samples, *links])

    def _ports(self) -> list[Path]:
        return sorted(
            port for card in (self._sys / "class/infiniband").iterdir() for port in (card / "ports").iterdir()
        )


def _port(folder: Path) -> str:
    """Return a port's name as ``ibstat`` writes it."""
    return f"{folder.parents[1].name}/{folder.name}"
