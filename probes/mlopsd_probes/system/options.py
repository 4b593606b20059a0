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
    "cgroup_memory",
    "temperature",
)
TIMEOUT = 5.0  # seconds that a check may take, unless its table says otherwise
LONGEST_PATH_TIMEOUT = 4.0  # seconds; the rest is for the other collectors and for starting the process
FLOORS = ("disk_free", "inodes_free", "memory_available")

Celsius = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Load = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _absolute(path: str) -> str:
    """Return *path* without ``..``, doubled or trailing slashes.

    Raises:
        ValueError: it does not start with /, or contains a NUL.
    """
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path; it must start with /")
    if "\0" in path:
        raise ValueError(f"{path!r} contains a NUL; remove it")
    return os.path.normpath(path).replace("//", "/")


def _within_a_check(seconds: float) -> float:
    """Return *seconds*, if a check that waits so long still ends in time.

    Raises:
        ValueError: the check would time out, and lose the findings of all collectors.
    """
    if seconds > LONGEST_PATH_TIMEOUT:
        loss = f"a dead mount would use up the check's timeout of {TIMEOUT:g} s and lose every other finding"
        raise ValueError(f"{loss}; write at most {LONGEST_PATH_TIMEOUT:g} s")
    return seconds


class SystemOptions(Options):
    """The keys of ``[probes.system]``; ratios are 0 to 1, and a limit without a value never applies.

    A number crosses an upper limit when it reaches it, and a lower limit when it falls below it. So 0
    disables a lower limit.
    """

    paths: tuple[Annotated[str, AfterValidator(_absolute)], ...] = key(
        ("/",), "paths", "Paths whose file systems are checked; add the disk of the model cache."
    )
    path_timeout: Annotated[Moment, AfterValidator(_within_a_check)] = key(
        1.0,
        "seconds",
        "Longest wait for a path. A fifth of the check's timeout; a live disk answers in microseconds.",
    )
    disk_free_degraded: Ratio = key(0.05, "ratio", "Space free for users. ext4 itself reserves 5 % for root.")
    disk_free_unhealthy: Ratio = key(
        0.02, "ratio", "Space free for users. The next model download or log burst fills the rest."
    )
    disk_free_enough: Bytes = key(
        100_000_000_000, "bytes", "A disk with this much free is never short: 5 % of 30 TB is 1.5 TB."
    )
    inodes_free_degraded: Ratio = key(
        0.05, "ratio", "Free inodes, with the limit of space: without an inode there is no new file."
    )
    inodes_free_unhealthy: Ratio = key(0.01, "ratio", "Free inodes. They run out more slowly than space.")
    memory_available_degraded: Ratio = key(
        0.05, "ratio", "MemAvailable, which counts the page cache as free: a full cache is normal."
    )
    memory_available_unhealthy: Ratio = key(
        0.02, "ratio", "MemAvailable. Below it the kernel's OOM killer is near."
    )
    memory_available_enough: Bytes = key(
        16_000_000_000, "bytes", "Memory is never short with this much available: 5 % of 2 TB is 100 GB."
    )
    swap_used_degraded: Ratio | None = key(
        0.8, "ratio", "Used swap. It counts only while memory is short too: idle pages in swap do no harm."
    )
    swap_used_unhealthy: Ratio | None = key(
        None, "ratio", "Used swap. Full swap alone does no harm; memory and its pressure show when it does."
    )
    swap_memory_short: Ratio = key(
        0.1, "ratio", "Used swap counts only below this MemAvailable; twice memory_available_degraded."
    )
    cpu_use_degraded: Ratio | None = key(
        None, "ratio", "Busy share of the CPUs. A GPU host may use every CPU to feed its GPUs."
    )
    cpu_use_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    load_degraded: Load | None = key(
        2.0,
        "tasks per cpu",
        "Tasks that run or wait per CPU, over 5 min. Two mean overcommitted, not broken.",
    )
    load_unhealthy: Load | None = key(
        None, "tasks per cpu", "As above. Load alone does no harm, and includes tasks that wait for a disk."
    )
    pressure_cpu_degraded: Ratio | None = key(
        None, "ratio", "Share of 60 s in which some task waits for a CPU; data loaders do so by design."
    )
    pressure_cpu_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    pressure_memory_degraded: Ratio | None = key(
        0.2,
        "ratio",
        "Share of 60 s in which all tasks wait for memory. A fifth of the host's work is lost.",
    )
    pressure_memory_unhealthy: Ratio | None = key(
        0.6, "ratio", "As above. systemd-oomd starts to kill at this limit (DefaultMemoryPressureLimit)."
    )
    pressure_io_degraded: Ratio | None = key(
        None, "ratio", "Share of 60 s in which all tasks wait for disks; one copy on an idle host gives 1."
    )
    pressure_io_unhealthy: Ratio | None = key(None, "ratio", "As above.")
    open_files_degraded: Ratio = key(
        0.8, "ratio", "Open files, of fs.file-max. There is still time to find the leak."
    )
    open_files_unhealthy: Ratio = key(
        0.95, "ratio", "Open files, of fs.file-max. At the limit every open() and accept() fails."
    )
    pids_degraded: Ratio = key(
        0.8, "ratio", "Processes and threads, of pid_max, threads-max or a cgroup's pids.max."
    )
    pids_unhealthy: Ratio = key(0.95, "ratio", "As above. At the limit every fork() and new thread fails.")
    stuck_after: Moment = key(
        60.0,
        "seconds",
        "Time in one uninterruptible sleep, or since a SIGKILL. Half the kernel's hung_task_timeout_secs.",
    )
    stuck_unhealthy_commands: tuple[str, ...] = key(
        ("nvidia*", "nv_*", "UVM*"),
        "patterns",
        "Commands and kernel threads of the GPU driver. If one is stuck, the driver hangs.",
    )
    stuck_ignored_commands: tuple[str, ...] = key(
        (), "patterns", "Commands that sleep uninterruptibly by design, as some drivers' kernel threads."
    )
    cgroup_memory_degraded: Ratio = key(
        0.9, "ratio", "Memory in use, of the limit of the daemon's control group, without droppable cache."
    )
    cgroup_memory_unhealthy: Ratio = key(
        0.98, "ratio", "As above. At the limit the kernel kills a process of the group, mostly a model."
    )
    clock_unsynchronised_after: Moment = key(
        600.0, "seconds", "A time service needs minutes after boot. A year switches the judgement off."
    )
    link_errors_window: Moment = key(3600.0, "seconds", "Window of errors of PCIe and InfiniBand links.")
    pcie_corrected_limit: Count = key(
        100,
        "errors",
        "Corrected errors of a device in the window. No published limit: a sound link has none.",
    )
    link_downed_limit: Count = key(
        2, "times", "Times that an InfiniBand port lost its link in the window. Once is often a restart."
    )
    memory_errors_window: Moment = key(86400.0, "seconds", "Window of ECC errors; mcelog uses 24 h too.")
    memory_corrected_limit: Count = key(
        10, "errors", "Corrected errors of a memory module in the window. mcelog's limit for a module."
    )
    cpu_throttled_limit: Ratio = key(
        0.1, "ratio", "Share of 10 min for which a hot CPU slowed down. A cooled CPU of a server does not."
    )
    temperature_degraded: Celsius | None = key(
        None, "celsius", "Default: the sensor's own high limit (hwmon tempN_max)."
    )
    temperature_unhealthy: Celsius | None = key(
        None, "celsius", "Default: the sensor's own critical limit (hwmon tempN_crit)."
    )
    temperature_ignored_chips: tuple[str, ...] = key(
        ("acpitz", "asus*", "f71*", "it8*", "nct6*", "nct7*", "w83*"),
        "patterns",
        "Reported, not judged: mainboard chips with unconnected inputs and wrong limits.",
    )

    @model_validator(mode="after")
    def limits_are_in_order(self) -> Self:
        """Reject a degraded limit beyond the unhealthy one.

        Raises:
            ValueError: the text names both keys and both values.
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
        """Reject a path that is listed twice: its numbers would collide.

        Raises:
            ValueError: the text names the path.
        """
        for path in self.paths:
            if self.paths.count(path) > 1:
                raise ValueError(f"paths lists {path!r} twice; remove one")
        return self
