"""The metric families: their declaration, the daemon's own families, and the owners of names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod

from mlopsd.metrics.exposition import Dialect, help_text
from mlopsd.probe import DEFAULT_BUCKETS, Metric, MetricKind

# Each starts at 0, so that the first error is an increase.
COMPONENTS = ("http", "log", "loop", "metrics", "reload", "socket")
OTHER = "OTHER"  # the label of an unknown HTTP method
_SUFFIXES: Mapping[MetricKind, tuple[str, ...]] = {
    "gauge": ("",),
    "counter": ("", "_total", "_created"),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one family under its full name.

    Attributes:
        name: The name of its samples; a counter's ends in ``_total``.
        help: One sentence; if empty, there is no HELP line.
        kind: The type.
        unit: The base unit at the end of the name, or "".
        labels: The label names of every series, in the order of output.
        buckets: The upper bounds of a histogram, without infinity. They do not count for equality, since
            the series of one probe may have other bounds.
    """

    name: str
    help: str
    kind: MetricKind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=DEFAULT_BUCKETS, compare=False)

    @property
    def base(self) -> str:
        """Return the family's name in OpenMetrics, where only the sample's name has ``_total``."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def claims(self) -> tuple[str, ...]:
        """Return every name that no other family may use, since OpenMetrics assigns it to this one."""
        return tuple(self.base + suffix for suffix in _SUFFIXES[self.kind])

    def header(self, dialect: Dialect) -> str:
        """Return the lines above the family's samples."""
        is_openmetrics = dialect is Dialect.OPENMETRICS
        name = self.base if is_openmetrics else self.name
        help_line = f"# HELP {name} {help_text(self.help, dialect)}\n" if self.help else ""
        has_unit = self.unit and self.base.endswith(f"_{self.unit}")
        unit_line = f"# UNIT {name} {self.unit}\n" if is_openmetrics and has_unit else ""
        return f"{help_line}# TYPE {name} {self.kind}\n{unit_line}"


def family_of(plugin: str, metric: Metric) -> Family:
    """Return the family of *plugin*'s *metric*; its first label is ``probe``."""
    prefix = re.sub(r"[^a-z0-9_]", "_", plugin.lower())
    buckets = metric.buckets if metric.kind == "histogram" else ()
    labels = ("probe", *metric.labels)
    return Family(f"mlopsd_{prefix}_{metric.name}", metric.help, metric.kind, metric.unit, labels, buckets)


_CHECK_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

BUILD_INFO = Family(
    "mlopsd_build_info", "The versions of mlopsd and of Python; always 1.", labels=("python", "version")
)
DRAINING = Family("mlopsd_draining", "1 while the daemon is draining before shutdown.")
RELOADED = Family(
    "mlopsd_config_last_reload_successful",
    "1 if the last load of the configuration succeeded, 0 if it was rejected.",
)
RELOADED_AT = Family(
    "mlopsd_config_last_reload_success_timestamp_seconds",
    "Time of the last successful load of the configuration, in seconds since 1970.",
    unit="seconds",
)
CHECKS = Family(
    "mlopsd_probe_checks_total", "Checks of a probe by result.", "counter", "", ("probe", "result")
)
CHECK_SECONDS = Family(
    "mlopsd_probe_duration_seconds",
    "Duration of a probe's checks, in seconds.",
    "histogram",
    "seconds",
    ("probe",),
    _CHECK_SECONDS,
)
HUNG = Family(
    "mlopsd_probe_hung", "1 while a check that exceeded its timeout is still running.", labels=("probe",)
)
WORKER_RESTARTS = Family(
    "mlopsd_probe_worker_restarts_total", "Restarts of a probe's worker process.", "counter", "", ("probe",)
)
LOOP_LAG = Family(
    "mlopsd_event_loop_lag_seconds",
    "Lag of the event loop, in seconds.",
    "histogram",
    "seconds",
    (),
    _LAG_SECONDS,
)
ERRORS = Family("mlopsd_errors_total", "Internal errors by component.", "counter", "", ("component",))
REQUESTS = Family(
    "mlopsd_http_requests_total",
    "HTTP requests by method, route and status.",
    "counter",
    "",
    ("method", "route", "status"),
)
REQUEST_SECONDS = Family(
    "mlopsd_http_request_duration_seconds",
    "Duration of HTTP requests, in seconds.",
    "histogram",
    "seconds",
    ("route",),
    _REQUEST_SECONDS,
)
FAMILIES = (
    *(BUILD_INFO, DRAINING, RELOADED, RELOADED_AT, CHECKS, CHECK_SECONDS, HUNG, WORKER_RESTARTS),
    *(LOOP_LAG, ERRORS, REQUESTS, REQUEST_SECONDS),
)

