"""The families that the daemon itself counts in, as contract.md lists them."""

from mlopsd.metrics.family import Family

BUILD_INFO = Family("mlopsd_build_info", "Which mlopsd this is.", labels=("version", "python"))
CHECKS = Family("mlopsd_probe_checks_total", "Checks by how they ended.", "counter", "", ("probe", "result"))
CHECK_SECONDS = Family(
    "mlopsd_probe_duration_seconds",
    "How long checks took.",
    "histogram",
    "seconds",
    ("probe",),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0),
)
HUNG = Family(
    "mlopsd_probe_hung", "1 while a check that outlived its timeout is still running.", labels=("probe",)
)
WORKER_RESTARTS = Family(
    "mlopsd_probe_worker_restarts_total", "Starts of a worker after its first.", "counter", "", ("probe",)
)
LOOP_LAG = Family(
    "mlopsd_event_loop_lag_seconds",
    "How late the event loop was.",
    "histogram",
    "seconds",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
ERRORS = Family(
    "mlopsd_errors_total", "Faults that cost less than a reading, by where.", "counter", "", ("component",)
)
REQUESTS = Family(
    "mlopsd_http_requests_total",
    "Requests that were answered.",
    "counter",
    "",
    ("method", "route", "status"),
)
REQUEST_SECONDS = Family(
    "mlopsd_http_request_duration_seconds",
    "How long requests took.",
    "histogram",
    "seconds",
    ("route",),
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)
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
FAMILIES = (
    BUILD_INFO,
    DRAINING,
    RELOADED,
    RELOADED_AT,
    CHECKS,
    CHECK_SECONDS,
    HUNG,
    WORKER_RESTARTS,
    LOOP_LAG,
    ERRORS,
    REQUESTS,
    REQUEST_SECONDS,
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))
COMPONENTS = (
    "http",
    "log",
    "loop",
    "metrics",
    "reload",
    "socket",
)  # counted from 0, or a first fault is no increase
OTHER = "OTHER"  # the label of a method that is none of HTTP's


def method_label(method: str) -> str:
    """*method* as the label of a request has it: whoever invents methods makes no series."""
    return method if method in _METHODS else OTHER
