"""A network mount. Looking at a dead one can hang in the kernel, so the look has a process of its own."""

import os
from pathlib import Path

from mlopsd.probe import Advice, Finding, Metric, Options, Probe, Reading, Schedule, Status

FREE = Metric("free_bytes", "Bytes that are free on the mount.", unit="bytes")


class MountOptions(Options):
    path: Path
    least_free: float = 0.05  # ratio


class NetworkMount(Probe[MountOptions]):
    """Unhealthy when nothing is mounted, degraded when it is nearly full, unknown when it hangs."""

    Options = MountOptions
    metrics = (FREE,)
    schedule = Schedule(interval=30, timeout=10, isolation="process")

    def check(self) -> Reading:
        path = self.options.path
        if not os.path.ismount(path):
            why = f"nothing is mounted on {path}"
            return Reading([Finding("mounted", Status.UNHEALTHY, why, str(path), advice=Advice.FIX_CONFIG)])
        room = os.statvfs(path)
        free = room.f_bavail / room.f_blocks if room.f_blocks else 1.0
        short = free < self.options.least_free
        finding = Finding(
            "free",
            Status.DEGRADED if short else Status.HEALTHY,
            f"{free:.1%} of {path} is free, {self.options.least_free:.1%} must be",
            subject=str(path),
            observed=free,
            unit="ratio",
            limit=self.options.least_free,
            advice=Advice.FREE_RESOURCES if short else Advice.NONE,
        )
        return Reading([finding], [FREE.sample(room.f_bavail * room.f_frsize)])
