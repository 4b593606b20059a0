"""The keys of ``[probes.model]``: what they take, and what they say to a mistake."""

import math
import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from mlopsd_probes.model.options import (
    CanaryOptions,
    ModelOptions,
    PredictionOptions,
    Range,
)
from mlopsd_probes.registry.options import (
    TRACKING_URI,
    InheritedRegistry,
    RegistryOptions,
    without_credentials,
)

URI = "http://registry"
TABLE: dict[str, Any] = {"model": "wine", "registries": [{"uri": URI}]}


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"model": " "}, "is empty; write a name"),
        ({"candidates": []}, "is empty; write at least one name"),
        ({"candidates": [""]}, "is empty; write a name"),
        ({"registries": URI}, 'is not a list of tables; write registries = [{ uri = "…" }]'),
        ({"registries": [URI]}, 'is not a list of tables; write registries = [{ uri = "…" }]'),
        ({"registries": {"uri": URI}}, 'is not a list of tables; write registries = [{ uri = "…" }]'),
        ({"registries": [{"uri": ""}]}, "is empty; write a name"),
        ({"registries": [{"uri": URI, "password_file": "/p"}]}, "write both or neither"),
        ({"registries": [{"uri": URI, "ca_file": "/ca"}]}, "ca_file is for https; change the uri, or remove"),
        (
            {"registries": [{"uri": "https://r", "client_key_file": "/k"}]},
            "needs client_cert_file; write it too",
        ),
        ({"python": "python3"}, "not an absolute path; write it from / on"),
        ({"cache_ttl": 0}, "greater than 0"),
        ({"load_timeout": "1 fortnight"}, "not a duration; write seconds or text like"),
        ({"thresholds": {"accuracy": {"mim": 1}}}, "Extra inputs"),
        ({"thresholds": {"accuracy": {"min": math.nan}}}, "finite"),
        ({"features": {"age": {"min": 2, "max": 1}}}, "min 2 is above max 1; swap them"),
        ({"canary": {"min": 2, "max": 1}}, "min 2 is above max 1; swap them"),
        ({"prediction": {"buckets": []}}, "one number or more"),
        ({"prediction": {"buckets": [1, 1]}}, "one number or more in ascending order; sort them"),
        ({"prediction": {"buckets": [1, math.inf]}}, "finite"),
        ({"prediction": {"max_in_flight": 0}}, "greater than or equal to 1"),
        ({"prediction": {"together": "auto"}}, "Extra inputs"),
        ({"prediction": {"batching": "never"}}, "'off', 'auto', 'on' or 'exact'"),
        ({"hang_timeout": 0.5}, "greater than or equal to 1"),
        (
            {"prediction": {"timeout": "10m"}},
            "stall_timeout 300 s is below prediction.timeout 600 s; raise it",
        ),
        (
            {"stall_timeout": "5s", "prediction": {"timeout": 1}},
            "stall_timeout 5 s is below canary.timeout 10 s; raise it",
        ),
        ({"fetch_min_rate": "fast"}, 'not a rate; write bytes per second or text like "100 KB/s"'),
        ({"fetch_min_rate": "-1"}, "not a rate"),
        ({"fetch_parallel": 0}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named(mistake: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        ModelOptions(**TABLE | mistake)


@pytest.mark.parametrize("model", [ModelOptions, RegistryOptions, PredictionOptions, CanaryOptions, Range])
def test_every_key_says_its_unit_and_its_meaning(model: type[BaseModel]) -> None:
    for key, info in model.model_fields.items():
        assert info.description, key
        assert isinstance(info.json_schema_extra, dict), key
        assert info.json_schema_extra["unit"], key


def test_durations_may_be_text() -> None:
    made = ModelOptions(**TABLE | {"load_timeout": "1h", "prediction": {"timeout": "500ms"}})
    assert (made.load_timeout, made.prediction.timeout) == (3600, 0.5)


@pytest.mark.parametrize(("written", "rate"), [(0, 0), (5, 5), ("100 KB/s", 100_000), ("1MiB", 2**20)])
def test_a_rate_may_be_text(written: object, rate: int) -> None:
    assert ModelOptions(**TABLE | {"fetch_min_rate": written}).fetch_min_rate == rate


def test_without_a_registry_the_one_that_mlflow_itself_would_ask_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TRACKING_URI, URI)
    for registries in ({}, {"registries": ()}):
        (registry,) = ModelOptions.model_validate({"model": "wine", **registries}).registries
        assert (type(registry), registry.uri) == (InheritedRegistry, URI)
    (named,) = ModelOptions(**TABLE).registries
    assert type(named) is RegistryOptions, "the variables' credentials are not for it"


def test_without_any_registry_the_fix_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACKING_URI, raising=False)
    with pytest.raises(ValidationError, match=f"write registries = .*, or set {TRACKING_URI}"):
        ModelOptions(model="wine")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:5000/a", "https://host:5000/a"),
        ("https://me:s@cret@host", "https://host"),
        ("postgresql://me:secret@host/db?password=secret", "postgresql://host/db"),
        ("postgresql+psycopg://me:se/cret@host/db", "postgresql+psycopg://host/db"),
        ("mysql://me:se?c#ret@host/db", "mysql://host/db"),
        ("postgresql://me@host/db", "postgresql://host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("postgresql:///db", "postgresql:///db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("databricks", "databricks"),
        ("http://[broken", "a registry whose URI cannot be read"),
    ],
)
def test_a_uri_is_shown_without_credentials(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
    assert RegistryOptions(uri=uri).label == shown
