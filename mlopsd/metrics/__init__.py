"""Everything that Prometheus is told: what the daemon records, what the board holds, and the page of both."""

from mlopsd.metrics.registry import Metrics as Metrics
