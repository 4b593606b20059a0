"""The collector of one signal of the host."""

from pathlib import Path
from typing import ClassVar

from mlopsd.probe import Advice, Reading
from mlopsd_probes.collector import Collector
from mlopsd_probes.system.options import SystemOptions


class HostCollector(Collector):
    """A collector of one signal of the host; ``facts.absent`` lists it by its name.

    Attributes:
        source: the file that it reads, or the first of them, for a finding that must name it.
        may_be_absent: a host may lack the source without a fault; otherwise every host has it.
    """

    source: ClassVar[str]
    may_be_absent: ClassVar[bool] = False

    def __init__(self, _options: SystemOptions) -> None:
        """Take the limits from *_options*, which the probe passes to collectors without limits too."""

    def collect(self) -> Reading:
        """Read the signal once; return an empty reading if this host lacks an optional source.

        Raises:
            FileNotFoundError: the source does not exist.
            NotImplementedError: the same, raised by psutil.
            OSError: the source exists but cannot be read.
            ValueError: its content is invalid.
            LookupError: its content is incomplete.
            RuntimeError: the same, raised by psutil.
        """
        raise NotImplementedError

    def try_collect(self) -> Reading:
        """Collect; return an empty reading if an optional source is absent, ``unknown`` if unreadable."""
        try:
            reading = self.collect()
        except (OSError, ValueError, LookupError, RuntimeError) as error:
            absent = self.may_be_absent and isinstance(error, FileNotFoundError | NotImplementedError)
            return Reading() if absent else self._explain(error)
        blank = is_empty(reading) and not self.may_be_absent
        return self._explain(ValueError("it says nothing")) if blank else reading

    def _explain(self, error: Exception) -> Reading:
        """Return one finding with the file and the cause."""
        file, cause = (error.filename, error.strerror) if isinstance(error, OSError) else (None, None)
        source = Path(self.source, file) if isinstance(file, str) else self.source
        return self.unreadable(f"{self.name} from {source}", cause or error, Advice.FIX_CONFIG)


def is_empty(reading: Reading) -> bool:
    """Return true if there was nothing to read."""
    return not (reading.findings or reading.samples or reading.facts)
