"""The numbers of the model probe: what each is called, and who counts it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlopsd.probe import Counter, Histogram, Instruments, Metric

LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1_000.0, 10_000.0, 100_000.0)

LOAD_RESULTS = ("ok", "thresholds", "fetch", "load", "canary", "registry", "no_room", "given_up")
PREDICTION_RESULTS = (
    *("ok", "bad_request", "too_large", "too_many"),
    *("model_failed", "no_model", "timeout", "failed"),
)
RESTART_REASONS = ("crash", "hang", "stall")

INFO = Metric(
    "info",
    "1 for the version that is served.",
    labels=("model", "version", "candidate", "registry", "flavor"),
)
DESIRED = Metric("desired_version", "The version that the registry wants.", labels=("model",))
SERVED = Metric("served_version", "The version that answers predictions.", labels=("model",))
DRIFT_SINCE = Metric(
    "drift_since_timestamp_seconds",
    "Since when the registry wants another version than is served; absent without drift.",
    unit="seconds",
    labels=("model",),
)
LOADS = Metric(
    "loads_total", "Versions that were taken up, by how that ended.", "counter", labels=("result",)
)
LOAD_PHASES = Metric(
    "load_duration_seconds",
    "How long the steps of taking up a version took.",
    "histogram",
    "seconds",
    ("phase",),
    LOAD_SECONDS,
)
OPERATIONS = Metric(
    "registry_operations_total",
    "Questions to registries, by how they ended.",
    "counter",
    labels=("operation", "result"),
)
OPERATION_SECONDS = Metric(
    "registry_operation_duration_seconds",
    "How long questions to registries took.",
    "histogram",
    "seconds",
    ("operation",),
    SHORT_SECONDS,
)
PREDICTIONS = Metric(
    "predictions_total", "Requests for predictions, by how they ended.", "counter", labels=("result",)
)
PREDICTION_SECONDS = Metric(
    "prediction_duration_seconds",
    "How long predictions took, waiting in the host included.",
    "histogram",
    "seconds",
    (),
    SHORT_SECONDS,
)
PREDICTION_ROWS = Metric("prediction_rows", "Rows of one request.", "histogram", "", (), ROWS)
PREDICTION_VALUE = Metric("prediction_value", "Numbers that were predicted.", "histogram")
PREDICTION_CLASSES = Metric(
    "prediction_classes_total",
    'Classes that were predicted; beyond a number of them, "other".',
    "counter",
    labels=("class",),
)
CANARY_SECONDS = Metric(
    "canary_duration_seconds", "How long canary predictions took.", "histogram", "seconds", (), SHORT_SECONDS
)
RESTARTS = Metric(
    "host_restarts_total",
    "Model hosts that were replaced because they died, hung or stalled.",
    "counter",
    labels=("reason",),
)
MEMORY = Metric(
    "host_resident_memory_bytes", "Resident memory of the model host.", unit="bytes", labels=("version",)
)
MISMATCHES = Metric(
    "batching_mismatches_total",
    "Samples of requests that were predicted together and answered otherwise than each alone.",
    "counter",
)
METRICS = (
    *(INFO, DESIRED, SERVED, DRIFT_SINCE, LOADS, LOAD_PHASES, OPERATIONS, OPERATION_SECONDS),
    *(PREDICTIONS, PREDICTION_SECONDS, PREDICTION_ROWS, PREDICTION_VALUE, PREDICTION_CLASSES),
    *(MISMATCHES, CANARY_SECONDS, RESTARTS, MEMORY),
)


@dataclass(frozen=True, slots=True)
class Observation:
    """The content of the answer to one request, or to several that were predicted together.

    Of such several the first carries the values of all, so that sums come out right.

    Attributes:
        rows: of this request.
        seconds: from asking to answering.
        counts: finite numbers by bucket of the options, those above the last bound at the end; empty
            where there were no numbers.
        total: the sum of these numbers.
        classes: how often each text, truth value or whole number was predicted; beyond 20 kinds ``other``.
    """

    rows: int
    seconds: float
    counts: tuple[int, ...]
    total: float
    classes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The counters and histograms that change between checks."""

    loads: Counter
    load_phases: Histogram
    operations: Counter
    operation_seconds: Histogram
    predictions: Counter
    prediction_seconds: Histogram
    prediction_rows: Histogram
    prediction_value: Histogram
    prediction_classes: Counter
    batching_mismatches: Counter
    canary_seconds: Histogram
    restarts: Counter

    def operation(self, operation: str, result: str, seconds: float) -> None:
        """A question to a registry ended."""
        self.operations.inc(operation=operation, result=result)
        self.operation_seconds.observe(seconds, operation=operation)

    def phase(self, phase: str, seconds: float) -> None:
        """A step of taking up a version ended."""
        self.load_phases.observe(seconds, phase=phase)

    def observe(self, observation: Observation) -> None:
        """Count the rows and values of an answer."""
        self.prediction_rows.observe(observation.rows)
        if observation.counts:
            self.prediction_value.observe_counts(observation.counts, observation.total)
        for name, times in observation.classes.items():
            self.prediction_classes.inc(times, **{"class": name})


def model_metrics(instruments: Instruments, value: Metric) -> ModelMetrics:
    """The hands-on side of `METRICS`; *value* is the prediction value with its configured buckets."""
    counted = ModelMetrics(
        loads=instruments.counter(LOADS),
        load_phases=instruments.histogram(LOAD_PHASES),
        operations=instruments.counter(OPERATIONS),
        operation_seconds=instruments.histogram(OPERATION_SECONDS),
        predictions=instruments.counter(PREDICTIONS),
        prediction_seconds=instruments.histogram(PREDICTION_SECONDS),
        prediction_rows=instruments.histogram(PREDICTION_ROWS),
        prediction_value=instruments.histogram(value),
        prediction_classes=instruments.counter(PREDICTION_CLASSES),
        batching_mismatches=instruments.counter(MISMATCHES),
        canary_seconds=instruments.histogram(CANARY_SECONDS),
        restarts=instruments.counter(RESTARTS),
    )
    _begin(counted)
    return counted


def _begin(counted: ModelMetrics) -> None:
    """Count from 0, or the first of a kind would be no increase to Prometheus."""
    counted.batching_mismatches.inc(0)
    for counter, label, values in (
        (counted.loads, "result", LOAD_RESULTS),
        (counted.predictions, "result", PREDICTION_RESULTS),
        (counted.restarts, "reason", RESTART_REASONS),
    ):
        for value in values:
            counter.inc(0, **{label: value})


def with_buckets(buckets: tuple[float, ...]) -> Metric:
    """`PREDICTION_VALUE` with the bounds that suit the model."""
    return replace(PREDICTION_VALUE, buckets=buckets)
