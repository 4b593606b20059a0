"""The contract of a probe that also predicts, over ``POST /invocations`` of the daemon.

Such a probe runs on the event loop and keeps its model in processes of its own. Its readings report the
served version and the rollout in the form of `VersionFacts`. The status page and the command line
recognize them by that form, not by the probe's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar, Generic, Self

from typing_extensions import TypeVar

from mlopsd.format import format_size, format_time
from mlopsd.probe import HttpError, HttpRequest, HttpResponse, Options, Probe, Route

__all__ = [
    "Prediction",
    "PredictionError",
    "Predictor",
    "PredictorOptions",
    "PredictorOptionsT",
    "Progress",
    "RegisteredVersion",
    "RejectedVersion",
    "VersionFacts",
]

LARGEST = 2**63  # a larger number is not a valid version or size
STEPS = {
    "resolve": "asking the registry",
    "judge": "judging version {}",
    "fetch": "fetching version {}",
    "load": "loading version {}",
    "canary": "proving version {}",
    "swap": "swapping to version {}",
    "drain": "draining the version before",
}
"""The text of each rollout step."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The current step of a rollout: the fact ``progress``.

    Attributes:
        step: One of `STEPS`; any other step is shown by its name.
        version: The version that is rolled out.
        since: The time when the step began, in UTC.
        bytes: The bytes fetched so far, during a download.
        total_bytes: The bytes to fetch in total, if known.
    """

    step: str
    version: str | None = None
    since: datetime | None = None
    bytes: float | None = None
    total_bytes: float | None = None

    @classmethod
    def read(cls, fact: object) -> Self | None:
        """Return the progress in *fact*, or None if it has no step. Drop parts of an invalid form."""
        if not isinstance(fact, Mapping) or (step := _text(fact.get("step"))) is None:
            return None
        total = _size(fact.get("total_bytes"))
        return cls(
            step, _text(fact.get("version")), _moment(fact.get("since")), _size(fact.get("bytes")), total
        )

    def fact(self) -> dict[str, Any]:
        """Return the fact as a reading has it, without unknown parts."""
        return _known(
            step=self.step,
            version=self.version,
            since=format_time(self.since) if self.since is not None else None,
            bytes=self.bytes,
            total_bytes=self.total_bytes,
        )

    def activity(self) -> str:
        """Return the text of the step: "fetching version 7"."""
        text = STEPS.get(self.step, self.step + " version {}")
        return text.format("?" if self.version is None else self.version)

    def sentence(self) -> str:
        """Return the text of the step and its bytes: "fetching version 7, 3 GB of 10 GB"."""
        if self.bytes is None:
            return self.activity()
        if self.total_bytes is None:
            return f"{self.activity()}, {format_size(self.bytes)}"
        return f"{self.activity()}, {format_size(self.bytes)} of {format_size(self.total_bytes)}"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes:
        version: The version number.
        candidate: The name that resolves to it.
        registry: The registry that has it.
        digest: A digest of its files, if this host has them.
    """

    version: str
    candidate: str | None = None
    registry: str | None = None
    digest: str | None = None

    @classmethod
    def read(cls, fact: object) -> Self | None:
        """Return the version in *fact*, or None if its form is invalid."""
        if not isinstance(fact, Mapping) or (version := _text(fact.get("version"))) is None:
            return None
        return cls(
            version, _text(fact.get("candidate")), _text(fact.get("registry")), _text(fact.get("digest"))
        )

    def fact(self) -> dict[str, Any]:
        """Return the fact as a reading has it."""
        return _known(
            version=self.version, candidate=self.candidate, registry=self.registry, digest=self.digest
        )


