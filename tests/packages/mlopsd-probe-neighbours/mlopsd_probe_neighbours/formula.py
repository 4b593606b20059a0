"""A linear formula in a file: a model so small that the daemon's event loop can compute it."""

import json
from dataclasses import replace
from pathlib import Path

from mlopsd.predictor import Prediction, PredictionError, Predictor, PredictorOptions
from mlopsd.probe import Advice, Context, Finding, Metric, Reading, Schedule, Status
from mlopsd.threads import in_thread

VALUE = Metric("prediction_value", "Numbers that were predicted.", kind="histogram")


class FormulaOptions(PredictorOptions):
    path: Path  # {"age": 0.2, "income": -1.5}
    buckets: tuple[float, ...] = (0, 1, 10, 100)


class Formula(Predictor[FormulaOptions]):
    """Predicts with the weights in a JSON file, which may change at any time."""

    Options = FormulaOptions
    metrics = (VALUE,)
    schedule = Schedule(interval=10, timeout=3)

    def __init__(self, options: FormulaOptions, context: Context) -> None:
        super().__init__(options, context)
        self._weights: dict[str, float] = {}
        self._value = context.instruments.histogram(*self.declares(options))

    @classmethod
    def declares(cls, options: FormulaOptions) -> tuple[Metric, ...]:
        return (replace(VALUE, buckets=options.buckets),)

    @property
    def served_version(self) -> str | None:
        return "1" if self._weights else None

    async def check(self) -> Reading:
        path = self.options.path
        try:
            self._weights = await in_thread(f"read {path}", lambda: read(path))
        except (OSError, ValueError, TypeError) as error:
            worse = Status.DEGRADED if self._weights else Status.UNHEALTHY
            why = f"cannot read {path} ({error}); write a weight for each feature there"
            return Reading([Finding("weights", worse, why, advice=Advice.FIX_CONFIG)])
        return Reading([Finding("weights", Status.HEALTHY, f"{path} has {len(self._weights)} weights")])

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        if not self._weights:
            raise PredictionError(503, "there are no weights yet", retry_after=5)
        if content_type.partition(";")[0] != "application/json":
            raise PredictionError(415, "the content type must be application/json")
        try:
            rows = json.loads(body)["dataframe_records"]
            values = [sum(weight * row[name] for name, weight in self._weights.items()) for row in rows]
        except (ValueError, TypeError, KeyError) as error:
            wanted = ", ".join(self._weights)
            raise PredictionError(400, f"the body must have dataframe_records with {wanted}") from error
        for value in values:
            self._value.observe(value)
        return Prediction(json.dumps({"predictions": values}).encode())


def read(path: Path) -> dict[str, float]:
    return {name: float(weight) for name, weight in dict(json.loads(path.read_text("utf-8"))).items()}
