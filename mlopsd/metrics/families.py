"""The families of the page: their declarations, the daemon's own, and who owns which name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod

from mlopsd.metrics.exposition import Dialect, help_text
from mlopsd.probe import DEFAULT_BUCKETS, Metric, MetricKind

# Counted from 0, or a first fault is no increase.
COMPONENTS = ("http", "log", "loop", "metrics", "reload", "socket")
OTHER = "OTHER"  # the label of a method that is none of HTTP's
_SUFFIXES: Mapping[MetricKind, tuple[str, ...]] = {
    "gauge": ("",),
    "counter": ("", "_total", "_created"),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of one family under its full name.

    Attributes:
        name: as its samples are called; a counter's ends in ``_total``.
        help: one sentence; where it is empty there is no HELP line.
        labels: the label names of every series, in the order in which they are written.
        buckets: the upper bounds of a histogram, without infinity; the series of one probe may have
            bounds of their own, so that they tell no families apart.
    """

    name: str
    help: str
    kind: MetricKind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=DEFAULT_BUCKETS, compare=False)

    @property
    def base(self) -> str:
        """The family's name in OpenMetrics, where ``_total`` belongs to the sample alone."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def claims(self) -> tuple[str, ...]:
        """Every name that no other family may have; OpenMetrics reads them all as this family's."""
        return tuple(self.base + suffix for suffix in _SUFFIXES[self.kind])

    def header(self, dialect: Dialect) -> str:
        """Write the lines above the family's samples."""
        is_openmetrics = dialect is Dialect.OPENMETRICS
        name = self.base if is_openmetrics else self.name
        said = f"# HELP {name} {help_text(self.help, dialect)}\n" if self.help else ""
        bears_unit = self.unit and self.base.endswith(f"_{self.unit}")
        unit = f"# UNIT {name} {self.unit}\n" if is_openmetrics and bears_unit else ""
        return f"{said}# TYPE {name} {self.kind}\n{unit}"


def family_of(plugin: str, metric: Metric) -> Family:
    """Return the family in which the probes of *plugin* report *metric*; its first label is ``probe``."""
    prefix = re.sub(r"[^a-z0-9_]", "_", plugin.lower())
    buckets = metric.buckets if metric.kind == "histogram" else ()
    labels = ("probe", *metric.labels)
    return Family(f"mlopsd_{prefix}_{metric.name}", metric.help, metric.kind, metric.unit, labels, buckets)


_CHECK_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

BUILD_INFO = Family("mlopsd_build_info", "Which mlopsd this is.", labels=("python", "version"))
DRAINING = Family("mlopsd_draining", "1 from the order to stop until the end.")
RELOADED = Family(
    "mlopsd_config_last_reload_successful",
    "1 if the configuration in force is the one that was last read, 0 if that was refused.",
)
RELOADED_AT = Family(
    "mlopsd_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was read, in seconds since 1970.",
    unit="seconds",
)
CHECKS = Family("mlopsd_probe_checks_total", "Checks by how they ended.", "counter", "", ("probe", "result"))
CHECK_SECONDS = Family(
    "mlopsd_probe_duration_seconds",
    "How long checks took.",
    "histogram",
    "seconds",
    ("probe",),
    _CHECK_SECONDS,
)
HUNG = Family(
    "mlopsd_probe_hung", "1 while a check that outlived its timeout is still running.", labels=("probe",)
)
WORKER_RESTARTS = Family(
    "mlopsd_probe_worker_restarts_total", "Starts of a worker after its first.", "counter", "", ("probe",)
)
LOOP_LAG = Family(
    "mlopsd_event_loop_lag_seconds", "How late the event loop was.", "histogram", "seconds", (), _LAG_SECONDS
)
ERRORS = Family(
    "mlopsd_errors_total", "Faults that cost less than a reading, by where.", "counter", "", ("component",)
)
REQUESTS = Family(
    "mlopsd_http_requests_total", "Requests that were answered.", "counter", "", ("method", "route", "status")
)
REQUEST_SECONDS = Family(
    "mlopsd_http_request_duration_seconds",
    "How long requests took.",
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
    "mlopsd_health_status", "The host's status: 1 for the one that holds.", labels=("status",)
)
HEALTH_ADVICE = Family(
    "mlopsd_health_advice", "What should be done: 1 for the advice that holds.", labels=("advice",)
)
PROBE_STATUS = Family(
    "mlopsd_probe_status",
    "The damped status of a probe: 1 for the one that holds.",
    labels=("probe", "status"),
)
PROBE_FINDING = Family(
    "mlopsd_probe_finding",
    "1 for each finding that is not healthy, of the last reading or lasting from an earlier one.",
    labels=("probe", "plugin", "finding", "subject", "status", "advice"),
)
LAST_CHECK = Family(
    "mlopsd_probe_last_check_timestamp_seconds",
    "When the last reading of a probe arrived, in seconds since 1970.",
    unit="seconds",
    labels=("probe",),
)
BOARD_FAMILIES = (HEALTH_STATUS, HEALTH_ADVICE, PROBE_STATUS, PROBE_FINDING, LAST_CHECK)

PROCESS_FAMILIES = (
    Family("process_cpu_seconds_total", "CPU time that the process has used.", "counter", "seconds"),
    Family("process_resident_memory_bytes", "Memory of the process that is in RAM.", unit="bytes"),
    Family("process_virtual_memory_bytes", "Address space of the process.", unit="bytes"),
    Family("process_open_fds", "File descriptors that the process has open."),
    Family("process_max_fds", "File descriptors that the process may have open."),
    Family("process_start_time_seconds", "When the process started, in seconds since 1970.", unit="seconds"),
)


def method_label(method: str) -> str:
    """Return *method* if it is one of HTTP's, else `OTHER`: inventing methods must make no series."""
    return method if method in HTTPMethod.__members__ else OTHER


Owners = Mapping[str, tuple[Family, str]]  # by every name that a family claims


def claim(owners: Owners, families: Iterable[Family], owner: str) -> Owners:
    """Return *owners* with the names that *families* of *owner* claim.

    Raises:
        ValueError: a name that means something else already, or a histogram without buckets.
    """
    both = dict(owners)
    for family in families:
        if family.kind == "histogram" and not family.buckets:
            raise ValueError(f"cannot declare {family.name} of {owner}: a histogram needs buckets")
        for name in family.claims:
            other, before = both.setdefault(name, (family, owner))
            if other != family:
                raise ValueError(
                    f"cannot declare {family.name} of {owner}: {name} is taken by {other.name} of {before} "
                    "with another declaration; give one of them another name"
                )
    return both
