"""The files of the bundle: facts about the host, its GPUs, its kernel and its daemon."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlopsd.cli.bundle.journal import read_journal
from mlopsd.cli.bundle.program import MOST_BYTES, Unavailable, lines_with, run_program
from mlopsd.cli.client import DaemonClient
from mlopsd.cli.config import format_configuration
from mlopsd.cli.systemctl import SERVICE, has_systemd
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig

DAY = 86_400  # seconds
DOCTOR = 120.0  # seconds; each registry that hangs takes 30 s
KERNEL_WORDS = (
    *("nvrm", "nvidia", "xid", "nvswitch", "nvlink"),
    *("out of memory", "oom-kill", "killed process", "blocked for more than", "soft lockup", "hung"),
    *("mce:", "machine check", "edac", "aer:", "hardware error", "pcieport", "thermal", "throttl"),
    *("i/o error", "nvme", "ext4-fs", "xfs", "btrfs", "nfs:", "mlx5", "link is", "iommu", "dmar"),
)
FILES = (
    *("/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/mounts"),
    *("/proc/modules", "/proc/self/cgroup", "/proc/driver/nvidia/version", "/proc/driver/nvidia/params"),
)
PROGRAMS = {
    "gpu/nvidia-smi-q.txt": ("nvidia-smi", "-q"),
    "gpu/nvidia-smi-topo.txt": ("nvidia-smi", "topo", "-m"),
    "gpu/nvidia-smi-nvlink.txt": ("nvidia-smi", "nvlink", "-s"),
    "gpu/lspci.txt": ("lspci", "-vvnn", "-d", "10de:"),
    "host/lscpu.txt": ("lscpu",),
    "host/df.txt": ("df", "-hPl"),
    "host/df-inodes.txt": ("df", "-hPli"),
    "host/ip.txt": ("ip", "-s", "link"),
}
UNIT_PROPERTIES = (
    "ActiveState,SubState,Result,NRestarts,ExecMainPID,ExecMainStatus,ActiveEnterTimestamp,MemoryCurrent,"
    "MemoryMax,TasksCurrent,LimitNOFILE,FragmentPath,DropInPaths,UnitFileState"
)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of the bundle.

    Attributes:
        path: its path in the archive.
        source: the origin of its content, for people.
        read: returns the content, or raises `Unavailable` or an `OSError`.
    """

    path: str
    source: str
    read: Callable[[], bytes]


def files_of_host() -> Iterator[BundleFile]:
    """Yield what describes the host and its GPUs."""
    yield BundleFile("host/uname.txt", "uname -a", lambda: " ".join(platform.uname()).encode())
    for name in FILES:
        folder = "gpu" if "nvidia" in name else "host"
        yield BundleFile(f"{folder}/{Path(name).name}.txt", name, lambda name=name: _read_file(name))  # type: ignore[misc]
    for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        name = f"gpu/{card.parent.name}.txt"
        yield BundleFile(name, str(card), lambda card=card: _read_file(card))  # type: ignore[misc]
    hung: list[str] = []
    for path, command in PROGRAMS.items():
        yield BundleFile(path, " ".join(command), lambda command=command: _run_once(command, hung))  # type: ignore[misc]
    yield BundleFile("host/kernel.txt", f"lines of the kernel's log with: {', '.join(KERNEL_WORDS)}", _kernel)


def files_of_mlopsd(loaded: LoadedConfig | None, configured: list[ProbeConfig]) -> Iterator[BundleFile]:
    """Yield what describes mlopsd on this host, whether or not the daemon runs."""
    yield BundleFile("mlopsd/packages.txt", f"packages of {sys.executable}", _packages)
    if loaded is not None:
        shown = "\n".join(format_configuration(loaded, configured))
        yield BundleFile("mlopsd/config.toml", "mlopsd config show", shown.encode)
    doctor = (sys.executable, "-m", "mlopsd", "doctor", "--json")
    yield BundleFile(
        "mlopsd/doctor.json", "mlopsd doctor --json", lambda: run_program(*doctor, patience=DOCTOR)
    )
    show = ("systemctl", "show", SERVICE, "--property", UNIT_PROPERTIES)
    yield BundleFile("mlopsd/unit.txt", f"systemctl show {SERVICE}", lambda: _of_systemd(*show))
    yield BundleFile("mlopsd/journal.jsonl", f"journal of {SERVICE}, 24 h", lambda: read_journal("-24h"))


def files_of_daemon(client: DaemonClient | None, reason: str) -> Iterator[BundleFile]:
    """Yield what the running daemon says; *reason* is why there is no *client*."""
    paths = {
        "info.json": "/info",
        "health.json": "/health/detailed",
        "history.json": f"/health/history?since={7 * DAY}",
        "metrics.txt": "/metrics",
    }
    for name, path in paths.items():
        yield BundleFile(f"mlopsd/{name}", f"GET {path}", lambda path=path: _ask(client, reason, path))  # type: ignore[misc]


def _ask(client: DaemonClient | None, reason: str, path: str) -> bytes:
    if client is None:
        raise Unavailable(f"no daemon answers: {reason}")
    content = client.read(path)
    try:
        return json.dumps(json.loads(content), indent=1, ensure_ascii=False).encode()
    except ValueError:
        return content


def _read_file(path: str | Path) -> bytes:
    with open(path, "rb") as stream:  # noqa: PTH123  # of /proc, whose size nobody knows before
        return stream.read(MOST_BYTES)


def _run_once(command: tuple[str, ...], hung: list[str]) -> bytes:
    """Run *command*, unless the same program has hung before.

    Raises:
        Unavailable: It has no output.
    """
    if command[0] in hung:
        raise Unavailable(f"{command[0]} did not end before")
    try:
        return run_program(*command)
    except Unavailable as error:
        if "did not end" in str(error):
            hung.append(command[0])
        raise


def _of_systemd(*command: str) -> bytes:
    if not has_systemd():
        raise Unavailable("this host does not run systemd")
    return run_program(*command)


def _kernel() -> bytes:
    """Return the lines of the kernel's log about hardware and drivers, from the journal or from dmesg.

    Raises:
        Unavailable: This user may read neither, or no line has one of the words.
    """
    reasons = []
    for command in (("journalctl", "-k", "-b", "-o", "short-iso", "--no-pager", "-q"), ("dmesg",)):
        try:
            whole = run_program(*command)
        except Unavailable as error:
            reasons.append(str(error))
            continue
        if b"Operation not permitted" in whole[:200]:
            reasons.append("this user may not read it; run mlopsd bundle as root")
            continue
        return lines_with(KERNEL_WORDS, whole) or b"no line has one of the words\n"
    raise Unavailable("; ".join(reasons))


def _packages() -> bytes:
    found = {f"{one.name}=={one.version}" for one in importlib.metadata.distributions()}
    return "\n".join([f"Python {platform.python_version()}", *sorted(found, key=str.lower), ""]).encode()


def host_name() -> str:
    """Return the name of this host, as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in os.uname().nodename)
