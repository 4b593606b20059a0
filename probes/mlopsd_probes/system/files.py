"""Open files of all processes."""

from pathlib import Path

from mlopsd.format import format_ratio
from mlopsd.probe import Advice, Metric, Reading
from mlopsd_probes.limits import Limits
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

OPEN = Metric("open_files", "Open file handles of the whole host.")
LIMIT = Metric("open_files_limit", "Open file handles that the kernel allows (fs.file-max).")
UNLIMITED = 2**62  # systemd sets fs.file-max to the largest possible number


class OpenFiles(HostCollector):
    """``/proc/sys/fs/file-nr``: allocated, free (always 0 since Linux 2.6), and the limit."""

    name = "open_files"
    source = "/proc/sys/fs/file-nr"
    findings = ("open_files",)
    metrics = (OPEN, LIMIT)

    def __init__(self, options: SystemOptions, proc: Path = Path("/proc")) -> None:
        self._limits = Limits(options.open_files_degraded, options.open_files_unhealthy)
        self._file_nr = proc / "sys/fs/file-nr"

    def collect(self) -> Reading:
        """Return the open files and their limit, which is 2⁶³ on many hosts."""
        allocated, free, most = (int(number) for number in self._file_nr.read_text().split())
        used = allocated - free
        share = f"of {most} files are open ({format_ratio(used / most)})"
        is_limited = most < UNLIMITED
        fact = share if is_limited else "files are open, and there is no limit"
        limits = self._limits if is_limited else Limits()
        finding = limits.finding(
            "open_files",
            f"{used} {fact}",
            used / most,
            unit="ratio",
            text=format_ratio,
            advice=Advice.RESTART_APP,
        )
        return Reading([finding], [OPEN.sample(used), LIMIT.sample(most)])
