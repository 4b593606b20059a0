"""What an operator may say about a model: where it is registered, what it must prove, what it may take."""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mlopsd.predictor import PredictorOptions
from mlopsd.units import Seconds

TRACKING_URI = "MLFLOW_TRACKING_URI"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not an absolute path; write it from / on")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Positive = Annotated[Seconds, Field(gt=0)]


class Part(BaseModel):
    """A table below the model's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Part):
    """What a number may be; either bound may be left out."""

    min: Annotated[float, Field(allow_inf_nan=False)] | None = None
    max: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; exchange them")
        return self

    def holds(self, value: float) -> bool:
        """Whether *value* is in it; NaN never is."""
        low = self.min is None or value >= self.min
        return low and (self.max is None or value <= self.max) and value == value  # noqa: PLR0124  # NaN


class RegistryOptions(Part):
    """A registry and the credentials that it, and no other, is given.

    Attributes:
        uri: as MLflow takes it: http(s), ``sqlite:///…``, ``databricks`` …
        username: for basic authentication, with *password_file*.
        password_file: a file whose first line is the password.
        token_file: a file whose first line is a bearer token.
    """

    uri: Annotated[str, Field(min_length=1)]
    username: str | None = None
    password_file: AbsolutePath | None = None
    token_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> "RegistryOptions":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together; write both or neither")
        if self.username is not None and self.token_file is not None:
            raise ValueError("either username and password_file, or token_file; take one out")
        return self

    @property
    def label(self) -> str:
        """The URI without credentials, for people."""
        return without_credentials(self.uri)


class InheritedRegistry(RegistryOptions):
    """The registry that MLflow's own variables name; it alone is given the credentials in them."""


class PredictionOptions(Part):
    """What predictions may take."""

    max_rows: Annotated[int, Field(ge=1)] = 10_000
    max_in_flight: Annotated[int, Field(ge=1)] = 128
    timeout: Positive = 10.0
    together: Literal["auto", "never"] = "auto"
    buckets: tuple[float, ...] = (-1000, -100, -10, -1, -0.1, 0, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 10, 100, 1000)

    @model_validator(mode="after")
    def _ascending(self) -> "PredictionOptions":
        if list(self.buckets) != sorted(set(self.buckets)) or not self.buckets:
            raise ValueError("buckets must be one number or more, each above the one before")
        return self


class CanaryOptions(Range):
    """What a version predicts before it serves, and what may come out."""

    input: AbsolutePath | None = None
    timeout: Positive = 10.0


class ModelOptions(PredictorOptions):
    """A registered model on this host."""

    model: Annotated[str, Field(min_length=1)]
    candidates: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "@champion",
        "Production",
        "Staging",
        "None",
    )
    registries: tuple[RegistryOptions, ...] = ()
    cache_ttl: Positive = 3600.0
    on_expiry: Literal["prove", "reload"] = "prove"
    swap: Literal["beside", "replace"] = "beside"
    python: AbsolutePath | None = None
    on_missing: Literal["warn", "fail"] = "warn"
    gpu_probe: str = "gpu"
    registry_timeout: Positive = 5.0
    fetch_timeout: Positive = 900.0
    fetch_idle_timeout: Positive = 30.0
    load_timeout: Positive = 300.0
    refused_backoff: Positive = 600.0
    thresholds: dict[str, Range] = Field(default_factory=dict)
    features: dict[str, Range] = Field(default_factory=dict)
    prediction: PredictionOptions = PredictionOptions()
    canary: CanaryOptions = CanaryOptions()

    @model_validator(mode="before")
    @classmethod
    def _registry_of_the_environment(cls, table: object) -> object:
        """Where no registry is written, the one that MLflow's own variables name."""
        if not isinstance(table, dict) or table.get("registries"):
            return table
        if not (uri := os.environ.get(TRACKING_URI)):
            cure = f'write registries = [{{ uri = "…" }}], or set {TRACKING_URI}'
            raise ValueError(f"no registry is configured; {cure}")
        return {**table, "registries": [InheritedRegistry(uri=uri)]}


def without_credentials(uri: str) -> str:
    """*uri* without user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "a registry whose URI cannot be read"
    if "@" not in parts.netloc and not parts.query:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
