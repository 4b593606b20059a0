"""The processes on a card; its findings name the models among them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml

from mlopsd.probe import Finding, Metric, Reading, Status
from mlopsd_probes.gpu.card import LABELS, Card
from mlopsd_probes.gpu.collector import CardCollector
from mlopsd_probes.gpu.nvml import NO_CARD, NO_SESSION, ask, number

PROCESSES = Metric("processes", "Processes that use the card to compute.", labels=LABELS)
PROC = Path("/proc")
MODEL = re.compile(r"models:/([^/@]{1,255})(?:/(\d{1,18})|@([^/@]{1,255}))")  # MLflow's URI of a version
MOST_ANCESTORS = 8  # a model's own workers are children of its process
MOST_NAMED = 3  # in one sentence


class Processes(CardCollector):
    """``nvmlDeviceGetComputeRunningProcesses_v3``, with the host's process ids.

    Models are always named; the list of all processes needs ``processes``.
    """

    name = "processes"
    metrics = (PROCESSES,)

    def collect(self, card: Card) -> Reading:
        """Report the models and, with ``processes``, the count and the largest processes as facts.

        Raises:
            NVMLError: the list is wanted and NVML failed for another reason than a lack, or no call works.
        """
        try:
            found = ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, card.handle)
        except pynvml.NVMLError as error:
            if self.options.processes or error.value in NO_SESSION | NO_CARD:
                raise
            found = None
        uris = models(process.pid for process in found or ())
        facts: dict[str, Any] = {"models": uris} if uris else {}
        if found is None or not self.options.processes:
            return Reading(facts=facts)
        listed = sorted(
            (_describe(process) for process in found), key=lambda one: -one.get("memory_bytes", 0)
        )
        facts["processes"] = listed[: self.options.processes_most]
        return Reading(samples=card.samples(PROCESSES, len(listed)), facts=facts)


def _describe(process: Any) -> dict[str, int]:
    """Return the pid, and the memory in bytes if NVML knows it."""
    memory = number(process.usedGpuMemory)
    return {"pid": process.pid} if memory is None else {"pid": process.pid, "memory_bytes": memory}


def models(pids: Iterable[int], proc: Path = PROC) -> list[str]:
    """Return MLflow's URIs of the models of *pids*, each once, from ``/proc/PID/cmdline``.

    The model's URI is the last argument of mlopsd's model processes, and an argument of
    ``mlflow models serve -m``.
    """
    return sorted({uri for pid in pids if (uri := _model(pid, proc)) is not None})


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
    """Return the URI in the command line of *pid* or of its nearest ancestor that has one."""
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