@dataclass(frozen=True, slots=True)
class RejectedVersion:
    """A version that failed the rollout *step* and is not retried before *until* (UTC)."""

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
        """Return the fact as a reading has it."""
        return _known(
            version=self.version,
            step=self.step,
            reason=self.reason,
            at_fault=self.at_fault,
            until=format_time(self.until) if self.until is not None else None,
        )


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """The facts of a reading about a model: its desired, served and rejected versions and its rollout.

    Attributes:
        model: The name of the registered model.
        desired: The version that the registry resolves to.
        held_back: The desired version, if the served one is kept on purpose.
        served: The version that is in service.
        drift_since: The time since which *served* differs from *desired*, in UTC.
        progress: The current step of the rollout.
        rejected: The versions that failed a rollout.
        serving_since: The time when *served* was put into service, in UTC.
    """

    model: str | None = None
    desired: RegisteredVersion | None = None
    held_back: RegisteredVersion | None = None
    served: RegisteredVersion | None = None
    drift_since: datetime | None = None
    progress: Progress | None = None
    rejected: tuple[RejectedVersion, ...] = ()
    serving_since: datetime | None = None

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Self:
        """Return the version facts among *facts*. Drop facts of an invalid form."""
        model, rejected = facts.get("model"), facts.get("rejected")
        is_list = isinstance(rejected, list | tuple) and all(isinstance(fact, Mapping) for fact in rejected)
        return cls(
            model=(_text(model) or None) if isinstance(model, str) else None,
            desired=RegisteredVersion.read(facts.get("desired")),
            held_back=RegisteredVersion.read(facts.get("held_back")),
            served=RegisteredVersion.read(facts.get("served")),
            drift_since=_moment(facts.get("drift_since")),
            progress=Progress.read(facts.get("progress")),
            rejected=tuple(map(RejectedVersion.read, rejected)) if is_list and rejected else (),
            serving_since=_moment(facts.get("serving_since")),
        )

    @property
    def names_version(self) -> bool:
        """Return whether a version is desired, served or being rolled out."""
        return bool(self.desired or self.served or self.progress)

    def facts(self) -> dict[str, Any]:
        """Return the facts as a reading has them, without unknown ones."""
        return _known(
            model=self.model,
            desired=self.desired.fact() if self.desired is not None else None,
            held_back=self.held_back.fact() if self.held_back is not None else None,
            served=self.served.fact() if self.served is not None else None,
            drift_since=format_time(self.drift_since) if self.drift_since is not None else None,
            progress=self.progress.fact() if self.progress is not None else None,
            rejected=[version.fact() for version in self.rejected] or None,
            serving_since=format_time(self.serving_since) if self.serving_since is not None else None,
        )


def _known(**facts: object) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _text(value: object) -> str | None:
    """Return *value* as text if it is a text or a whole number, else None."""
    if isinstance(value, str):
        return str.__str__(value)  # the text alone: a subclass may mark itself as safe HTML
    is_number = isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value < LARGEST
    return str(value) if is_number else None


def _size(value: object) -> float | None:
    is_size = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST
    return value if is_size else None  # type: ignore[return-value]  # a number


def _moment(value: object) -> datetime | None:
    """Return the time *value* in UTC, or None if it is no time or has no time zone."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction as ``mlflow models serve`` returns it: a 200 with *body* as *content_type*."""

    body: bytes
    content_type: str = "application/json"


class PredictionError(HttpError):
    """The error of a `Predictor.predict` without a prediction, with a detail for the caller.

    Codes:
        400, 413, 415: The request is invalid.
        429: Too many predictions run at a time.
        500: The model failed.
        503: No model is in service.
        504: The prediction took too long.
    """


class PredictorOptions(Options):
    """The keys of every probe that predicts.

    Attributes:
        model: The registered model's name, which is also its name in the Open Inference Protocol.
        default: True if ``POST /invocations`` without a probe's name goes to this probe.
    """

    model: str
    default: bool = False


PredictorOptionsT = TypeVar("PredictorOptionsT", bound=PredictorOptions, default=PredictorOptions)


class Predictor(Probe[PredictorOptionsT], Generic[PredictorOptionsT]):
    """A probe that also predicts."""

    Options: ClassVar[type[Options]] = PredictorOptions

    @property
    def served_version(self) -> str | None:
        """Return the version that predicts now, or None, also if it is known to hang."""
        raise NotImplementedError

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        """Return the prediction for *body*, a request of MLflow's scoring protocol.

        The method keeps its own time limit.

        Args:
            body: The request: rows as JSON or CSV, as *content_type* says.
            content_type: The ``Content-Type`` header of the request, or "".

        Raises:
            PredictionError: There is no prediction; the code says whose fault that is.
        """
        raise NotImplementedError

    @cached_property
    def prediction_route(self) -> Route:
        """Return the route of predictions. The daemon serves it at the paths that MLflow's clients use."""

        async def answer(request: HttpRequest) -> HttpResponse:
            prediction = await self.predict(request.body, request.content_type)
            return HttpResponse(prediction.body, prediction.content_type)

        return Route("POST", "/invocations", answer, "Predictions of this model", access="predict")

    async def reconfigure(self, options: PredictorOptionsT) -> bool:
        """Apply *options* without an interruption for callers, and return whether that worked.

        On False, the default, the daemon closes this probe and makes a new one.
        """
        _ = options
        return False


def is_predictor(probe: type[Probe[Any]]) -> bool:
    """Return whether *probe* predicts."""
    return issubclass(probe, Predictor)
