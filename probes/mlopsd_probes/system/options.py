"""The system probe's keys in the configuration: each limit, its unit and the reason for its value."""

import os.path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from mlopsd.probe import Options
from mlopsd.units import Bytes
from mlopsd_probes.keys import Moment, Ratio, key

CEILINGS = (
    "cpu_use",
    "load",
    "swap_used",
    "pressure_cpu",
    "pressure_memory",
    "pressure_io",
    "open_files",
    "pids",
    "temperature",
)
TIMEOUT = 5.0  # seconds that a check may take, unless its table says otherwise
LONGEST_PATH_TIMEOUT = 4.0  # seconds; what is left is for the other collectors and a child that has to start
FLOORS = ("disk_free", "inodes_free", "memory_available")

Celsius = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Load = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _absolute(path: str) -> str:
    """Return *path* without ``..``, doubled or trailing slashes.

    Raises:
        ValueError: it does not start at the root, or no file can have that name.
    """
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path; it must start with /")
    if "\0" in path:
        raise ValueError(f"{path!r} holds a NUL, which no path can")
    return os.path.normpath(path).replace("//", "/")


def _within_a_check(seconds: float) -> float:
    """Return *seconds*, if a check that waits so long still ends in time.

    Raises:
        ValueError: it does not, and all that the other collectors found would be lost.
    """
    if seconds > LONGEST_PATH_TIMEOUT:
        loss = f"a dead mount would use up the check's timeout of {TIMEOUT:g} s and take every other finding"
        raise ValueError(f"{loss} along; write at most {LONGEST_PATH_TIMEOUT:g} s")
    return seconds


class SystemOptions(Options):
    """The keys of ``[probes.system]``; ratios are 0 to 1, and a limit without a value never applies.

    A number *reaches* an upper limit and *falls below* a lower one, so 0 switches a lower limit off.
    """

    paths: tuple[Annotated[str, AfterValidator(_absolute)], ...] = key(
        ("/",), "paths", "The paths whose file systems are looked at; name the model cache's here."
    )
    path_timeout: Annotated[Moment, AfterValidator(_within_a_check)] = key(
        1.0, "seconds", "A fifth of the check's timeout; a live file system answers in microseconds."
    )
    disk_free_degraded: Ratio = key(0.05, "ratio", "Free for users; ext4 itself keeps 5 % back for root.")
    disk_free_unhealthy: Ratio = key(0.02, "ratio", "The next model fetch or log burst fills the rest.")
    disk_free_enough: Bytes = key(
        100_000_000_000, "bytes", "With this much free a disk is not short: 5 % of 30 TB is 1.5 TB."
    )
    inodes_free_degraded: Ratio = key(0.05, "ratio", "As for space: no inode, no new file.")
    inodes_free_unhealthy: Ratio = key(0.01, "ratio", "Inodes go by small files, slower than space does.")
    memory_available_degraded: Ratio = key(
        0.05, "ratio", "Of MemAvailable, which counts the page cache as free: a full cache is no fault."
    )
    memory_available_unhealthy: Ratio = key(0.02, "ratio", "The kernel's OOM killer is near.")
    memory_available_enough: Bytes = key(
        16_000_000_000, "bytes", "With this much available memory is not short: 5 % of 2 TB is 100 GB."
    )
    swap_used_degraded: Ratio | None = key(
        0.8, "ratio", "Counts only while memory is short as well: idle pages in swap hurt nobody."
    )
    swap_used_unhealthy: Ratio | None = key(
        None, "ratio", "Full swap stops nothing; memory and its pressure say when something does."
    )
    swap_memory_short: Ratio = key(
        0.1, "ratio", "Memory available below which used swap counts: twice the limit of memory itself."
    )
    cpu_use_degraded: Ratio | None = key(None, "ratio", "A GPU host may feed its GPUs with every CPU it has.")
    cpu_use_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    load_degraded: Load | None = key(
        2.0, "tasks per cpu", "Over 5 min, two tasks wait or run for each CPU: overcommitted, not broken."
    )
    load_unhealthy: Load | None = key(
        None, "tasks per cpu", "Load alone stops nothing, and counts tasks that wait for a disk."
    )
    pressure_cpu_degraded: Ratio | None = key(
        None, "ratio", "Time in which some task waits for a CPU, over 60 s; data loaders do by design."
    )
    pressure_cpu_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    pressure_memory_degraded: Ratio | None = key(
        0.2,
        "ratio",
        "Time in which all tasks wait for memory, over 60 s: a fifth of the host's work is lost.",
    )
    pressure_memory_unhealthy: Ratio | None = key(
        0.6, "ratio", "systemd-oomd's DefaultMemoryPressureLimit: there it starts to kill."
    )
    pressure_io_degraded: Ratio | None = key(
        None, "ratio", "Time in which all tasks wait for disks, over 60 s; one copy on an idle host is 1."
    )
    pressure_io_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    open_files_degraded: Ratio = key(0.8, "ratio", "Of fs.file-max; there is time to find who leaks.")
    open_files_unhealthy: Ratio = key(0.95, "ratio", "Beyond the limit every open() and accept() fails.")
    pids_degraded: Ratio = key(0.8, "ratio", "Of pid_max, threads-max or a cgroup's pids.max.")
    pids_unhealthy: Ratio = key(0.95, "ratio", "Beyond the limit every fork() and new thread fails.")
    stuck_after: Moment = key(
        60.0, "seconds", "One uninterruptible sleep this long; half the kernel's own hung_task_timeout_secs."
    )
    stuck_unhealthy_commands: tuple[str, ...] = key(
        ("nvidia*", "nv_*", "UVM*"), "patterns", "Commands and kernel threads of the driver: it hangs."
    )
    stuck_ignored_commands: tuple[str, ...] = key(
        (), "patterns", "Commands that sleep so by design, as a few drivers' kernel threads do."
    )
    temperature_degraded: Celsius | None = key(
        None, "celsius", "Without a value the sensor's own high limit (hwmon tempN_max)."
    )
    temperature_unhealthy: Celsius | None = key(
        None, "celsius", "Without a value the sensor's own critical limit (hwmon tempN_crit)."
    )
    temperature_ignored_chips: tuple[str, ...] = key(
        ("acpitz", "asus*", "f71*", "it8*", "nct6*", "nct7*", "w83*"),
        "patterns",
        "Mainboard chips, whose unconnected inputs and made-up limits cry wolf; reported, not judged.",
    )

    @model_validator(mode="after")
    def limits_are_in_order(self) -> Self:
        """Reject a degraded limit that lies beyond the unhealthy one.

        Raises:
            ValueError: naming both keys and both values.
        """
        for name in CEILINGS + FLOORS:
            mild, hard = (getattr(self, f"{name}_{status}") for status in ("degraded", "unhealthy"))
            if mild is not None and hard is not None and (mild < hard if name in FLOORS else mild > hard):
                side = "less" if name in FLOORS else "more"
                raise ValueError(
                    f"{name}_degraded ({mild:g}) must not be {side} than {name}_unhealthy ({hard:g})"
                )
        return self

    @model_validator(mode="after")
    def paths_are_distinct(self) -> Self:
        """Reject a path that is there twice: its numbers would collide.

        Raises:
            ValueError: naming the path.
        """
        for path in self.paths:
            if self.paths.count(path) > 1:
                raise ValueError(f"paths names {path!r} twice")
        return self
