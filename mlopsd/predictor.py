"""The contract of a probe that also answers predictions, over ``POST /invocations`` of the daemon.

Such a probe runs on the event loop; whatever it predicts with lives in processes of its own.
"""

from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

from mlopsd.probe import Options, Probe


@dataclass(frozen=True, slots=True)
class Prediction:
    """What ``mlflow models serve`` would answer: a 200 with *body* as *content_type*."""

    body: bytes
    content_type: str = "application/json"


class PredictionError(Exception):
    """Raised by `Predictor.predict` that has no prediction to give, with a detail for the caller.

    Attributes:
        code: the HTTP status: 400, 413, 415 for the caller's mistakes, 429 too many at a time, 500 the
            model's fault, 503 there is no model, 504 too slow.
        retry_after: seconds after which to ask again, where that helps.
    """

    def __init__(self, code: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class PredictorOptions(Options):
    """The keys that every probe with predictions has.

    Attributes:
        model: the registered model's name, under which the Open Inference Protocol asks for it.
        default: whether ``POST /invocations`` without a probe's name is for this one.
    """

    model: str
    default: bool = False


PredictorOptionsT = TypeVar("PredictorOptionsT", bound=PredictorOptions, default=PredictorOptions)


class Predictor(Probe[PredictorOptionsT], Generic[PredictorOptionsT]):
    """A probe that also predicts."""

    @property
    def served_version(self) -> str | None:
        """The version that would answer now, or None."""
        raise NotImplementedError

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Predict for *body*, in MLflow's scoring protocol as *content_type* says; minds its own clock.

        Raises:
            PredictionError: there is no prediction, and whose fault that is.
        """
        raise NotImplementedError

    async def reconfigure(self, options: PredictorOptionsT) -> bool:
        """Go on with *options* without a gap for callers; whether it does.

        Where it does not, as here, it is closed and made anew.
        """
        _ = options
        return False


def is_predictor(probe: type[Probe[Any]]) -> bool:
    """Whether *probe* answers predictions."""
    return issubclass(probe, Predictor)
