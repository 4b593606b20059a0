"""A file that something else touches as long as it works: a nightly job, a feature export."""

import time
from pathlib import Path

from mlopsd.probe import Advice, Finding, Metric, Options, Probe, ProbeError, Reading, Schedule, Status

AGE = Metric("age_seconds", "Seconds since the file was last touched.", unit="seconds")


class HeartbeatOptions(Options):
    path: Path
    oldest: float = 3600  # seconds


class HeartbeatFile(Probe[HeartbeatOptions]):
    """Degraded while the file has not been touched for too long."""

    Options = HeartbeatOptions
    metrics = (AGE,)
    schedule = Schedule(interval=60, timeout=5)

    def check(self) -> Reading:
        path, oldest = self.options.path, self.options.oldest
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError as error:
            raise ProbeError(
                f"cannot see {path}: there is no such file; set path, or start its job"
            ) from error
        late = age > oldest
        finding = Finding(
            "age",
            Status.DEGRADED if late else Status.HEALTHY,
            f"{path} was touched {age:.0f} s ago, {oldest:.0f} s are allowed",
            observed=age,
            unit="seconds",
            limit=oldest,
            advice=Advice.RESTART_APP if late else Advice.NONE,
        )
        return Reading([finding], [AGE.sample(age)])
