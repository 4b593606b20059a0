"""The collector of one signal of the host; the probe is a list of them."""

from typing import ClassVar

from mlopsd.probe import Metric, Reading
from mlopsd_probes.system.options import SystemOptions


class HostCollector:
    """A collector of one signal, which keeps its own state between checks.

    Attributes:
        name: its word in ``facts.absent``, and the name of the ``unknown`` finding when it fails.
        source: the file that it reads, or the first of them, for a finding that must name it.
        may_be_absent: a host may lack the source, which is no fault; else it is one that every host has.
        findings: the name of every other finding that it makes.
        metrics: every number that it reports.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    may_be_absent: ClassVar[bool] = False
    findings: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def __init__(self, options: SystemOptions) -> None:
        """Take the limits from *options*; a collector without any takes it all the same."""

    def look(self) -> Reading:
        """Read the signal once. An optional source that this host lacks gives an empty reading.

        Raises:
            FileNotFoundError: the source is not there.
            NotImplementedError: the same, as psutil says it.
            OSError: the source is there and cannot be read.
            ValueError: what it says cannot be understood.
            LookupError: what it says is incomplete.
            RuntimeError: the same, as psutil says it.
        """
        raise NotImplementedError
