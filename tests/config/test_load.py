"""The configuration: its sources, its mistakes, and the file that documents it."""

import errno
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from mlopsd.config.api_keys import MOST_KEYS
from mlopsd.config.errors import ConfigurationError, explain, shown
from mlopsd.config.load import LoadedConfig, effective, load, secret_files, warnings
from mlopsd.config.probes import configure, read_configuration
from mlopsd.config.schema import ProbeTable, Settings
from mlopsd.daemon.preflight import uncritical
from mlopsd.probe import Options
from mlopsd.process import tree
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.probe import GpuProbe
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.probe import ModelProbe
from mlopsd_probes.system.probe import SystemProbe
from tests.keys import line_of

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests" / "bad").glob("*.toml"))
SECRET = "correct-horse-battery"


def load_text(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None, **arguments: Any
) -> LoadedConfig:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load(path, arguments, environment or {})


def nothing(tmp_path: Path, environment: Mapping[str, str] | None = None) -> LoadedConfig:
    return load(None, {}, environment or {}, default_path=tmp_path / "none.toml")


@pytest.mark.parametrize("path", BAD, ids=[path.stem for path in BAD])
def test_each_mistake_is_one_line_with_key_value_reason_and_cure(path: Path) -> None:
    expected = path.read_text("utf-8").splitlines()[0].removeprefix("# says: ")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(lambda: load(path, {}, {}))
    (mistake,) = caught.value.mistakes
    line = str(mistake)
    assert line.startswith((f"{path}: {expected}", expected)), line
    assert "\n" not in line
    assert ";" in line or "must not be" in line, "it says no cure"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, '[api]\nport = "x"\nhost = 1\n[log]\nlevel = "loud"\n')
    assert [mistake.key for mistake in caught.value.mistakes] == ["api.host", "api.port", "log.level"]


def test_mistakes_of_the_daemons_tables_and_of_the_probes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        f'[api]\nport = "x"\napi_keys_file = "{tmp_path}/none"\n[probes.system]\npath = "/"\n'
        '[probes.sytem]\n[probes.other]\ninterval = "x"\nno_such = 1\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(lambda: load_text(tmp_path, text, {"MLOPSD_DEBGU": "1"}))
    keys = [mistake.key for mistake in caught.value.mistakes]
    assert keys == ["MLOPSD_DEBGU", "api.port", "probes.other.interval", "probes.system.path", "probes.sytem"]


def test_a_key_file_that_is_missing_hides_no_other_mistake(tmp_path: Path) -> None:
    text = f'[api]\napi_keys_file = "{tmp_path}/none"\n[probes.system]\npath = "/"\n'
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(lambda: load_text(tmp_path, text))
    assert [mistake.key for mistake in caught.value.mistakes] == ["api.api_keys_file", "probes.system.path"]


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("", "nothing is watched"),
        ("[probes.system]\nenabled = false\n", "nothing is watched"),
        ("[probes.system]\ncritical = false\n", "no probe is critical"),
        ("[probes.system]\n", None),
    ],
)
def test_what_may_run_but_was_hardly_meant_is_a_doubt(tmp_path: Path, text: str, doubt: str | None) -> None:
    loaded, configured = read_configuration(lambda: load_text(tmp_path, text))
    messages = [str(mistake) for mistake in (*warnings(loaded), *uncritical(configured))]
    assert len(messages) == (doubt is not None)
    assert all(line.startswith(f"probes: {doubt}, so the verdict stays unknown; ") for line in messages)


