"""The preconditions of a rollout: no broken GPU under the model, and enough memory."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlopsd.format import format_size
from mlopsd.probe import Reading, Status
from mlopsd_probes.cgroup import tightest_memory
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion

VISIBLE = "CUDA_VISIBLE_DEVICES"
MEMINFO = Path("/proc/meminfo")
BROKEN = "is unhealthy:"  # in the sentence about a GPU, whose own finding has the advice


def find_precondition(
    board: Mapping[str, Reading],
    options: ModelOptions,
    version: CachedVersion | None,
    before: CachedVersion | None,
) -> str | None:
    """Return the reason why *version* may not replace *before* now; blocks.

    Each is None if it is not on disk. The notes of their last load decide.
    """
    notes = [one.notes or {} for one in (version, before) if one is not None]
    if any(note.get("cuda") for note in notes):
        broken = broken_gpu(board, options.gpu_probe)
        if broken is not None:
            return broken
    needed = next((note["load_bytes"] for note in notes if note.get("load_bytes")), None)
    makes_room = before is not None and options.swap == "replace"
    on_gpus: Mapping[str, int] = next((note["gpu_bytes"] for note in notes if note.get("gpu_bytes")), {})
    given_back = gpu_memory_of(board, options, before) if makes_room else {}
    return too_little_memory(needed, (needed or 0) if makes_room else 0) or too_little_gpu_memory(
        board, options.gpu_probe, on_gpus, given_back
    )


def broken_gpu(board: Mapping[str, Reading], gpu_probe: str) -> str | None:
    """Return a sentence about an unhealthy GPU in the reading of *gpu_probe*, if the model may use it."""
    reading = board.get(gpu_probe)
    if reading is None:
        return None
    visible = _visible()
    for finding in reading.findings:
        index = re.match(r"gpu (\d+)\b", finding.subject or "")
        elsewhere = visible is not None and index is not None and int(index[1]) not in visible
        if finding.status == Status.UNHEALTHY and not elsewhere:
            return f"{finding.subject or 'the GPU'} {BROKEN} {finding.summary}"
    return None


def gpu_memory_of(
    board: Mapping[str, Reading], options: ModelOptions, version: CachedVersion | None
) -> dict[str, int]:
    """Return the memory of *version* on each GPU by its UUID, in bytes, as the GPU probe last saw it."""
    uri = None if version is None else f"models:/{options.model}/{version.version.number}"
    gpus = _gpus(board, options.gpu_probe)
    held = {gpu["uuid"]: gpu.get("model_memory_bytes", {}).get(uri) for gpu in gpus}
    return {uuid: size for uuid, size in held.items() if size}


def too_little_gpu_memory(
    board: Mapping[str, Reading], gpu_probe: str, needed: Mapping[str, int], given_back: Mapping[str, int]
) -> str | None:
    """Return a sentence if a GPU has less memory free than a version of the model once *needed* on it.

    Args:
        board: the latest readings of all probes.
        gpu_probe: the name of the GPU probe.
        needed: the most bytes by UUID of the GPU.
        given_back: bytes by UUID that the old version frees beforehand.
    """
    for gpu in _gpus(board, gpu_probe):
        want, free = needed.get(gpu["uuid"], 0), gpu.get("memory_free_bytes")
        if free is not None and free + given_back.get(gpu["uuid"], 0) < want:
            have = f"gpu {gpu['index']} has {format_size(free)} free"
            return f"{have} and the model once needed {format_size(want)} there"
    return None


def _gpus(board: Mapping[str, Reading], gpu_probe: str) -> Sequence[Mapping[str, Any]]:
    """Return the line of each GPU in the facts of *gpu_probe*, which may be another's probe or absent."""
    gpus = board[gpu_probe].facts.get("gpus") if gpu_probe in board else None
    return [gpu for gpu in gpus or () if "uuid" in gpu and "index" in gpu]


def _visible() -> frozenset[int] | None:
    """Return the indexes of the GPUs that models may see; None for all, or if UUIDs name them."""
    parts = os.environ.get(VISIBLE, "").split(",")
    return frozenset(map(int, parts)) if all(part.strip().isdecimal() for part in parts) else None


def too_little_memory(needed: int | None, given_back: int = 0) -> str | None:
    """Return a sentence if less memory is available than the next load needs.

    Reads /proc/meminfo and the control groups, so it blocks.

    Args:
        needed: bytes that the last load took.
        given_back: bytes that the old version frees beforehand.
    """
    if needed is None or (available := available_memory()) is None:
        return None
    if available + given_back >= needed:
        return None
    return f"{format_size(available)} of memory are available and the last load needed {format_size(needed)}"


def available_memory() -> int | None:
    """Return the bytes that the host and this process's control groups leave; None if neither says."""
    left = [] if (host := _host_memory()) is None else [host]
    with suppress(OSError, ValueError):
        group = tightest_memory()
        left += [] if group is None else [group.available]
    return min(left, default=None)


def _host_memory() -> int | None:
    """Return ``MemAvailable`` in bytes; None where it cannot be read."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text("ascii"), re.MULTILINE)
    except (OSError, UnicodeError):
        return None
    return int(found[1]) * 1024 if found else None
