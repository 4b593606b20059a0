"""The processes on a card; its findings name the models among them."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml

from mlopsd.format import format_size
from mlopsd.probe import Advice, Finding, Metric, Reading, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.history import CardHistory
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION, ask, number
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.limits import Limits

PROCESSES = Metric("processes", "Processes that use the card to compute.", labels=LABELS)
PROC = Path("/proc")
MODEL = re.compile(r"models:/([^/@]{1,255})(?:/(\d{1,18})|@([^/@]{1,255}))")  # MLflow's URI of a version
MOST_ANCESTORS = 8  # a model's own workers are children of its process
MOST_NAMED = 3  # in one sentence
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # the kernel's fixed inode of the first one

Held = Mapping[int, int | None]  # the memory of processes by pid, in bytes if NVML knows it


class Processes(CardCollector):
    """``nvmlDeviceGetComputeRunningProcesses_v3``, with the host's process ids.

    Models are always named; the list of all processes needs ``processes``. Memory that ended processes still
    hold, and memory of processes that are no model, can be judged in the host's own pid namespace only.
    """

    name = "processes"
    findings = ("orphaned_memory", "foreign_memory")
    metrics = (PROCESSES,)

    def __init__(self, options: GpuOptions, history: CardHistory) -> None:
        super().__init__(options, history)
        self._foreign = Limits(options.foreign_memory_degraded)
        self._orphans: dict[str, Orphans] = defaultdict(Orphans)

    def collect(self, card: Card) -> Reading:
        """Judge the memory of processes; report the models and, with ``processes``, the largest processes.

        Raises:
            NVMLError: the list is wanted and NVML failed for another reason than a lack, or no call works.
        """
        try:
            found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, card.handle)
        except pynvml.NVMLError as error:
            is_wanted = self.options.processes or self._foreign.degraded is not None
            if is_wanted or error.value in NO_SESSION | NO_CARD:
                raise
            found = None
        held = {process.pid: number(process.usedGpuMemory) for process in found or ()}
        uris = {pid: _model(pid, PROC) for pid in held}
        facts = _models_on(held, uris)
        findings = self._judge(card, held, uris) if found is not None and is_host_namespace() else []
        if found is None or not self.options.processes:
            return Reading(findings, facts=facts)
        listed = sorted(map(_describe, held.items()), key=lambda one: -one.get("memory_bytes", 0))
        facts["processes"] = listed[: self.options.processes_most]
        return Reading(findings, card.samples(PROCESSES, len(listed)), facts)

    def _judge(self, card: Card, held: Held, uris: Mapping[int, str | None]) -> list[Finding]:
        """Judge the memory that ended processes and, with a limit, processes without a model hold."""
        gone = self._orphans[card.uuid].note(held)
        found = [_judge_orphans(card, {pid: held[pid] for pid in gone})]
        if self._foreign.degraded is not None:
            others = {pid: size for pid, size in held.items() if uris[pid] is None and pid not in gone}
            found.append(self._judge_foreign(card, others))
        return found

    def _judge_foreign(self, card: Card, others: Held) -> Finding:
        """Judge the memory that processes hold which are no model."""
        total = sum(size or 0 for size in others.values())
        largest = sorted(others, key=lambda pid: -(others[pid] or 0))[:MOST_NAMED]
        names = ", ".join(f"{_command(pid)} (pid {pid})" for pid in largest)
        whose = (
            f"processes that are no model hold {format_size(total)}" if others else "only models hold memory"
        )
        return self._foreign.finding(
            "foreign_memory",
            f"{card.title}: {whose}{': ' * bool(names)}{names}",
            total,
            unit="bytes",
            text=format_size,
            advice=Advice.FREE_RESOURCES,
            subject=card.subject,
        )


class Orphans:
    """The processes of one card that were alive at a check, ended, and are still listed at two checks."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._gone: set[int] = set()

    def note(self, pids: Iterable[int]) -> set[int]:
        """Return the pids that were gone at the last check too; a pid never seen alive is another host's."""
        listed = set(pids)
        alive = set(filter(is_alive, listed))
        gone = (listed - alive) & (self._alive | self._gone)
        lasting, self._gone, self._alive = gone & self._gone, gone, alive
        return lasting


