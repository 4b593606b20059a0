"""Validate the form of all replies of a model's process.

The model's code runs there and may send anything. A reply of the wrong form is an error of that model. It
must not end a task of the daemon, set a header, or create time series without limit.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlopsd.predictor import Prediction, PredictionError
from mlopsd.process.frames import BadFrame
from mlopsd_probes.model.metrics import Observation
from mlopsd_probes.model.serving.canary import CanaryResult, Count, Seconds

MOST_CLASSES = 20  # class names of one process in its life; the host's own code keeps this limit as well
OTHER = "other"
LONGEST_DETAIL = 2000  # characters
LONGEST_CLASS = 200  # characters; a longer value is text and not a class

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Answered(_Reply):
    code: Literal[200]
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+/;= _-]{1,100}$")]  # it becomes a header
    rows: Count | None
    counts: list[Count] = []
    total: Finite = 0.0
    classes: dict[str, Count] = {}
    proof: bool = False


class _Rejected(_Reply):
    code: Literal[400, 413, 415, 500]
    detail: str


class _Mismatch(_Reply):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    batching: Literal["mismatch"]


class _Phase(_Reply):
    phase: Literal["import", "load"]
    seconds: Seconds


class _Failed(_Reply):
    failed: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]  # it becomes a label
    reason: str


ReplyT = TypeVar("ReplyT")
_ANSWER: TypeAdapter[_Answered | _Rejected] = TypeAdapter(_Answered | _Rejected)
_CANARY = TypeAdapter(CanaryResult)


def phase(header: Mapping[str, Any]) -> tuple[str, float]:
    """Return the step of loading that ended, and its seconds.

    Raises:
        BadFrame: *header* has no valid step.
    """
    reply = _validated(_Phase.model_validate, header)
    return reply.phase, reply.seconds


def failure(header: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind of the failure to load, and the reason.

    Raises:
        BadFrame: *header* has no valid failure.
    """
    reply = _validated(_Failed.model_validate, header)
    return reply.failed, reply.reason[:LONGEST_DETAIL]


def mismatch(header: Mapping[str, Any]) -> None:
    """Check that *header* reports a batching mismatch.

    Raises:
        BadFrame: it reports something else.
    """
    _validated(_Mismatch.model_validate, header)


def facts(found: object) -> dict[str, Any]:
    """Return the facts that the process reports about itself; the daemon decides which can be shown.

    Raises:
        BadFrame: *found* is not a table.
    """
    if not isinstance(found, dict):
        raise BadFrame("the facts are not a table")
    return found


def canary(found: object) -> CanaryResult:
    """Return the result of a canary.

    Raises:
        BadFrame: *found* has the wrong form.
    """
    return _validated(_CANARY.validate_python, found)


class ReplyValidator:
    """Validates the answers of one process; *buckets* is the number of histogram buckets."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._classes: set[str] = set()

    def prediction(
        self, header: Mapping[str, Any], body: bytes, seconds: float
    ) -> tuple[Prediction, Observation]:
        """Return the answer in *header* and *body*, and its observation for the metrics.

        Args:
            header: the frame's header.
            body: the frame's body.
            seconds: the time that the answer took.

        Raises:
            PredictionError: the process rejected the request.
            BadFrame: the form is wrong.
        """
        reply = _validated(_ANSWER.validate_python, header)
        if isinstance(reply, _Rejected):
            raise PredictionError(reply.code, reply.detail[:LONGEST_DETAIL])
        if reply.counts and len(reply.counts) != self._buckets:
            raise BadFrame("the number of buckets is wrong")
        counts, classes = tuple(reply.counts), self._capped(reply.classes)
        return Prediction(body, reply.type), Observation(
            reply.rows or 1, seconds, counts, reply.total, classes, reply.proof
        )

    def _capped(self, classes: Mapping[str, int]) -> dict[str, int]:
        capped: dict[str, int] = {}
        for name, times in classes.items():
            if len(self._classes) < MOST_CLASSES and len(name) <= LONGEST_CLASS:
                self._classes.add(name)
            known = name if name in self._classes else OTHER
            capped[known] = capped.get(known, 0) + times
        return capped


def _validated(read: Callable[[Any], ReplyT], found: object) -> ReplyT:
    try:
        return read(found)
    except ValidationError as error:
        raise BadFrame(f"{error.error_count()} invalid fields") from None
