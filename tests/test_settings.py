"""The configuration: its sources, its mistakes, and the file that documents it."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mlopsd import plugins
from mlopsd.settings import ProbeTable, Settings
from mlopsd.settings.load import Loaded, in_force, load
from mlopsd.settings.mistakes import ConfigurationError, shown
from mlopsd_probes.system import SystemProbe

ROOT = Path(__file__).parent.parent
BAD = sorted((ROOT / "tests" / "bad").glob("*.toml"))
SECRET = "correct-horse-battery"


def load_text(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None, **arguments: Any
) -> Loaded:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load(path, arguments, environment or {})


def nothing(tmp_path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    return load(None, {}, environment or {}, default_path=tmp_path / "none.toml")


@pytest.mark.parametrize("path", BAD, ids=[path.stem for path in BAD])
def test_each_mistake_is_one_line_with_key_value_reason_and_cure(path: Path) -> None:
    expected = path.read_text("utf-8").splitlines()[0].removeprefix("# says: ")
    with pytest.raises(ConfigurationError) as caught:
        plugins.configure(load(path, {}, {}))
    (mistake,) = caught.value.mistakes
    line = str(mistake)
    assert line.startswith((f"{path}: {expected}", expected)), line
    assert "\n" not in line
    assert ";" in line or "must not be" in line, "it says no cure"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, '[api]\nport = "x"\nhost = 1\n[log]\nlevel = "loud"\n')
    assert [mistake.key for mistake in caught.value.mistakes] == ["api.host", "api.port", "log.level"]


def test_without_a_file_the_host_alone_is_watched(tmp_path: Path) -> None:
    loaded = nothing(tmp_path)
    assert list(loaded.settings.probes) == ["system"]
    assert loaded.path is None
    assert (loaded.settings.api.host, loaded.settings.api.port) == ("127.0.0.1", 9178)


def test_a_file_is_taken_at_its_word(tmp_path: Path) -> None:
    assert load_text(tmp_path, "").settings.probes == {}


def test_the_later_source_wins_and_is_named_as_the_origin(tmp_path: Path) -> None:
    text = '[api]\nport = 1\nhost = "a"\nrequest_timeout = "5s"\n[probes.system]\ninterval = "1h"\n'
    environment = {"MLOPSD_API__PORT": "2", "MLOPSD_API__HOST": "b", "MLOPSD_PROBES__SYSTEM__TIMEOUT": "3"}
    loaded = load_text(tmp_path, text, environment, api={"port": 3})
    said = {key: (value, origin) for key, value, origin in in_force(loaded)}
    path = str(tmp_path / "config.toml")
    assert said["api.port"] == (3, "command line")
    assert said["api.host"] == ("b", "MLOPSD_API__HOST")
    assert said["api.request_timeout"] == (5.0, path)
    assert said["api.max_body_size"] == (16_000_000, "default")
    assert said["probes.system.interval"] == (3600.0, path)
    assert said["probes.system.timeout"] == (3.0, "MLOPSD_PROBES__SYSTEM__TIMEOUT")


def test_lists_come_from_the_environment_as_json_or_with_commas(tmp_path: Path) -> None:
    for text in ('["http://a", "http://b"]', "http://a, http://b"):
        loaded = nothing(tmp_path, {"MLOPSD_API__CORS_ORIGINS": text})
        assert loaded.settings.api.cors_origins == ("http://a", "http://b")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MLOPSD_API__PRT", "MLOPSD_API__PORT"),
        ("MLOPSD_DEBGU", "MLOPSD_DEBUG"),
        ("MLOPSD_API_PORT", "MLOPSD_API__PORT"),
        ("MLOPSD_CONFG", "MLOPSD_CONFIG"),
        ("MLOPSD_PROBES__SYSTEM", "MLOPSD_PROBES__NAME__KEY"),
    ],
)
def test_a_misspelt_variable_is_a_mistake(tmp_path: Path, variable: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        nothing(tmp_path, {variable: "1"})
    assert str(caught.value).startswith(f"environment: {variable}: no such variable; ")
    assert meant in str(caught.value)


def test_a_variable_for_a_probe_is_judged_by_the_probe(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plugins.configure(nothing(tmp_path, {"MLOPSD_PROBES__SYSTEM__PATH": "/"}))
    assert str(caught.value).startswith(
        "MLOPSD_PROBES__SYSTEM__PATH: probes.system.path: no such key; did you mean 'paths'?"
    )


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_named_file_that_is_missing_is_a_mistake(tmp_path: Path, by: str) -> None:
    path = tmp_path / "missing.toml"
    config, environment = (path, {}) if by == "argument" else (None, {"MLOPSD_CONFIG": str(path)})
    with pytest.raises(ConfigurationError, match="cannot read the configuration: No such file or directory"):
        load(config, {}, environment)


def test_keys_come_from_the_configuration_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# whose\nfirst\n\n  second  \n", "ascii")
    loaded = load_text(tmp_path, f'[api]\napi_keys = ["third"]\napi_keys_file = "{file}"\n')
    assert [key.get_secret_value() for key in loaded.api_keys] == ["third", "first", "second"]


def test_a_key_file_without_a_key_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n", "ascii")
    with pytest.raises(ConfigurationError, match="holds no key; write one a line"):
        load_text(tmp_path, f'[api]\napi_keys_file = "{file}"\n')


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, f'[api]\napi_keys = ["{SECRET}"]\n')
    assert SECRET not in repr(loaded.settings)
    assert SECRET not in "".join(shown(key, value) for key, value, _ in in_force(loaded))
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, f'[api]\napi_keys = {{ a = "{SECRET}" }}\napi_key = "{SECRET}"\n')
    assert SECRET not in str(caught.value)


def test_credentials_in_a_uri_are_masked() -> None:
    assert shown("uri", f"http://me:{SECRET}@registry") == "'http://********@registry'"


# -- config.toml documents every key


def documented() -> dict[str, Any]:
    """The repository's config.toml with every key that is commented out put in force."""
    text = (ROOT / "config.toml").read_text("utf-8")
    return tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE))


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    return {name: info.get_default(call_default_factory=True) for name, info in model.model_fields.items()}