HEALTH_STATUS = Family(
    "mlopsd_health_status",
    "The host's status: 1 for the current status, 0 for the others.",
    labels=("status",),
)
HEALTH_ADVICE = Family(
    "mlopsd_health_advice",
    "The host's advice: 1 for the current advice, 0 for the others.",
    labels=("advice",),
)
PROBE_STATUS = Family(
    "mlopsd_probe_status",
    "A probe's damped status: 1 for the current status, 0 for the others.",
    labels=("probe", "status"),
)
PROBE_FINDING = Family(
    "mlopsd_probe_finding",
    "1 for each finding that is not healthy, of the last reading or lasting from an earlier one.",
    labels=("probe", "plugin", "finding", "subject", "status", "advice"),
)
LAST_CHECK = Family(
    "mlopsd_probe_last_check_timestamp_seconds",
    "Time of a probe's last reading, in seconds since 1970.",
    unit="seconds",
    labels=("probe",),
)
BOARD_FAMILIES = (HEALTH_STATUS, HEALTH_ADVICE, PROBE_STATUS, PROBE_FINDING, LAST_CHECK)

PROCESS_FAMILIES = (
    Family("process_cpu_seconds_total", "CPU time used by the process, in seconds.", "counter", "seconds"),
    Family("process_resident_memory_bytes", "Resident memory of the process, in bytes.", unit="bytes"),
    Family("process_virtual_memory_bytes", "Virtual memory of the process, in bytes.", unit="bytes"),
    Family("process_open_fds", "Open file descriptors of the process."),
    Family("process_max_fds", "Limit of open file descriptors of the process."),
    Family("process_start_time_seconds", "Start time of the process, in seconds since 1970.", unit="seconds"),
)


def method_label(method: str) -> str:
    """Return *method* if HTTP defines it, else `OTHER`, so that invented methods create no series."""
    return method if method in HTTPMethod.__members__ else OTHER


Owners = Mapping[str, tuple[Family, str]]  # by each name that a family claims


def claim(owners: Owners, families: Iterable[Family], owner: str) -> Owners:
    """Return *owners* with the names that *families* of *owner* claim.

    Raises:
        ValueError: Another family has claimed a name.
    """
    both = dict(owners)
    for family in families:
        for name in family.claims:
            other, before = both.setdefault(name, (family, owner))
            if other != family:
                clash = _clash(name, family, other, before)
                raise ValueError(f"cannot declare {family.name} of {owner}: {clash}; rename one of them")
    return both


def _clash(name: str, family: Family, other: Family, owner: str) -> str:
    """Return how *family* contradicts *other* of *owner*, which has claimed *name*."""
    if family.name != other.name:
        return f"the name {name} belongs to {other.name} of {owner}"
    differing = [field for field in ("kind", "unit", "labels") if _differ(field, family, other)] or ["help"]
    here, there = (
        ", ".join(f"{field} {_shown(getattr(one, field))}" for field in differing) for one in (family, other)
    )
    return f"it has {here} here, but {there} in {owner}"


def _differ(field: str, family: Family, other: Family) -> bool:
    return bool(getattr(family, field) != getattr(other, field))


def _shown(value: str | tuple[str, ...]) -> str:
    return f"{value!r:.60}" if isinstance(value, str) else f"({', '.join(value)})"
