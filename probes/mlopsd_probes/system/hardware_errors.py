"""Error counters of the hardware, judged by their growth: PCIe links, memory modules, InfiniBand ports."""

import time
from collections.abc import Callable, Iterator, Mapping
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
        for folder in sorted((self._sys / "bus/pci/devices").glob("*")):
            for severity in ("fatal", "nonfatal", "correctable"):
                lines = _text(folder / f"aer_dev_{severity}").splitlines()
                totals = [line.split()[-1] for line in lines if line.startswith("TOTAL_")]
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
        """Yield the counts of each module, and those that a controller cannot assign to one."""
        for controller in sorted((self._sys / "devices/system/edac/mc").glob("mc[0-9]*")):
            modules = sorted((*controller.glob("dimm[0-9]*"), *controller.glob("rank[0-9]*")))
            for severity, short in (("uncorrected", "ue"), ("corrected", "ce")):
                files = {_module(controller, module): module / f"dimm_{short}_count" for module in modules}
                files[f"{controller.name} (module unknown)"] = controller / f"{short}_noinfo_count"
                for place, file in files.items():
                    yield from (((place, severity), count) for count in _number(file))


def _module(controller: Path, module: Path) -> str:
    """Return the module's place, with the label that is printed on the board if the driver knows it."""
    label = _text(module / "dimm_label").strip()
    place = f"{controller.name} {module.name}"
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
        self._were_active: set[Path] = set()

    def rules(self, options: SystemOptions) -> Mapping[str, Rule]:
        """Return the rule for lost links; the other counters also grow on sound links."""
        return {"link_downed": Rule("lost link", options.link_downed_limit)}

    def counts(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield the counters of each port."""
        for port in self._ports():
            for kind in self.kinds:
                yield from (((_port(port), kind), count) for count in _number(port / "counters" / kind))

    def collect(self) -> Reading:
        """Judge the counters, and each port that was ACTIVE and no longer is."""
        counted = super().collect()
        states = {port: _state(port / "state") for port in self._ports()}
        self._were_active |= {port for port, state in states.items() if state == "ACTIVE"}
        down = [
            _judge_link(port, state)
            for port, state in states.items()
            if port in self._were_active and state not in ("ACTIVE", "")
        ]
        lost = {finding.subject for finding in down}
        rest = [one for one in counted.findings if one.subject not in lost]
        findings = down + [one for one in rest if not (down and one.status is Status.HEALTHY)]
        links = [LINK.sample(state == "ACTIVE", device=_port(port)) for port, state in states.items()]
        return Reading(findings, [*counted.samples, *links])

    def _ports(self) -> list[Path]:
        return sorted((self._sys / "class/infiniband").glob("*/ports/[0-9]*"))


def _judge_link(port: Path, state: str) -> Finding:
    """Judge a *port* that was ACTIVE; one that somebody disabled on this host is no broken cable."""
    fact = f"{_port(port)} was ACTIVE and is {state}"
    if _state(port / "phys_state").lower() == "disabled":
        summary, advice = f"{fact}; it was disabled on this host", Advice.WATCH
    else:
        summary = f"{fact}; look at its cable, then at the port of the switch"
        advice = Advice.CHECK_HARDWARE
    return Finding("infiniband", Status.DEGRADED, summary, _port(port), advice=advice)


def _port(folder: Path) -> str:
    """Return a port's name as ``ibstat`` writes it."""
    return f"{folder.parents[1].name}/{folder.name}"


def _state(file: Path) -> str:
    """Return the word of a state such as ``4: ACTIVE``; "" if the port does not tell it."""
    return _text(file).partition(":")[2].strip()


def _number(file: Path) -> list[int]:
    """Return the counter in *file*, or nothing if the device lacks it: some say ``N/A (no PMA)``."""
    text = _text(file).strip()
    return [int(text)] if text.isdecimal() else []


def _text(file: Path) -> str:
    """Return the content of *file*, or "" if the device lacks it, refuses it, or was just removed."""
    try:
        return file.read_text()
    except OSError:
        return ""
