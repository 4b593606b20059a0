"""The machine that a run was made on, and what else it was doing."""

import os
import platform
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("aiohttp", "aioprometheus", "psutil", "pydantic", "pydantic-settings")
PEERS = (
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "prometheus-client",
    "mlflow",
)  # as far as they are there
TICKS = os.sysconf("SC_CLK_TCK")
IDLE = (3, 4)  # columns of /proc/stat: idle and waiting for a disk
GUESTS = 8  # from there on the columns count what others already hold


def described() -> str:
    """Date, processor, kernel, interpreter and packages, for a reader to compare with his own."""
    packages = ", ".join(_versions((*PACKAGES, *PEERS)))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores of {_processor()}, {_memory()}, "
        f"Linux {platform.release()}\n"
        f"{platform.python_implementation()} {platform.python_version()}, {packages}"
    )


def _versions(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


class Company:
    """How much of the machine others used from now on, our own processes left out.

    Ours count once they have ended, so ask after that.
    """

    def __init__(self) -> None:
        self._uptime, self._busy, self._own = _uptime(), _busy(), _own()

    def __str__(self) -> str:
        seconds = _uptime() - self._uptime
        others = max(_busy() - self._busy - (_own() - self._own), 0) / seconds
        return f"others used {others:.2f} of {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text("ascii").split()[0])


def _busy() -> float:
    columns = [int(text) for text in Path("/proc/stat").read_text("ascii").split("\n")[0].split()[1:]]
    return sum(value for at, value in enumerate(columns) if at not in IDLE and at < GUESTS) / TICKS


def _own() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
