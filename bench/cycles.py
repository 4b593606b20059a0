"""Checks of the GPU probe back to back: ``python -m bench.cycles STATE SYSFS COUNT…``.

For each COUNT a line of JSON: the milliseconds of CPU that a check of those took, and those that the answer
to the daemon took, and what the process then had of memory and file descriptors. A first check, which
initialises NVML, is not counted.
"""

import json
import logging
import os
import sys
import time
from pathlib import Path

from bench.cost import memory
from mlopsd.probe import Context, Reading
from mlopsd.process import frames
from mlopsd.worker.child import Outbox
from mlopsd.worker.codec import Outgoing
from mlopsd.worker.validate import verified
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.probe import GpuProbe


def main() -> None:
    """Check and tell."""
    state, sysfs, *counts = sys.argv[1:]
    log = logging.getLogger("cycles")
    probe = GpuProbe(GpuOptions(sysfs_path=sysfs), Context("gpu", Path(state), log, {}, Outbox()))
    reading = probe.check()
    for count in map(int, counts):
        print(json.dumps({**_measured(probe, count), **_held(reading)}), flush=True)


def _measured(probe: GpuProbe, count: int) -> dict[str, float]:
    checking = answering = 0.0
    outgoing, known = Outgoing(), None
    for _ in range(count):
        began = time.thread_time()
        reading = probe.check()
        checked = time.thread_time()
        answer = outgoing.frame(verified(reading), known)
        known = answer["samples"]["layout"]
        frames.pack({"reading": answer})
        checking += checked - began
        answering += time.thread_time() - checked
    return {"check": checking * 1000 / count, "answer": answering * 1000 / count}


def _held(reading: Reading) -> dict[str, object]:
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    held = {"rss": memory(os.getpid()).rss, "descriptors": descriptors}
    return {**held, "samples": len(reading.samples), "summary": reading.summary}


if __name__ == "__main__":
    main()
