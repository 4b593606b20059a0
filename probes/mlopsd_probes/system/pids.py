"""Process and thread ids in use, and their limits."""

from pathlib import Path
from typing import NamedTuple

from mlopsd.format import format_ratio
from mlopsd.probe import Advice, Finding, Metric, Reading
from mlopsd_probes.cgroup import own_cgroups
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

USED = Metric(
    "pids", "Processes and threads, of the host or of the cgroup nearest to its limit.", labels=("scope",)
)
LIMIT = Metric("pids_limit", "Processes and threads that are allowed.", labels=("scope",))


class Use(NamedTuple):
    """The number of *used* ids and their *limit*, in the *scope* ``host`` or ``cgroup``."""

    scope: str
    used: int
    limit: int

    @property
    def ratio(self) -> float:
        """The used share; a limit of 0 is fully used."""
        return self.used / self.limit if self.limit else 1.0


class Pids(HostCollector):
    """Ids in use, compared with ``pid_max``, ``threads-max`` and ``pids.max`` of this process's cgroups.

    ``/proc/loadavg`` has the kernel's count of threads, so this does not walk over ``/proc``.
    """

    name = "pids"
    source = "/proc/loadavg"
    findings = ("pids",)
    metrics = (USED, LIMIT)

    def __init__(self, options: SystemOptions, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._limits = Limits(options.pids_degraded, options.pids_unhealthy)
        self._proc = proc
        self._sys = sys

    def collect(self) -> Reading:
        """Return the use of the host, and of the tightest cgroup if one is limited."""
        uses = [_host_use(self._proc), *self._tightest_cgroup()]
        samples = [USED.sample(use.used, scope=use.scope) for use in uses]
        samples += [LIMIT.sample(use.limit, scope=use.scope) for use in uses]
        return Reading([self._judge(use) for use in uses], samples)

    def _tightest_cgroup(self) -> list[Use]:
        """Return the cgroup nearest to its limit, among this process's cgroups and their parents."""
        uses = [use for folder in own_cgroups("pids", self._proc, self._sys) for use in _cgroup_use(folder)]
        return [max(uses, key=lambda use: use.ratio)] if uses else []

    def _judge(self, use: Use) -> Finding:
        """Return the finding of one scope."""
        where = "of the host" if use.scope == "host" else "of this service's cgroup"
        return self._limits.finding(
            "pids",
            f"{use.used} of the {use.limit} process ids {where} are used ({format_ratio(use.ratio)})",
            use.ratio,
            unit="ratio",
            text=format_ratio,
            advice=Advice.RESTART_APP,
            subject=use.scope,
        )


def _host_use(proc: Path) -> Use:
    """Return the host's threads (after the slash in loadavg) and the lower of the two limits."""
    threads = int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    limits = [int((proc / "sys/kernel" / name).read_text()) for name in ("pid_max", "threads-max")]
    return Use("host", threads, min(limits))


def _cgroup_use(folder: Path) -> list[Use]:
    """Return the use of one cgroup, if it exists and is limited."""
    try:
        most, used = (folder / "pids.max").read_text().strip(), (folder / "pids.current").read_text()
    except FileNotFoundError:
        return []
    return [] if most == "max" else [Use("cgroup", int(used), int(most))]
