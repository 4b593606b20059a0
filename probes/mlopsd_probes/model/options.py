"""The options of a model: its registries, its tests, and the limits of predictions."""

import os
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from mlopsd.predictor import PredictorOptions
from mlopsd.units import Seconds
from mlopsd_probes.keys import key
from mlopsd_probes.registry.options import (
    TRACKING_URI,
    AbsolutePath,
    InheritedRegistry,
    Name,
    OptionTable,
    RegistryOptions,
    WantedModel,
)


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError('names nothing; write one name or more, as ["@champion"], or take the key out')
    return names


def _tables(value: object) -> object:
    listed = isinstance(value, list | tuple)
    if not listed or not all(isinstance(one, dict | RegistryOptions) for one in value):  # type: ignore[attr-defined]
        raise ValueError('not a list of tables; write registries = [{ uri = "…" }]')
    return value


Positive = Annotated[Seconds, Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Range(OptionTable):
    """The bounds of a number; either bound may be left out."""

    min: Finite | None = key(None, "number", "Least value that is allowed.")
    max: Finite | None = key(None, "number", "Greatest value that is allowed.")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; exchange them")
        return self


class PredictionOptions(OptionTable):
    """The limits of predictions."""

    max_rows: Annotated[int, Field(ge=1)] = key(10_000, "rows", "Of one request; more are 413.")
    max_in_flight: Annotated[int, Field(ge=1)] = key(
        128, "requests", "At a time; more are 429, to be asked again after 1 s."
    )
    timeout: Positive = key(
        10.0, "seconds", "For one request, then 504; the process that is too slow for it goes on."
    )
    batching: Literal["off", "auto", "on", "exact"] = key(
        "auto",
        "choice",
        "Waiting requests are predicted in one go, where the library predicts row by row and a trial agreed; "
        '"on": any library; "exact": as "auto", and equal to the last digit.',
    )
    buckets: tuple[Finite, ...] = key(
        (-1000, -100, -10, -1, -0.1, 0, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 10, 100, 1000),
        "numbers",
        "Upper bounds of the histogram of predicted numbers; choose those that suit the model.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> "PredictionOptions":
        if list(self.buckets) != sorted(set(self.buckets)) or not self.buckets:
            raise ValueError("buckets must be one number or more, each above the one before; sort them")
        return self


class CanaryOptions(Range):
    """The canary: the input that a version predicts for before it serves, and the limits of the answer."""

    min: Finite | None = key(None, "number", "Least number that may come out.")
    max: Finite | None = key(None, "number", "Greatest number that may come out.")
    input: AbsolutePath | None = key(
        None, "path", "What to predict, .json as callers send it or .csv; else the model's own example."
    )
    timeout: Positive = key(10.0, "seconds", "For one canary; the first one of a process may take 60 s.")


Registries = tuple[RegistryOptions, ...]


class ModelOptions(PredictorOptions):
    """A registered model on this host."""

    model: Name = key(..., "name", "The name that the model is registered under.")
    default: bool = key(
        default=False,
        unit="true or false",
        why="Where several tables have a model: POST /invocations is for this one.",
    )
    candidates: Annotated[tuple[Name, ...], AfterValidator(_some)] = key(
        ("@champion", "Production", "Staging", "None"),
        "names",
        'Which version: an @alias, a stage, a number or "latest"; the first that leads to one.',
    )
    registries: Annotated[Registries, BeforeValidator(_tables), Field(validate_default=True)] = key(
        (), "tables", f"Whom to ask, in order; without any, the one that {TRACKING_URI} names."
    )
    cache_ttl: Positive = key(
        3600.0, "seconds", "Not proven, or not confirmed by a registry, for so long: degraded; it serves on."
    )
    on_expiry: Literal["verify", "reload"] = key(
        "verify", "choice", '"reload": what has served for cache_ttl is loaded anew, beside itself.'
    )
    swap: Literal["beside", "replace"] = key(
        "beside", "choice", '"replace": the old version goes before the new one loads, with a gap.'
    )
    python: AbsolutePath | None = key(
        None, "path", "Interpreter, with MLflow, that runs the model; else the daemon's own."
    )
    on_missing: Literal["warn", "reject"] = key(
        "warn", "choice", "What a metric with a threshold that was never logged does to a version."
    )
    gpu_probe: Name = key(
        "gpu", "name", "The probe whose unhealthy GPUs keep a model that uses one from being taken up."
    )
    registry_timeout: Positive = key(
        5.0, "seconds", "For one answer of one registry; MLflow alone takes minutes to give up."
    )
    fetch_timeout: Positive = key(
        900.0, "seconds", "For all files of a version, however they drip; 10 GB need 11 MB/s."
    )
    fetch_idle_timeout: Positive = key(30.0, "seconds", "Without a byte of a version's files.")
    load_timeout: Positive = key(
        300.0, "seconds", "From the start of a model's process until it has loaded the version."
    )
    hang_timeout: Annotated[Seconds, Field(ge=1)] = key(
        60.0, "seconds", "Without a heartbeat of the model's process: it hangs, and is replaced."
    )
    stall_timeout: Positive = key(
        300.0, "seconds", "Requests wait and none is finished: the process stalls, and is replaced."
    )
    rejected_backoff: Positive = key(
        600.0, "seconds", "Until a rejected version is tried again by itself; doubles up to six times that."
    )
    thresholds: dict[str, Range] = key(
        {}, "ranges", "By metric of the version's run: what it must be, or the version is not even fetched."
    )
    features: dict[str, Range] = key({}, "ranges", "By input column: what callers may send; else 400.")
    prediction: PredictionOptions = key(PredictionOptions(), "table", "The limits of predictions.")
    canary: CanaryOptions = key(
        CanaryOptions(), "table", "What a version predicts before it serves and at every check."
    )

    @property
    def wanted(self) -> WantedModel:
        """Return what the registries are asked for, and how long they may take."""
        return WantedModel(
            self.model,
            self.candidates,
            self.registries,
            timeout=self.registry_timeout,
            fetch_timeout=self.fetch_timeout,
            fetch_idle_timeout=self.fetch_idle_timeout,
        )

    @field_validator("registries", mode="after")
    @classmethod
    def _registry_of_the_environment(
        cls, written: tuple[RegistryOptions, ...]
    ) -> tuple[RegistryOptions, ...]:
        """Return the registry that MLflow's own variables name if none is written."""
        if written:
            return written
        if not (uri := os.environ.get(TRACKING_URI)):
            fix = f'write registries = [{{ uri = "…" }}], or set {TRACKING_URI}'
            raise ValueError(f"no registry is configured; {fix}")
        return (InheritedRegistry(uri=uri),)

    @model_validator(mode="after")
    def _slow_is_not_stalled(self) -> "ModelOptions":
        """A request that is still waited for must not count as stalled."""
        for name, seconds in (
            ("prediction.timeout", self.prediction.timeout),
            ("canary.timeout", self.canary.timeout),
        ):
            if self.stall_timeout < seconds:
                raise ValueError(
                    f"stall_timeout {self.stall_timeout:g} s is below {name} {seconds:g} s; raise it"
                )
        return self