@pytest.mark.parametrize(("mode", "doubted"), [(0o640, False), (0o644, True)])
def test_a_file_of_secrets_that_everybody_may_read_is_a_doubt(
    tmp_path: Path, mode: int, *, doubted: bool
) -> None:
    files = [tmp_path / name for name in ("keys", "password", "token")]
    for file in files:
        file.write_text(SECRET, "ascii")
        file.chmod(mode)
    files[0].write_text(line_of(), "ascii")
    registries = f'[{{ uri = "http://a", username = "me", password_file = "{files[1]}" }}]'
    text = f'[api]\napi_keys_file = "{files[0]}"\n[probes.model]\nmodel = "m"\nregistries = {registries}\n'
    also = (
        f'[probes.other]\nuse = "model"\nregistries = [{{ uri = "http://a", token_file = "{files[2]}" }}]\n'
    )
    loaded = load_text(tmp_path, text + also)
    assert secret_files(loaded) == (loaded.path, *files)
    messages = [str(doubt) for doubt in warnings(loaded)]
    assert [str(file) in "".join(messages) for file in files] == [doubted] * 3
    assert SECRET not in "".join(messages)


def test_a_file_in_a_folder_that_may_not_be_searched_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        with pytest.raises(ConfigurationError, match="cannot read the configuration"):
            nothing(tmp_path)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "1" * 5000])
def test_toml_that_no_parser_likes_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not TOML: .*; correct that place"):
        load_text(tmp_path, text)


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
    said = {key: (value, origin) for key, value, origin in effective(loaded)}
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
        ("mlopsd_api__port", "did you mean 'MLOPSD_API__PORT'?"),
        ("Mlopsd_Debug", "did you mean 'MLOPSD_DEBUG'?"),
        ("mlopsd_api__prt", "did you mean 'MLOPSD_API__PORT'?"),
        ("MLOPSD_API__DEBUG", "did you mean 'MLOPSD_DEBUG'?"),
        ("mlopsd_config", "did you mean 'MLOPSD_CONFIG'?"),
        ("MLOPSD_PROBES__system__INTERVAL", "did you mean 'MLOPSD_PROBES__SYSTEM__INTERVAL'?"),
        ("mlopsd_probes__system__interval", "did you mean 'MLOPSD_PROBES__SYSTEM__INTERVAL'?"),
    ],
)
def test_a_misspelt_variable_is_a_mistake(tmp_path: Path, variable: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        nothing(tmp_path, {variable: "1"})
    assert str(caught.value).startswith(f"environment: {variable}: no such variable; ")
    assert meant in str(caught.value)


def test_the_mark_of_a_probes_process_is_no_variable_of_ours(tmp_path: Path) -> None:
    marked = nothing(tmp_path, {tree.MARK: tree.new_mark()})  # a probe may call mlopsd
    assert marked.settings == nothing(tmp_path).settings


def test_a_variable_for_a_probe_is_judged_by_the_probe(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(nothing(tmp_path, {"MLOPSD_PROBES__SYSTEM__PATH": "/"}))
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
    first, second, third = line_of("a", "first", "read"), line_of("b", "second", "predict"), line_of("c")
    file.write_text(f"# whose\n{first}\n  # an indented comment\n\n  {second}  \n\t#\n", "ascii")
    loaded = load_text(tmp_path, f'[api]\napi_keys = ["{third}"]\napi_keys_file = "{file}"\n')
    assert [key.line for key in loaded.api_keys] == [first, second, third]


def test_a_key_file_without_a_key_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n", "ascii")
    assert load_text(tmp_path, f'[api]\napi_keys_file = "{file}"\n').api_keys == ()


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([SECRET], "line 1: not the line of an API key; write name:role:sha256, as mlopsd key new prints it"),
        ([line_of(name="a b")], "line 1: not the line of an API key"),
        ([line_of()[:-1]], "line 1: not the line of an API key"),
        ([f"a:act:{SECRET}"], "line 1: not the line of an API key"),
        (
            ["# one", line_of().replace(":act:", ":admin:")],
            "line 2: the role of the API key tests is not known",
        ),
        ([line_of(), line_of("another")], "line 2: the name tests has a key already"),
    ],
)
def test_a_line_that_is_no_key_is_a_mistake_that_does_not_show_it(
    tmp_path: Path, lines: list[str], complaint: str
) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(lines), "ascii")
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, f'[api]\napi_keys_file = "{file}"\n')
    assert complaint in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_number_of_keys_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(line_of(str(at), f"n{at}") for at in range(MOST_KEYS + 5)), "ascii")
    with pytest.raises(ConfigurationError, match=f"more than {MOST_KEYS} keys"):
        load_text(tmp_path, f'[api]\napi_keys_file = "{file}"\n')


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, f'[api]\napi_keys = ["{line_of(SECRET)}"]\n')
    assert line_of(SECRET) not in repr(loaded.settings)
    assert line_of(SECRET) not in "".join(shown(key, value) for key, value, _ in effective(loaded))
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, f'[api]\napi_keys = {{ a = "{SECRET}" }}\napi_key = "{SECRET}"\n')
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "password", [SECRET, "pass@word", "pass/word", "/@:/?#", "two words", "a://b", "l\nf"]
)
def test_credentials_in_a_uri_are_masked(password: str) -> None:
    uri = f"http://me:{password}@registry"
    assert shown("uri", uri) == "'http://********@registry'"
    assert shown("uris", ["http://first", uri]) == "['http://first', 'http://********@registry']"
    assert shown("registries", ({"uri": uri},)) == "({'uri': 'http://********@registry'},)"


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    assert shown("uri", "http://host:5000/models") == "'http://host:5000/models'"
    assert shown("uri", "file:///mnt/models@home") == "'file:///mnt/models@home'"
    assert shown("candidates", ["@champion", 1]) == "['@champion', 1]"
    assert shown("token_file", Path("/run/token")) == "'/run/token'"


