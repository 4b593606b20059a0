"""The GPU probe's keys in the configuration: each limit, its unit and why it is what it is."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlopsd.probe import Options, Status
from mlopsd_probes.keys import Moment, Ratio, key

Celsius = Annotated[float, Field(gt=0, le=150, allow_inf_nan=False)]
Margin = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1024)]
Some = Annotated[int, Field(ge=1, le=2**53)]
Xid = Annotated[int, Field(ge=1, le=9999)]


class GpuOptions(Options):
    """The keys of ``[probes.gpu]``; ratios are 0 to 1, and a limit without a value never applies."""

    expected_count: Count | None = key(
        None, "gpus", "How many must answer; without a value as many as sysfs and the first success say."
    )
    on_no_driver: Literal["unknown", "unhealthy", "healthy"] = key(
        "unknown", "status", "Of a host without driver or GPU, unless expected_count is 0: then healthy."
    )
    ignored_cards: tuple[str, ...] = key(
        (), "patterns", "PCI addresses or UUIDs of GPUs to leave alone, as a display's: 0000:01:00.0."
    )
    sysfs_path: str = key("/sys", "path", "Where the kernel lists PCI devices; /host/sys in some containers.")
    xids_unhealthy: tuple[Xid, ...] = key(
        (48, 62, 64, 74, 79, 95, 119, 120, 140),
        "xids",
        "Kept until a reset or reboot: DCGM fails on these, and NVIDIA's XID table asks for a reset.",
    )
    xids_degraded: tuple[Xid, ...] = key(
        (63, 94), "xids", "Contained by the driver: work goes on, and the card deserves a look."
    )
    xid_recent: Moment = key(3600.0, "seconds", "How long after its last a degraded XID still counts.")
    ecc_uncorrected_unhealthy: Some = key(
        1, "errors", "Uncorrected since the first look after the driver loaded: each may be wrong data."
    )
    retired_pages_unhealthy: Some = key(
        63, "pages", "DCGM's health watch fails at as many; the card has room for 64."
    )
    temperature_margin: Margin = key(
        5.0, "celsius", "Degraded so near to the card's own slowdown limit: it is about to throttle."
    )
    temperature_degraded: Celsius | None = key(
        None, "celsius", "Of the GPU; without a value its own slowdown limit less the margin."
    )
    temperature_unhealthy: Celsius | None = key(
        None, "celsius", "Of the GPU; without a value its own slowdown limit."
    )
    throttled_degraded: Moment = key(
        180.0,
        "seconds",
        "HW slowdown, HW thermal or power brake in so much of the window: gpud's 6 of 10 min.",
    )
    throttled_window: Moment = key(
        300.0, "seconds", "Short slowdowns are the hardware doing its work; they fall out of the window."
    )
    pcie_busy: Ratio = key(
        0.5,
        "ratio",
        "Utilisation at which, in P0 to P2, width and generation are judged: idle cards step down.",
    )
    pcie_generation_after: Moment = key(
        30.0, "seconds", "So long busy on a slow link: stepping up takes milliseconds, two looks are enough."
    )
    expected_nvlinks: Count | None = key(
        None, "links", "Of each card; without a value as many as were up at the first look since boot."
    )
    pcie_throughput: bool = key(
        default=False, unit="switch", why="NVML measures it for 20 ms a direction and card: 320 ms for eight."
    )
    processes: bool = key(
        default=False, unit="switch", why="List each card's processes in the facts: pids, memory, no names."
    )
    processes_most: Count = key(32, "processes", "Of each card, the largest first; the rest is a number.")

    @property
    def no_driver_status(self) -> Status:
        """Return the status of a host without a driver or GPU."""
        return Status[self.on_no_driver.upper()]

    @model_validator(mode="after")
    def limits_are_in_order(self) -> Self:
        """Refuse limits that contradict each other.

        Raises:
            ValueError: naming the keys and both values.
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
            raise ValueError(f"XID {min(both)} is in xids_degraded and in xids_unhealthy")
        return self
