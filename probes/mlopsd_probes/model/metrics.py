"""The metrics of the model probe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlopsd.probe import Counter, Histogram, Instruments, Metric

LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1_000.0, 10_000.0, 100_000.0)

LOAD_RESULTS = (
    "ok",
    "thresholds",
    "provenance",
    "fetch",
    "load",
    "canary",
    "registry",
    "no_room",
    "given_up",
)
PREDICTION_RESULTS = (
    *("ok", "bad_request", "too_large", "too_many"),
    *("model_failed", "no_model", "timeout", "failed"),
)
RESTART_REASONS = ("crash", "hang", "stall")

INFO = Metric(
    "info",
    "1 for the version that is served; digest is that of its files.",
    labels=("model", "version", "candidate", "registry", "flavor", "digest"),
)
DESIRED = Metric("desired_version", "The version that the registry wants.", labels=("model",))
SERVED = Metric("served_version", "The version that answers predictions.", labels=("model",))
DRIFT_SINCE = Metric(
    "drift_since_timestamp_seconds",
    "Unix time since which the registry wants another version than the one served; absent without drift.",
    unit="seconds",
    labels=("model",),
)
LOADS = Metric("loads_total", "Rollouts and restores of versions, by result.", "counter", labels=("result",))
LOAD_PHASES = Metric(
    "load_duration_seconds",
    "Duration of the steps of a rollout.",
    "histogram",
    "seconds",
    ("phase",),
    LOAD_SECONDS,
)
OPERATIONS = Metric(
    "registry_operations_total",
    "Requests to registries, by operation and result.",
    "counter",
    labels=("operation", "result"),
)
OPERATION_SECONDS = Metric(
    "registry_operation_duration_seconds",
    "Duration of requests to registries.",
    "histogram",
    "seconds",
    ("operation",),
    SHORT_SECONDS,
)
PREDICTIONS = Metric("predictions_total", "Prediction requests, by result.", "counter", labels=("result",))
PREDICTION_SECONDS = Metric(
    "prediction_duration_seconds",
    "Duration of predictions, including the wait in the model's process.",
    "histogram",
    "seconds",
    (),
    SHORT_SECONDS,
)
PREDICTION_ROWS = Metric("prediction_rows", "Rows of each request.", "histogram", "", (), ROWS)
PREDICTION_VALUE = Metric("prediction_value", "Predicted numbers.", "histogram")
PREDICTION_CLASSES = Metric(
    "prediction_classes_total",
    'Predicted classes; "other" beyond the first 20.',
    "counter",
    labels=("class",),
)
CANARY_SECONDS = Metric(
    "canary_duration_seconds", "Duration of canary predictions.", "histogram", "seconds", (), SHORT_SECONDS
)
RESTARTS = Metric(
    "host_restarts_total",
    "Model processes that were replaced because they died, hung or stalled.",
    "counter",
    labels=("reason",),
)
MEMORY = Metric(
    "host_resident_memory_bytes", "Resident memory of the model's process.", unit="bytes", labels=("version",)
)
MISMATCHES = Metric(
    "batching_mismatches_total",
    "Sampled batches whose answers differed from those of single requests.",
    "counter",
)
METRICS = (
    *(INFO, DESIRED, SERVED, DRIFT_SINCE, LOADS, LOAD_PHASES, OPERATIONS, OPERATION_SECONDS),
    *(PREDICTIONS, PREDICTION_SECONDS, PREDICTION_ROWS, PREDICTION_VALUE, PREDICTION_CLASSES),
    *(MISMATCHES, CANARY_SECONDS, RESTARTS, MEMORY),
)


@dataclass(frozen=True, slots=True)
class Observation:
    """The measurements of one answer.

    In a batch the first answer has the values of all requests, so that sums are right.

    Attributes:
        rows: the rows of this request.
        seconds: the time from request to answer.
        counts: the finite numbers in each configured bucket; the last count is above all bounds. Empty
            without numbers.
        total: the sum of these numbers.
        classes: the count of each text, truth value or whole number; ``other`` beyond 20 of them.
        is_proof: the answer was judged by the rules of the canary, and passed.
    """

    rows: int
    seconds: float
    counts: tuple[int, ...]
    total: float
    classes: Mapping[str, int]
    is_proof: bool = False


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
        """Count a request to a registry that ended."""
        self.operations.inc(operation=operation, result=result)
        self.operation_seconds.observe(seconds, operation=operation)

    def phase(self, phase: str, seconds: float) -> None:
        """Count a step of a rollout that ended."""
        self.load_phases.observe(seconds, phase=phase)

    def observe(self, observation: Observation) -> None:
        """Count the rows and values of an answer."""
        self.prediction_rows.observe(observation.rows)
        if observation.counts:
            self.prediction_value.observe_counts(observation.counts, observation.total)
        for name, times in observation.classes.items():
            self.prediction_classes.inc(times, **{"class": name})


def model_metrics(instruments: Instruments, value: Metric) -> ModelMetrics:
    """Return the counters and histograms of `METRICS`; *value* has the configured buckets."""
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
    """Set every counter to 0, or Prometheus would miss the first increase."""
    counted.batching_mismatches.inc(0)
    for counter, label, values in (
        (counted.loads, "result", LOAD_RESULTS),
        (counted.predictions, "result", PREDICTION_RESULTS),
        (counted.restarts, "reason", RESTART_REASONS),
    ):
        for value in values:
            counter.inc(0, **{label: value})


def with_buckets(buckets: tuple[float, ...]) -> Metric:
    """Return `PREDICTION_VALUE` with the configured *buckets*."""
    return replace(PREDICTION_VALUE, buckets=buckets)
