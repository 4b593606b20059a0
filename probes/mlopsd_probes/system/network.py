"""Traffic of the network cards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from mlopsd.probe import Metric, Reading
from mlopsd_probes.system.collector import HostCollector
from mlopsd_probes.system.options import SystemOptions

RECEIVED = Metric(
    "network_received_bytes_total",
    "Bytes received by the card.",
    kind="counter",
    unit="bytes",
    labels=("device",),
)
SENT = Metric(
    "network_sent_bytes_total", "Bytes sent by the card.", kind="counter", unit="bytes", labels=("device",)
)
ERRORS = Metric(
    "network_errors_total",
    "Frames that the card received or sent with an error.",
    kind="counter",
    labels=("device", "direction"),
)


class Network(HostCollector):
    """Counters of hardware interfaces; a host may have a virtual one for each container."""

    name = "network"
    source = "/proc/net/dev"
    may_be_absent = True
    metrics = (RECEIVED, SENT, ERRORS)

    def __init__(
        self,
        _options: SystemOptions,
        read: Callable[..., Mapping[str, Any]] = psutil.net_io_counters,
        sys: Path = Path("/sys"),
    ) -> None:
        self._read = read
        self._interfaces = sys / "class/net"

    def collect(self) -> Reading:
        """Return four samples per card."""
        samples = []
        for device, counters in self._read(pernic=True).items():
            if (self._interfaces / device / "device").exists():
                samples.append(RECEIVED.sample(counters.bytes_recv, device=device))
                samples.append(SENT.sample(counters.bytes_sent, device=device))
                samples.append(ERRORS.sample(counters.errin, device=device, direction="receive"))
                samples.append(ERRORS.sample(counters.errout, device=device, direction="send"))
        return Reading(samples=samples)