def test_every_key_is_documented_with_its_default() -> None:
    told = documented()
    probe = told.pop("probes")["system"]
    for name, default in keys_of(Settings).items():
        if isinstance(default, BaseModel):
            table = told.pop(name)
            check_table(type(default), table, f"{name}.")
        elif name != "probes":
            assert_same(told.pop(name), default, name)
    assert told == {}, "documented, but no key"
    common = {name: probe.pop(name) for name in keys_of(ProbeTable)}
    assert common == {
        "use": "system",
        "enabled": True,
        "critical": True,
        "interval": f"{SystemProbe.schedule.interval:g}s",
        "timeout": f"{SystemProbe.schedule.timeout:g}s",
        "isolation": SystemProbe.schedule.isolation,
        "fail_after": SystemProbe.schedule.fail_after,
        "recover_after": SystemProbe.schedule.recover_after,
    }
    check_table(SystemProbe.Options, probe, "probes.system.")


def check_table(model: type[BaseModel], table: dict[str, Any], prefix: str) -> None:
    assert set(table) == set(model.model_fields), prefix
    made = model(**table)
    for name, default in keys_of(model).items():
        assert_same(getattr(made, name), default, prefix + name)


def assert_same(told: Any, default: Any, key: str) -> None:
    """A key without a default is shown with an example, and its comment says that it is off."""
    text = (ROOT / "config.toml").read_text("utf-8")
    name = key.rsplit(".", 1)[-1]
    comment = re.search(rf"^# (.*)\n#{name} = ", text, re.MULTILINE)
    assert comment, f"{key} has no line that explains it"
    if default is None:
        off = re.findall(rf"^# (.*)\n#{name} = ", text, re.MULTILINE)
        assert any("off unless set" in line for line in off), key
    else:
        assert told == default, key


def test_the_documented_file_is_in_force_as_it_stands() -> None:
    loaded = load(ROOT / "config.toml", {}, {})
    assert loaded.settings == nothing(ROOT).settings
    assert [configured.name for configured in plugins.configure(loaded)] == ["system"]