def test_a_secret_in_a_list_of_tables_is_masked() -> None:
    assert SECRET not in shown("registries", [{"uri": "http://a", "password": SECRET}])


class Registry(Options):
    """Quotes what it refuses, as a stranger's options may."""

    uri: str

    @field_validator("uri")
    @classmethod
    def _refuse(cls, uri: str) -> str:
        raise ValueError(f"cannot use {uri}\nwrite another")


def test_a_complaint_that_quotes_a_uri_is_one_line_without_its_credentials() -> None:
    with pytest.raises(ValidationError) as caught:
        Registry(uri=f"http://me:{SECRET}@registry")
    (mistake,) = explain(caught.value, Registry, "probes.model", lambda _key: "file")
    assert str(mistake) == (
        "file: probes.model.uri = 'http://********@registry': "
        "cannot use http://********@registry write another"
    )


# -- config.toml documents every key

CONFIG = (ROOT / "config.toml").read_text("utf-8")
REST = CONFIG.partition("#[probes.model]\n")[0]
MODEL, _, GPU = CONFIG[len(REST) :].partition("# NVIDIA GPUs")


def uncommented(text: str) -> str:
    """*text* with every key and every table that is commented out put in force."""
    return re.sub(r"^#(?=\[|[a-z_0-9]+ = )", "", text, flags=re.MULTILINE)


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    return {name: info.get_default(call_default_factory=True) for name, info in model.model_fields.items()}


def test_every_key_is_documented_with_its_default() -> None:
    documented = tomllib.loads(uncommented(REST))
    probe = documented.pop("probes")["system"]
    for name, default in keys_of(Settings).items():
        if isinstance(default, BaseModel):
            table = documented.pop(name)
            check_table(type(default), table, f"{name}.")
        elif name != "probes":
            assert_same(documented.pop(name), default, name)
    assert documented == {}, "documented, but no key"
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


def assert_same(documented: Any, default: Any, key: str) -> None:
    """A key without a default is shown with an example, and its comment says that it is off."""
    name = key.rsplit(".", 1)[-1]
    comments = re.findall(rf"^# (.*)\n#{name} = ", REST, re.MULTILINE)
    assert comments, f"{key} has no line that explains it"
    if default is None:
        assert any("off unless set" in line for line in comments), key
    else:
        assert documented == default, key


