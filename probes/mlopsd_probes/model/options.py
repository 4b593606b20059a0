"""The options of a model: its registries, its tests, and the limits of predictions."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from mlopsd.predictor import PredictorOptions
from mlopsd.units import Seconds, size
from mlopsd_probes.keys import key
from mlopsd_probes.registry.options import (
    TRACKING_URI,
    AbsolutePath,
    InheritedRegistry,
    Name,
    OptionTable,
    RegistryOptions,
    SignatureOptions,
    WantedModel,
)


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError('is empty; write at least one name, such as ["@champion"], or remove the key')
    return names


def _tables(value: object) -> object:
    listed = isinstance(value, list | tuple)
    if not listed or not all(isinstance(one, dict | RegistryOptions) for one in value):  # type: ignore[attr-defined]
        raise ValueError('is not a list of tables; write registries = [{ uri = "…" }]')
    return value


def _rate(value: object) -> object:
    try:
        return size(value.strip().removesuffix("/s") if isinstance(value, str) else value)
    except ValueError:
        raise ValueError('not a rate; write bytes per second or text like "100 KB/s"') from None


Positive = Annotated[Seconds, Field(gt=0)]
Rate = Annotated[int, BeforeValidator(_rate), Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Range(OptionTable):
    """The bounds of a number; either bound may be left out."""

    min: Finite | None = key(None, "number", "Least value that is allowed.")
    max: Finite | None = key(None, "number", "Greatest value that is allowed.")

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; swap them")
        return self


class PredictionOptions(OptionTable):
    """The limits of predictions."""

    max_rows: Annotated[int, Field(ge=1)] = key(10_000, "rows", "Most rows of one request. More are 413.")
    max_in_flight: Annotated[int, Field(ge=1)] = key(
        128, "requests", "Most requests at a time. More are 429; callers may retry after 1 s."
    )
    timeout: Positive = key(
        10.0, "seconds", "Time limit of one request, then 504. The process continues with it."
    )
    batching: Literal["off", "auto", "on", "exact"] = key(
        "auto",
        "choice",
        'Join waiting requests. "auto": if the library predicts row by row and a trial agreed; '
        '"on": for any library; "exact": as "auto", and equal to the last digit.',
    )
    buckets: tuple[Finite, ...] = key(
        (-1000, -100, -10, -1, -0.1, 0, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 10, 100, 1000),
        "numbers",
        "Upper bounds of the histogram of predicted numbers. Choose those that suit the model.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> "PredictionOptions":
        if list(self.buckets) != sorted(set(self.buckets)) or not self.buckets:
            raise ValueError("buckets must be one number or more in ascending order; sort them")
        return self


class CanaryOptions(Range):
    """The input of the canary prediction, and the limits of its answer."""

    min: Finite | None = key(None, "number", "Least number that a canary may predict.")
    max: Finite | None = key(None, "number", "Greatest number that a canary may predict.")
    input: AbsolutePath | None = key(
        None,
        "path",
        "Input of the canary, .json as callers send it or .csv. Default: the model's own example.",
    )
    interval: Annotated[Seconds, Field(ge=0)] = key(
        0.0, "seconds", "Least time between two canaries that pass. 0: one at each check."
    )
    expect: AbsolutePath | None = key(
        None,
        "path",
        "File with the expected answer, .json as the API gives it. Numbers may differ by the tolerance.",
    )
    tolerance: Annotated[float, Field(ge=0, lt=1)] = key(
        1e-6, "ratio", "Largest difference from an expected number: relative, or absolute below 1."
    )
    rows: Literal["same", "any"] | None = key(
        None,
        "choice",
        '"same": as many rows as in the input. "any": any number. Default: by the library.',
    )
    nan: Literal["reject", "columns", "any"] | None = key(
        None,
        "choice",
        '"columns": NaN in optional output columns. Default: that, if the signature has any.',
    )
    empty: Literal["reject", "accept"] = key(
        "reject", "choice", '"accept": an answer may have no row, or nothing but nulls.'
    )
    timeout: Positive = key(
        10.0, "seconds", "Time limit of one canary. The first one of a process may take 60 s."
    )

    @property
    def files(self) -> dict[str, Path]:
        """Return the configured files by the name of their key."""
        found = {"input": self.input, "expect": self.expect}
        return {name: file for name, file in found.items() if file is not None}


class ServingOptions(OptionTable):
    """The threads of the model's process."""

    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = key(
        "auto",
        "threads",
        'Predictions at a time. "auto": one, and smaller ones beside one of over 1 s. 1: only one.',
    )


Registries = tuple[RegistryOptions, ...]


