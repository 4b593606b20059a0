"""A stranger's predictor that minds what it is sent as a model's process does: JSON objects and CSV."""

import csv
import io
import json

from mlopsd.predictor import Prediction, PredictionError, Predictor, PredictorOptions
from mlopsd.probe import Finding, Reading, Schedule, Status


class Minder(Predictor[PredictorOptions]):
    """Answers with how much it was asked, and never with what."""

    Options = PredictorOptions
    schedule = Schedule(interval=0.2, timeout=5, fail_after=1, recover_after=1, critical=True)

    async def check(self) -> Reading:
        return Reading(findings=[Finding("mind", Status.HEALTHY, "it minds")])

    async def reload(self, *, dry_run: bool, force: bool) -> str:
        return f"minded anew, dry={dry_run}, forced={force}"

    @property
    def served_version(self) -> str | None:
        return "1"

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        mime = content_type.partition(";")[0].strip().lower()
        if mime not in READERS:
            raise PredictionError(415, "this is neither JSON nor CSV; send one of them")
        try:
            rows = READERS[mime](body)
        except (ValueError, RecursionError, csv.Error) as error:
            raise PredictionError(400, f"the body cannot be read: {type(error).__name__}") from error
        return Prediction(b'{"predictions": [%d]}' % rows)


def _json_rows(body: bytes) -> int:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no object")  # noqa: TRY004  # the caller's bytes are wrong, not our types
    return len(document)


def _csv_rows(body: bytes) -> int:
    return sum(1 for _ in csv.reader(io.StringIO(body.decode())))


READERS = {"application/json": _json_rows, "text/csv": _csv_rows}
