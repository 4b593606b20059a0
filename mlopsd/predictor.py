"""The contract of a probe that also answers predictions, over ``POST /invocations`` of the daemon.

Such a probe runs on the event loop; whatever it predicts with lives in processes of its own. The facts
of its readings that tell which version serves and what is on its way have a form of their own here:
`VersionFacts`. The status page and the command line know them by that form, not by the probe's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, Self

from typing_extensions import TypeVar

from mlopsd.format import format_size, format_time
from mlopsd.probe import HttpError, HttpRequest, HttpResponse, Options, Probe, Route

LARGEST = 2**63  # a version's number or a size beyond this is none
STEPS = {
    "resolve": "asking the registry",
    "judge": "judging version {}",
    "fetch": "fetching version {}",
    "load": "loading version {}",
    "canary": "proving version {}",
    "swap": "swapping to version {}",
    "drain": "draining the version before",
}
"""Each step of a version on its way into service, in words."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a version on its way into service: the fact ``progress``.

    Attributes:
        step: one of `STEPS`; another one is shown by its name.
        since: when the step began.
        bytes: what is fetched, while something is; *total_bytes* where the end is known.
    """

    step: str
    version: str | None = None
    since: datetime | None = None
    bytes: float | None = None
    total_bytes: float | None = None

    @classmethod
    def read(cls, fact: object) -> Self | None:
        """Return the progress in *fact* without parts that have another form; None if it has no step."""
        if not isinstance(fact, Mapping) or (step := _text(fact.get("step"))) is None:
            return None
        total = _size(fact.get("total_bytes"))
        return cls(
            step, _text(fact.get("version")), _moment(fact.get("since")), _size(fact.get("bytes")), total
        )

    def fact(self) -> dict[str, Any]:
        """Return it as a reading has it; what is not known is left out."""
        return _known(
            step=self.step,
            version=self.version,
            since=format_time(self.since) if self.since is not None else None,
            bytes=self.bytes,
            total_bytes=self.total_bytes,
        )

    def activity(self) -> str:
        """Return the step in words: "fetching version 7"."""
        text = STEPS.get(self.step, self.step + " version {}")
        return text.format("?" if self.version is None else self.version)

    def sentence(self) -> str:
        """Return the step and its bytes in words: "fetching version 7, 3 GB of 10 GB"."""
        if self.bytes is None:
            return self.activity()
        if self.total_bytes is None:
            return f"{self.activity()}, {format_size(self.bytes)}"
        return f"{self.activity()}, {format_size(self.bytes)} of {format_size(self.total_bytes)}"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version by its number, the *candidate* that names it and the *registry* that has it."""

    version: str
    candidate: str | None = None
    registry: str | None = None

    @classmethod
    def read(cls, fact: object) -> Self | None:
        """Return the version in *fact*, or None if it has another form."""
        if not isinstance(fact, Mapping) or (version := _text(fact.get("version"))) is None:
            return None
        return cls(version, _text(fact.get("candidate")), _text(fact.get("registry")))

    def fact(self) -> dict[str, Any]:
        """Return it as a reading has it."""
        return _known(version=self.version, candidate=self.candidate, registry=self.registry)


@dataclass(frozen=True, slots=True)
class RejectedVersion:
    """A version that is not served *until* then, and the *step* that it did not get through."""

    version: str
    reason: str
    until: datetime | None = None
    step: str | None = None
    at_fault: str | None = None

    @classmethod
    def read(cls, fact: Mapping[str, Any]) -> Self:
        """Return the rejected version in *fact*."""
        return cls(
            version=_text(fact.get("version")) or "?",
            reason=_text(fact.get("reason")) or "no reason given",
            until=_moment(fact.get("until")),
            step=_text(fact.get("step")),
            at_fault=_text(fact.get("at_fault")),
        )

    def fact(self) -> dict[str, Any]:
        """Return it as a reading has it."""
        return _known(
            version=self.version,
            step=self.step,
            reason=self.reason,
            at_fault=self.at_fault,
            until=format_time(self.until) if self.until is not None else None,
        )


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """The facts of a reading that tell which version of a model is desired, served and on its way.

    Attributes:
        drift_since: since when the served version is not the desired one.
    """

    model: str | None = None
    desired: RegisteredVersion | None = None
    served: RegisteredVersion | None = None
    drift_since: datetime | None = None
    progress: Progress | None = None
    rejected: tuple[RejectedVersion, ...] = ()

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return those of *facts* that have the form of this class; the others are left out."""
        model, rejected = facts.get("model"), facts.get("rejected")
        is_list = isinstance(rejected, list | tuple) and all(isinstance(one, Mapping) for one in rejected)
        return cls(
            model=(_text(model) or None) if isinstance(model, str) else None,
            desired=RegisteredVersion.read(facts.get("desired")),
            served=RegisteredVersion.read(facts.get("served")),
            drift_since=_moment(facts.get("drift_since")),
            progress=Progress.read(facts.get("progress")),
            rejected=tuple(map(RejectedVersion.read, rejected)) if is_list and rejected else (),
        )

    @property
    def names_version(self) -> bool:
        """Tell if a version is desired, served or on its way."""
        return bool(self.desired or self.served or self.progress)

    def facts(self) -> dict[str, Any]:
        """Return them as a reading has them; what is not known is left out."""
        return _known(
            model=self.model,
            desired=self.desired.fact() if self.desired is not None else None,
            served=self.served.fact() if self.served is not None else None,
            drift_since=format_time(self.drift_since) if self.drift_since is not None else None,
            progress=self.progress.fact() if self.progress is not None else None,
            rejected=[one.fact() for one in self.rejected] or None,
        )


def _known(**facts: object) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _text(value: object) -> str | None:
    """Return the plain text or whole number *value* as text."""
    if isinstance(value, str):
        return str.__str__(value)  # of a subclass, which may call itself HTML, the text alone
    is_number = isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value < LARGEST
    return str(value) if is_number else None


def _size(value: object) -> float | None:
    is_size = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST
    return value if is_size else None  # type: ignore[return-value]  # a number


def _moment(value: object) -> datetime | None:
    """Return the moment *value* in UTC; None if it is none or has no time zone."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of ``mlflow models serve``: a 200 with *body* as *content_type*."""

    body: bytes
    content_type: str = "application/json"


class PredictionError(HttpError):
    """Raised by `Predictor.predict` that has no prediction to give, with a detail for the caller.

    Its code is 400, 413, 415 for the caller's mistakes, 429 for too many at a time, 500 for the model's
    fault, 503 for no model, 504 for too slow.
    """


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
        """Return the version that would answer now, or None."""
        raise NotImplementedError

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Predict for *body*, in MLflow's scoring protocol as *content_type* says; minds its own clock.

        Raises:
            PredictionError: there is no prediction, and whose fault that is.
        """
        raise NotImplementedError

    @cached_property
    def prediction_route(self) -> Route:
        """Return the route behind ``POST /invocations``; the daemon puts it where MLflow's clients ask."""

        async def answer(request: HttpRequest) -> HttpResponse:
            prediction = await self.predict(request.body, request.content_type)
            return HttpResponse(prediction.body, prediction.content_type)

        return Route("POST", "/invocations", answer, "Predictions of this model", access="predict")

    async def reconfigure(self, options: PredictorOptionsT) -> bool:
        """Go on with *options* without a gap for callers, and return if it does.

        If it does not, as here, it is closed and made anew.
        """
        _ = options
        return False


def is_predictor(probe: type[Probe[Any]]) -> bool:
    """Tell if *probe* answers predictions."""
    return issubclass(probe, Predictor)