def _judge_orphans(card: Card, gone: Held) -> Finding:
    """Judge the memory of the ended processes *gone*."""
    if not gone:
        summary = f"{card.title} holds no memory of ended processes"
        return Finding("orphaned_memory", Status.HEALTHY, summary, card.subject)
    total = sum(size or 0 for size in gone.values())
    pids = ", ".join(map(str, sorted(gone)))
    summary = f"{card.title} still holds {format_size(total)} for ended processes (pid {pids})"
    return Finding(
        "orphaned_memory", Status.DEGRADED, summary, card.subject, total, "bytes", advice=Advice.RESET_GPU
    )


def _models_on(held: Held, uris: Mapping[int, str | None]) -> dict[str, Any]:
    """Return the facts on the models among the processes: their URIs, and their memory if NVML knows it."""
    on_it = {uri: [held[pid] for pid in held if uris[pid] == uri] for uri in uris.values() if uri is not None}
    known = {uri: sum(size or 0 for size in sizes) for uri, sizes in on_it.items() if any(sizes)}
    facts = {"models": sorted(on_it), "model_memory_bytes": known}
    return {name: value for name, value in facts.items() if value}


def is_alive(pid: int) -> bool:
    """Return true if a process has *pid*, also if /proc hides it."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # NVML's pid has 32 bits, the kernel's 22
        return False
    except PermissionError:
        return True
    return True


def is_host_namespace(proc: Path = PROC) -> bool:
    """Return true in the host's own pid namespace, in which NVML's pids are those of this process."""
    try:
        return (proc / "self/ns/pid").stat().st_ino == FIRST_PID_NAMESPACE
    except OSError:
        return False


def _command(pid: int) -> str:
    """Return the name of a process, which has at most 15 bytes."""
    try:
        return (PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"


def _describe(process: tuple[int, int | None]) -> dict[str, int]:
    """Return the pid, and the memory in bytes if NVML knows it."""
    pid, memory = process
    return {"pid": pid} if memory is None else {"pid": pid, "memory_bytes": memory}


class Tenants:
    """The models last seen on each card; a lost card no longer lists processes."""

    def __init__(self) -> None:
        self._last: dict[str, Sequence[str]] = {}

    def note(self, card: Card, uris: Sequence[str]) -> None:
        """Record the models *uris* on *card*, which answers."""
        self._last[card.uuid] = uris

    def name_models(self, findings: Iterable[Finding], uuids: Mapping[str, str]) -> list[Finding]:
        """Return *findings*; name the models of the card in those that are not healthy.

        *uuids* are the cards' UUIDs by subject of a finding.
        """
        return [
            _name_models(finding, self._last.get(uuids.get(finding.subject or "", ""), ()))
            for finding in findings
        ]


def _model(pid: int, proc: Path) -> str | None:
    """Return MLflow's URI in the command line of *pid* or of its nearest ancestor that has one.

    It is the last argument of mlopsd's model processes, and an argument of ``mlflow models serve -m``.
    """
    for _ in range(MOST_ANCESTORS):
        if pid <= 1:
            return None
        try:
            arguments = (proc / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            fields = (proc / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it has ended, or this host hides it
            return None
        uri = next((text for text in arguments if MODEL.fullmatch(text) and text.isprintable()), None)
        if uri is not None:
            return uri
        pid = int(fields[1])  # the parent's
    return None


def _name_models(finding: Finding, uris: Sequence[str]) -> Finding:
    if finding.status is Status.HEALTHY or not uris:
        return finding
    on_it = f"model{'s' * (len(uris) > 1)} on it: {_listed(uris)}"
    return replace(finding, summary=f"{finding.summary}; {on_it}")


def _listed(uris: Sequence[str]) -> str:
    """Return *uris* as text: ``churn version 7, fraud version 2``."""
    named = [_title(uri) for uri in uris[:MOST_NAMED]]
    more = [f"{len(uris) - MOST_NAMED} more"] if len(uris) > MOST_NAMED else []
    return ", ".join(named + more)


def _title(uri: str) -> str:
    match = MODEL.fullmatch(uri)
    if match is None:
        return uri
    name, version, alias = match.groups()
    return f"{name} version {version}" if version else f"{name}@{alias}"