class ModelOptions(PredictorOptions):
    """A registered model on this host."""

    model: Name = key(..., "name", "The name that the model is registered under.")
    default: bool = key(
        default=False,
        unit="true or false",
        why="POST /invocations is for this model, if several tables have one.",
    )
    candidates: Annotated[tuple[Name, ...], AfterValidator(_some)] = key(
        ("@champion", "Production", "Staging"),
        "names",
        'The first that exists: an @alias, a number, "latest", a stage; "None" is without a stage.',
    )
    fallback: Literal["follow", "hold"] = key(
        "follow",
        "choice",
        '"hold": keep the verified version if a candidate is gone. "follow": use the next candidate.',
    )
    registries: Annotated[Registries, BeforeValidator(_tables), Field(validate_default=True)] = key(
        (), "tables", f"Registries to ask, in order. Default: the one in {TRACKING_URI}."
    )
    cache_ttl: Positive = key(
        3600.0,
        "seconds",
        "Degraded after this time without a passed canary or a registry's confirmation; it keeps serving.",
    )
    on_expiry: Literal["verify", "reload"] = key(
        "verify",
        "choice",
        '"reload": load a version again in a second process each time it has served for cache_ttl.',
    )
    swap: Literal["beside", "replace"] = key(
        "beside",
        "choice",
        '"replace": unload the old version before the new one loads. Callers get 503 meanwhile.',
    )
    python: AbsolutePath | None = key(
        None, "path", "Interpreter with MLflow that runs the model. Default: the daemon's own."
    )
    on_missing: Literal["warn", "reject"] = key(
        "reject",
        "choice",
        '"warn": serve a version although a metric with a threshold was never logged. Then degraded.',
    )
    on_no_signature: Literal["warn", "accept"] = key(
        "warn",
        "choice",
        '"accept": a version without a signature is healthy, although what callers send is not checked.',
    )
    require_tags: dict[str, str] = key(
        {}, "texts", "Tags that a version must have in the registry. Without them it is not rolled out."
    )
    digest_tag: Name | None = key(
        None, "name", "Tag with the digest that a version's files must have. Otherwise it is not loaded."
    )
    gpu_probe: Name = key(
        "gpu", "name", "Probe whose unhealthy GPUs hold back the rollout of a model that uses one."
    )
    registry_timeout: Positive = key(
        5.0, "seconds", "Time limit of one answer of one registry. MLflow alone takes minutes to give up."
    )
    fetch_min_rate: Rate = key(
        100_000,
        "bytes per second",
        "Least rate of a download, averaged over twice fetch_idle_timeout. A slower one is broken off.",
    )
    fetch_idle_timeout: Positive = key(30.0, "seconds", "Longest pause of a download without a byte.")
    fetch_parallel: Annotated[int, Field(ge=1, le=64)] = key(
        4, "files", "Files of a version, or ranges of large ones, that are downloaded at a time."
    )
    load_timeout: Positive = key(
        300.0, "seconds", "Time limit from the start of a model's process until it has loaded the version."
    )
    hang_timeout: Annotated[Seconds, Field(ge=1)] = key(
        60.0,
        "seconds",
        "Time without a heartbeat after which the model's process counts as hung and is replaced.",
    )
    stall_timeout: Positive = key(
        300.0, "seconds", "Time in which requests wait and none is finished. Then the process is replaced."
    )
    rejected_backoff: Positive = key(
        600.0, "seconds", "Wait before a rejected version is tried again. Doubles up to six times that."
    )
    thresholds: dict[str, Range] = key(
        {}, "ranges", "Range of each metric of the version's run or logged model. Outside it: no download."
    )
    features: dict[str, Range] = key(
        {}, "ranges", "Range of each input column that callers may send. Outside it: 400."
    )
    prediction: PredictionOptions = key(PredictionOptions(), "table", "The limits of predictions.")
    serving: ServingOptions = key(ServingOptions(), "table", "The threads of the model's process.")
    canary: CanaryOptions = key(
        CanaryOptions(), "table", "The prediction that a version makes before it serves and at every check."
    )
    signature: SignatureOptions = key(
        SignatureOptions(), "table", "The signature that a version's files must have."
    )

    @property
    def wanted(self) -> WantedModel:
        """Return the model that the registries are asked for, and their timeouts."""
        return WantedModel(
            self.model,
            self.candidates,
            self.registries,
            timeout=self.registry_timeout,
            fetch_min_rate=self.fetch_min_rate,
            fetch_idle_timeout=self.fetch_idle_timeout,
            fetch_parallel=self.fetch_parallel,
            require_tags=self.require_tags,
            digest_tag=self.digest_tag,
            signature=self.signature,
        )

    @field_validator("registries", mode="after")
    @classmethod
    def _registry_of_the_environment(
        cls, written: tuple[RegistryOptions, ...]
    ) -> tuple[RegistryOptions, ...]:
        """Return the registry in MLflow's environment variables if the table names none."""
        if written:
            return written
        if not (uri := os.environ.get(TRACKING_URI)):
            fix = f'write registries = [{{ uri = "…" }}], or set {TRACKING_URI}'
            raise ValueError(f"no registry is configured; {fix}")
        return (InheritedRegistry(uri=uri),)

    @model_validator(mode="after")
    def _times_fit(self) -> "ModelOptions":
        """Reject times that contradict each other.

        A request may wait as long as its timeout, and is not stalled meanwhile. A version needs a canary
        within ``cache_ttl``.
        """
        if self.canary.interval > self.cache_ttl:
            raise ValueError(f"canary.interval {self.canary.interval:g} s is above cache_ttl; lower it")
        for name, seconds in (
            ("prediction.timeout", self.prediction.timeout),
            ("canary.timeout", self.canary.timeout),
        ):
            if self.stall_timeout < seconds:
                raise ValueError(
                    f"stall_timeout {self.stall_timeout:g} s is below {name} {seconds:g} s; raise it"
                )
        return self