def test_the_documented_file_is_in_force_as_it_stands() -> None:
    loaded = load(ROOT / "config.toml", {}, {})
    assert loaded.settings == nothing(ROOT).settings
    assert [configured.name for configured in configure(loaded)] == ["system"]


def test_every_key_of_a_model_is_documented_with_its_default_its_unit_and_its_meaning() -> None:
    table = tomllib.loads(uncommented(MODEL))["probes"]["model"]
    schedule = ModelProbe.schedule
    assert (table.pop("interval"), table.pop("timeout")) == (
        f"{schedule.interval:g}s",
        f"{schedule.timeout:g}s",
    )
    assert (table.pop("fail_after"), table.pop("recover_after")) == (
        schedule.fail_after,
        schedule.recover_after,
    )
    made = ModelOptions(**table)
    check_explained(made, set(table))
    check_explained(made.prediction, set(table["prediction"]))
    check_explained(made.canary, set(table["canary"]))
    check_explained(made.registries[0], {key for registry in table["registries"] for key in registry})


def test_every_key_of_the_gpu_probe_is_documented_with_its_default_its_unit_and_its_reason() -> None:
    table = tomllib.loads(uncommented("# NVIDIA GPUs" + GPU))["probes"]["gpu"]
    assert table.pop("timeout") == f"{GpuProbe.schedule.timeout:g}s"
    assert table.pop("fail_after") == GpuProbe.schedule.fail_after
    assert set(table) == set(GpuOptions.model_fields)
    made = GpuOptions(**table)
    for key, info in GpuOptions.model_fields.items():
        extra, default = info.json_schema_extra, info.get_default(call_default_factory=True)
        assert isinstance(extra, dict)
        note = "; off unless set" if default is None else ""
        assert f"# {extra['unit']}{note}: {info.description}\n#{key} = " in GPU, key
        if default is not None:
            assert getattr(made, key) == default, key


def check_explained(made: BaseModel, documented: set[str]) -> None:
    """Each key of *made* is *documented* below its unit and meaning, and with its default if it has one."""
    fields = type(made).model_fields
    assert documented == set(fields)
    for key, info in fields.items():
        extra, default = info.json_schema_extra, info.get_default(call_default_factory=True)
        assert isinstance(extra, dict)
        note = "; required" if info.is_required() else "; off unless set" if default is None else ""
        comment = f"# {extra['unit']}{note}: {info.description}\n"
        assert re.search(rf"^{re.escape(comment)}#({key} = |\[+probes\.model\.{key}\])", MODEL, re.M), key
        if default and not info.is_required() and not isinstance(default, BaseModel):
            assert getattr(made, key) == default, key


def test_the_documented_model_is_in_force_once_the_marks_are_taken_away(tmp_path: Path) -> None:
    (configured,) = configure(load_text(tmp_path, uncommented(MODEL)))
    assert isinstance(configured.options, ModelOptions)
    assert [registry.label for registry in configured.options.registries] == [
        "https://mlflow.example",
        "https://mlflow-2.example",
    ]


DEEP = {
    "a table": "[" + ".".join(["a"] * 5000) + "]\n",
    "a key": "[probes.system]\n" + ".".join(["a"] * 5000) + " = 1\n",
    "a list": "a = " + "[" * 200 + "]" * 200 + "\n",
    "a list that is no TOML any more": "a = " + "[" * 50_000 + "]" * 50_000 + "\n",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_nests_deeper_than_anybody_needs_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"nests more than 32|not TOML") as error:
        load(path, {}, {})
    assert len(error.value.mistakes) == 1


@pytest.mark.parametrize("depth", [200, 100_000])
def test_a_variable_that_nests_too_deep_is_a_mistake(depth: int, tmp_path: Path) -> None:
    variables = {"MLOPSD_API__CORS_ORIGINS": "[" * depth + "]" * depth}
    with pytest.raises(ConfigurationError):
        load(None, {}, variables, tmp_path / "none")
