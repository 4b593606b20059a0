"""The waits between rollouts."""

from datetime import datetime, timedelta

from mlopsd.predictor import Progress
from mlopsd.process.backoff import ExponentialBackoff
from mlopsd_probes.model.rollout.rejections import FIRST_LATER, LONGEST_SOON
from mlopsd_probes.registry.version import Version


class RolloutBackoffs:
    """The wait of every rollout, and a longer one of the version whose transfer failed last.

    Attributes:
        common: after a failure of a registry or the disk.
        transfer: after a failed transfer, since each attempt costs the store bytes.
    """

    def __init__(self) -> None:
        self.common = ExponentialBackoff(longest=LONGEST_SOON)
        self.transfer = ExponentialBackoff(first=FIRST_LATER)
        self._failed_id: str | None = None

    def forget(self) -> None:
        """Reset both waits."""
        self.common.forget()
        self.transfer.forget()

    def registry_failed(
        self, version: Version, progress: Progress | None, retry_after: float | None = None
    ) -> None:
        """Record that a registry did not give the metrics or files of *version*, at *progress*.

        *retry_after* is the time in seconds for which it asks to be left alone.
        """
        at_least = retry_after or 0.0
        if progress is None or progress.step != "fetch" or not progress.bytes:
            self.common.failed(at_least)
            return
        if version.id != self._failed_id:
            self.transfer.forget()
            self._failed_id = version.id
        self.transfer.failed(at_least)

    def waits(self, now: datetime) -> dict[str, datetime]:
        """Return the end of the longer wait, by the id of its version."""
        moment = end_of(self.transfer, now)
        return {} if moment is None or self._failed_id is None else {self._failed_id: moment}


def end_of(backoff: ExponentialBackoff, now: datetime) -> datetime | None:
    """Return the end of the wait of *backoff*; None if it is over."""
    return now + timedelta(seconds=backoff.left()) if backoff.left() > 0 else None
