"""A metric of a kind that there is not."""

from mlopsd.probe import Metric, Probe

SEATS = Metric("seats", "Seats.", kind="summary")  # type: ignore[arg-type]


class Kind(Probe):
    metrics = (SEATS,)
