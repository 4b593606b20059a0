"""The GPU probe's keys in the configuration: each limit, its unit and the reason for its value."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlopsd.probe import Options, Status
from mlopsd.units import Bytes
from mlopsd_probes.keys import Moment, Ratio, key

Celsius = Annotated[float, Field(gt=0, le=150, allow_inf_nan=False)]
Margin = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1024)]
Some = Annotated[int, Field(ge=1, le=2**53)]
Xid = Annotated[int, Field(ge=1, le=9999)]


class GpuOptions(Options):
    """The keys of ``[probes.gpu]``; ratios are 0 to 1, and a limit without a value never applies."""

    expected_count: Count | None = key(
        None, "gpus", "GPUs that must answer. Default: all that sysfs lists or that answered since boot."
    )
    on_no_driver: Literal["unknown", "unhealthy", "healthy"] = key(
        "unknown", "status", "Status of a host without driver or GPU. With expected_count = 0 it is healthy."
    )
    ignored_cards: tuple[str, ...] = key(
        (), "patterns", "PCI addresses or UUIDs of GPUs to ignore, as a display's: 0000:01:00.0."
    )
    sysfs_path: str = key("/sys", "path", "Where the kernel lists PCI devices; /host/sys in some containers.")
    xids_unhealthy: tuple[Xid, ...] = key(
        (48, 62, 64, 74, 79, 95, 119, 120, 140),
        "xids",
        "Kept until a reset or reboot. DCGM fails on these, and NVIDIA's XID table asks for a reset.",
    )
    xids_degraded: tuple[Xid, ...] = key(
        (63, 94),
        "xids",
        "The driver confined these errors to one program. Other work continues; check the card.",
    )
    xid_recent: Moment = key(3600.0, "seconds", "Time for which a degraded XID counts.")
    ecc_uncorrected_unhealthy: Some = key(
        1,
        "errors",
        "Uncorrected errors since the first check after the driver loaded. Each may be wrong data.",
    )
    retired_pages_unhealthy: Some = key(
        63, "pages", "Retired pages. DCGM's health watch fails at this number; the card has room for 64."
    )
    temperature_margin: Margin = key(
        5.0, "celsius", "Degraded at this distance from the card's slowdown limit: it will throttle soon."
    )
    temperature_degraded: Celsius | None = key(
        None, "celsius", "Limit of the GPU. Default: the card's slowdown limit less the margin."
    )
    temperature_unhealthy: Celsius | None = key(
        None, "celsius", "Limit of the GPU. Default: the card's slowdown limit."
    )
    throttled_degraded: Moment = key(
        180.0,
        "seconds",
        "Time in HW slowdown, HW thermal or power brake within the window. gpud allows 6 of 10 min.",
    )
    throttled_window: Moment = key(
        300.0, "seconds", "The window. Short slowdowns are normal for the hardware; they do not fill it."
    )
    pcie_busy: Ratio = key(
        0.5,
        "ratio",
        "The link is judged from this utilisation on, in P0 to P2. Idle cards slow it down.",
    )
    pcie_generation_after: Moment = key(
        30.0,
        "seconds",
        "Busy time on a slow link. A link speeds up in milliseconds, so two checks are enough.",
    )
    expected_nvlinks: Count | None = key(
        None, "links", "Links of each card. Default: as many as were up at the first check since boot."
    )
    pcie_throughput: bool = key(
        default=False,
        unit="switch",
        why="Measure it. NVML takes 20 ms per direction and card: 320 ms for eight cards.",
    )
    processes: bool = key(
        default=False,
        unit="switch",
        why="List each card's processes in the facts: pids and memory, no names.",
    )
    processes_most: Count = key(
        32, "processes", "Most processes listed per card, the largest first. The others are only counted."
    )

    foreign_memory_degraded: Bytes | None = key(
        None,
        "bytes",
        "Memory of a card that processes hold which are no model. They may leave a model too little.",
    )

    @property
    def no_driver_status(self) -> Status:
        """Return the status of a host without a driver or GPU."""
        return Status[self.on_no_driver.upper()]

    @model_validator(mode="after")
    def limits_are_in_order(self) -> Self:
        """Reject limits that contradict each other.

        Raises:
            ValueError: the text names the keys and both values.
        """
        mild, hard = self.temperature_degraded, self.temperature_unhealthy
        if mild is not None and hard is not None and mild > hard:
            raise ValueError(
                f"temperature_degraded ({mild:g}) must not be more than temperature_unhealthy ({hard:g})"
            )
        if self.throttled_degraded > self.throttled_window:
            limit, window = self.throttled_degraded, self.throttled_window
            raise ValueError(
                f"throttled_window ({window:g}) must not be less than throttled_degraded ({limit:g})"
            )
        if both := set(self.xids_degraded) & set(self.xids_unhealthy):
            raise ValueError(f"XID {min(both)} is in xids_degraded and xids_unhealthy; remove it from one")
        return self
