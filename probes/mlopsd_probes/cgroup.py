"""The control groups of this process, of both generations, and the memory that they allow."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UNLIMITED = 2**60  # the first generation writes 2⁶³ rounded down to a page for "no limit"


class MemoryUse(NamedTuple):
    """The memory of one control group, in bytes.

    Attributes:
        used: memory in use, without the page cache that the kernel can drop.
        limit: the most that it may use.
    """

    used: int
    limit: int

    @property
    def available(self) -> int:
        """The memory that is left."""
        return max(0, self.limit - self.used)


def own_cgroups(controller: str, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Iterator[Path]:
    """Yield this process's folder in each hierarchy (v2, v1) that may have *controller*, and its parents."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except FileNotFoundError:  # a kernel without cgroups
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = sys / "fs/cgroup" / controllers
            folder = root / path.strip("/")
            yield folder
            yield from (above for above in folder.parents if above.is_relative_to(root))


def tightest_memory(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> MemoryUse | None:
    """Return the memory of the group with the least left, of this process's groups; None without a limit."""
    uses = [use for folder in own_cgroups("memory", proc, sys) for use in _memory_use(folder)]
    return min(uses, key=lambda use: use.available, default=None)


def _memory_use(folder: Path) -> list[MemoryUse]:
    """Return the memory of one group, if it exists and is limited."""
    for limit, current, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, used = (folder / limit).read_text().strip(), int((folder / current).read_text())
            droppable = _field(folder / "memory.stat", cache)
        except FileNotFoundError:
            continue
        is_limited = most != "max" and int(most) < UNLIMITED
        return [MemoryUse(max(0, used - droppable), int(most))] if is_limited else []
    return []


def _field(file: Path, name: str) -> int:
    """Return one number of a file with lines of a name and a number; 0 if it is not in the file."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return next((int(value) for field, value in pairs if field == name), 0)
