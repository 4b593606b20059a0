"""Any configuration is settings, or a mistake that is named; and no mistake tells a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlopsd.config.errors import MASK, ConfigurationError, shown, without_credentials
from mlopsd.config.load import LoadedConfig, effective, load
from mlopsd.config.probes import read_configuration
from mlopsd.config.schema import Settings

BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SECRET = "correct-horse-battery"
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["15s", "1h", "500MB", "-1s", "0", "INFO", "json", "/tmp/x", "http://a:b@c", "", "\x00"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "api": list(Settings.model_fields["api"].default.__class__.model_fields),
    "metrics": ["enabled", "host", "port"],
    "log": ["level", "format"],
}
MODEL = ["model", "registries", "candidates", "features", "thresholds", "prediction", "canary", "python"]
COMMON = ["use", "enabled", "interval", "timeout", "isolation", "critical", "fail_after", "recover_after"]
PROBES = st.dictionaries(
    st.sampled_from(["system", "model", "gpu", "Odd", "a__b", "detailed"]) | st.text(max_size=5),
    st.dictionaries(st.sampled_from([*MODEL, *COMMON, "paths"]) | st.text(max_size=8), VALUES, max_size=4)
    | VALUES,
    max_size=3,
)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "debug": VALUES,
        "state_dir": VALUES,
        "socket": VALUES,
        **{name: st.dictionaries(st.sampled_from(keys), VALUES, max_size=3) for name, keys in KEYS.items()},
        "probes": PROBES,
    },
)


def toml(value: Any) -> str:
    """*value* as TOML has it, inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value).replace("\x7f", "\\u007f")


def document(tables: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tables.items())


def read(tmp_path: Path, text: str | bytes) -> LoadedConfig | ConfigurationError:
    """What is in force, or why nothing is; anything else that is raised fails the test."""
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return read_configuration(lambda: load(path, {}, {}))[0]
    except ConfigurationError as error:
        assert error.mistakes
        for mistake in error.mistakes:
            line = str(mistake)
            assert line.isprintable(), "a mistake is one line that steers no terminal"
            assert mistake.complaint
        return error


@BOUNDED
@given(st.binary(max_size=200) | st.text(max_size=200))
@example(b"\xff\xfe")
@example("a = " + "9" * 5000)
@example("a = " + "[" * 5000)
@example("a.b = 1\na = 2")
def test_any_bytes_are_settings_or_a_named_mistake(tmp_path: Path, text: str | bytes) -> None:
    found = read(tmp_path, text)
    assert isinstance(found, LoadedConfig | ConfigurationError)


@BOUNDED
@given(TABLES)
@example({"probes": {"\x1b[31mred\n": {}}})
@example({"api": {"api_keys": [5]}})
@example({"probes": {"model": {"model": "m", "registries": [{"uri": "\x00"}]}}})
def test_any_tables_are_settings_or_a_named_mistake(tmp_path: Path, tables: dict[str, Any]) -> None:
    found = read(tmp_path, document(tables))
    if isinstance(found, LoadedConfig):
        assert [shown(key, value) for key, value, _ in effective(found)]


@settings(BOUNDED, max_examples=15)
@given(st.sampled_from(["api_keys", "api_key", "password", "token"]), VALUES)
def test_no_mistake_and_no_list_of_what_is_active_reveals_a_key(tmp_path: Path, name: str, also: Any) -> None:
    for value in (SECRET, [SECRET, also], [[SECRET]], [{"key": SECRET}], {"x": SECRET, "y": also}):
        registry = {"uri": f"http://me:{SECRET}@registry", "username": "me", "password": value}
        model = {"model": "m", "registries": [registry, also]}
        tables = {"api": {name: value, "port": also}, "probes": {"model": model}}
        found = read(tmp_path, document(tables))
        if isinstance(found, ConfigurationError):
            assert SECRET not in str(found)
            assert SECRET not in "".join(map(repr, found.mistakes))
        else:
            assert SECRET not in repr(found.settings)
            assert SECRET not in "".join(shown(key, value) for key, value, _ in effective(found))


USERINFO = st.text(st.characters(exclude_characters="@", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: not text.startswith("/")
)


@BOUNDED
@given(
    st.sampled_from(["http", "https", "sqlite", "postgresql+psycopg2", "s3"]), USERINFO, st.text(max_size=20)
)
def test_credentials_of_any_form_are_masked_in_any_text(scheme: str, given_user: str, after: str) -> None:
    masked = without_credentials(f"cannot reach {scheme}://{given_user}@registry/{after}")
    assert masked.startswith(f"cannot reach {scheme}://{MASK}@")
    assert f"{given_user}@registry" not in masked or given_user == MASK


@pytest.mark.parametrize(
    "name",
    ["MLOPSD_API__PORT\x00", "MLOPSD_PROBES__\n__X", "MLOPSD_" + "X" * 5000, "mlopsd_api__port", "MLOPSD_"],
)
def test_a_variable_of_any_name_is_a_named_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {name: "1"}, default_path=tmp_path / "none")
    assert "\n" not in str(caught.value)
