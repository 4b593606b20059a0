"""Load the settings from defaults, file, variables ``MLOPSD_<TABLE>__<KEY>`` and command line."""

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from mlopsd.config.api_keys import ApiKey, parse_lines
from mlopsd.config.errors import SECRET_KEY, ConfigIssue, ConfigurationError, explain, nearest
from mlopsd.config.schema import Api, ProbeTable, Settings
from mlopsd.config.sources import DEEPEST, ENVIRONMENT, PREFIX, Layer, Tree, is_too_deep, merge, origin
from mlopsd.safe_file import read_start

DEFAULT_PATH = Path("/etc/mlopsd/config.toml")
EMBEDDED: Mapping[str, Any] = {"probes": {"system": {}}}  # without a file: only this host is watched
MOST_KEY_BYTES = 1_000_000
CONFIG_VARIABLE = f"{PREFIX}CONFIG"  # names the file


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The effective settings and their origins.

    Attributes:
        settings: The merged and validated settings.
        path: The file that was read, or None.
        layers: The sources, the strongest first.
        api_keys: The keys of the configuration and of ``api_keys_file`` together.
    """

    settings: Settings
    path: Path | None
    layers: tuple[Layer, ...]
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)

    def origin(self, key: str) -> str:
        """Return the source that set *key* (``api.port``): a path, a variable, an option, or ``default``."""
        return origin(self.layers, key)


class BadTables(ConfigurationError):
    """The error of invalid tables.

    Attributes:
        rest: The valid tables. Use it only to find and report further issues, never to run.
    """

    def __init__(self, mistakes: Iterable[ConfigIssue], rest: LoadedConfig) -> None:
        super().__init__(mistakes)
        self.rest = rest


def load(
    config: Path | None = None,
    arguments: Tree | None = None,
    environment: Mapping[str, str] | None = None,
    default_path: Path = DEFAULT_PATH,
) -> LoadedConfig:
    """Load the settings from all their sources.

    Args:
        config: The file of ``--config``.
        arguments: The other command line options, as nested tables.
        environment: The environment variables; defaults to those of the process.
        default_path: The file to read if neither *config* nor ``MLOPSD_CONFIG`` names one.

    Raises:
        BadTables: Some tables are invalid, with one issue for each error.
        ConfigurationError: The file cannot be read, or it is not TOML.
    """
    variables = os.environ if environment is None else environment
    path = _choose_file(config, variables, default_path)
    layers = (
        Layer("command line", arguments or {}),
        Layer(ENVIRONMENT, from_environment(variables)),
        Layer(str(path), read_toml(path)) if path else Layer("default", EMBEDDED),
    )
    if deep := [layer.name for layer in layers if is_too_deep(layer.tree)]:
        complaint = f"nests more than {DEEPEST} tables and lists; remove the nesting that no key needs"
        raise ConfigurationError([ConfigIssue(name, complaint) for name in deep])
    settings, bad = _validate(layers)
    keys, unreadable = _all_keys(settings.api)
    loaded = LoadedConfig(settings, path, layers, keys)
    if mistakes := [*unknown_variables(variables), *bad, *unreadable]:
        raise BadTables(mistakes, loaded)
    return loaded


def _validate(layers: Sequence[Layer]) -> tuple[Settings, list[ConfigIssue]]:
    """Merge and validate *layers*. If there are issues, return only the valid tables of probes, and them."""
    tree = merge(layers)
    try:
        return Settings(**tree), []
    except ValidationError as error:
        rest: dict[str, Any] = {"probes": _without(tree.get("probes"), error)}
        return Settings(**rest), explain(error, Settings, "", lambda key: origin(layers, key))


def _without(probes: object, error: ValidationError) -> dict[str, Any]:
    """Return the tables among *probes* that *error* does not name."""
    bad = {detail["loc"][:2] for detail in error.errors()}
    tables = probes if isinstance(probes, Mapping) else {}
    return {name: table for name, table in tables.items() if ("probes", name) not in bad}


def _all_keys(api: Api) -> tuple[tuple[ApiKey, ...], list[ConfigIssue]]:
    """Return the keys of the table and of its file, and their issues."""
    try:
        keys, complaints = read_keys(api)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        keys, complaints = (), [f"cannot read it: {reason}; create it, readable by the daemon, or remove it"]
    key, value = ("api_keys_file", repr(str(api.api_keys_file))) if api.api_keys_file else ("api_keys", None)
    return keys, [ConfigIssue(f"api.{key}", complaint, value) for complaint in complaints]


def warnings(loaded: LoadedConfig) -> Iterator[ConfigIssue]:
    """Yield the warnings about a valid configuration."""
    for path in secret_files(loaded):
        if path != loaded.path and _is_for_everybody(path):
            fix = "remove that permission: chmod o-r"
            yield ConfigIssue(str(path), f"every user of this host may read the secret in it; {fix}")
    if not any(table.enabled for table in loaded.settings.probes.values()):
        fix = "add a table [probes.NAME], for example [probes.system]"
        yield ConfigIssue("probes", f"nothing is watched, so the verdict stays unknown; {fix}")


def secret_files(loaded: LoadedConfig) -> tuple[Path, ...]:
    """Return the files with secrets: the configuration, the key of TLS, and what a key ``…_file`` names."""
    api = loaded.settings.api
    named = [api.api_keys_file, api.tls_key or api.tls_cert, *_named_files(_probes_own(loaded.settings))]
    return tuple(path for path in (loaded.path, *named) if path is not None)


def _probes_own(settings: Settings) -> list[Any]:
    return [table.own for table in settings.probes.values()]


def _named_files(value: Any) -> Iterator[Path]:
    """Yield the secret files that *value*, a table or a list, names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if SECRET_KEY.search(key) and key.endswith("_file") and isinstance(item, str):
                yield Path(item)
            yield from _named_files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _named_files(item)


def _is_for_everybody(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def read_toml(path: Path) -> Tree:
    """Read the tables of the file at *path*.

    Raises:
        ConfigurationError: The file is missing, unreadable, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        fix = f"{'create it' if missing else 'let this user read it'} or name another with --config"
        raise ConfigurationError(
            [ConfigIssue(str(path), f"cannot read the configuration: {error.strerror}; {fix}")]
        ) from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # a syntax error, a number of 5 000 digits, or too deep a nesting
        raise ConfigurationError(
            [ConfigIssue(str(path), f"not TOML: {error}; correct that place")]
        ) from error


def read_keys(api: Api) -> tuple[tuple[ApiKey, ...], list[str]]:
    """Return the keys of the table and of its file, and a complaint for each line that is none.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not text.
    """
    of_table = [line.get_secret_value() for line in api.api_keys]
    path = api.api_keys_file
    of_file = read_start(path, MOST_KEY_BYTES).decode("utf-8").splitlines() if path is not None else []
    return parse_lines([*of_file, *of_table])


def _choose_file(config: Path | None, variables: Mapping[str, str], default_path: Path) -> Path | None:
    if config is not None:
        return config.absolute()
    if named := variables.get(CONFIG_VARIABLE):
        return Path(named).absolute()
    return default_path if _may_be_there(default_path) else None


def _may_be_there(path: Path) -> bool:
    """Return whether *path* exists or may exist: if the folder is unreadable, a later read reports that."""
    try:
        return path.exists()
    except PermissionError:
        return True


def effective(loaded: LoadedConfig) -> Iterator[tuple[str, Any, str]]:
    """Yield each effective key with its value and its origin, in the order of the schema."""
    yield from _leaves(loaded, loaded.settings, "")


def _leaves(loaded: LoadedConfig, model: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    values = {name: getattr(model, name) for name in type(model).model_fields}
    if isinstance(model, ProbeTable):
        values |= model.own
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _leaves(loaded, value, f"{key}.")
        elif key == "probes":
            for probe, table in value.items():
                yield from _leaves(loaded, table, f"probes.{probe}.")
        else:
            yield key, value, loaded.origin(key)


class _Environment(EnvSettingsSource):
    """The variables as nested tables. A value that is not JSON stays text."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def from_environment(variables: Mapping[str, str]) -> Tree:
    """Return *variables* as nested tables."""
    source = _Environment(Settings)
    source.env_vars = {name.lower(): value for name, value in variables.items() if _is_known(name)}
    return source()


def unknown_variables(variables: Mapping[str, str]) -> Iterator[ConfigIssue]:
    """Yield an issue for each ``MLOPSD_*`` variable, in upper or lower case, that names no key.

    Pydantic-settings itself ignores an unknown variable, and accepts one in lower case.
    """
    for name in sorted(variables):
        if name.upper().startswith(PREFIX) and not _is_known(name):
            yield ConfigIssue(name, f"no such variable; {_hint(name.upper())}", None, ENVIRONMENT)


def _hint(variable: str) -> str:
    if variable.startswith(f"{PREFIX}PROBES") and not _is_known(variable):
        return f"write {PREFIX}PROBES__NAME__KEY"
    known = [variable] if _is_known(variable) else _known_variables()
    same_key = [other for other in known if _last(other) == _last(variable)]
    return f"did you mean {' or '.join(map(repr, same_key))}?" if same_key else nearest(variable, known)


def _last(variable: str) -> str:
    """Return the key in the name of *variable*, without its tables."""
    return variable.removeprefix(PREFIX).split("__")[-1]


def _is_known(variable: str) -> bool:
    return variable.startswith(PREFIX) and (variable in _known_variables() or _names_a_probe(variable))


def _known_variables() -> list[str]:
    return [*_variables(Settings, PREFIX), CONFIG_VARIABLE]


def _names_a_probe(variable: str) -> bool:
    """Return whether *variable* is ``MLOPSD_PROBES__NAME__KEY``; the probe's model validates the key."""
    table, *parts = variable.removeprefix(PREFIX).split("__")
    return variable.isupper() and table == "PROBES" and len(parts) > 1 and all(parts)


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        table = _model(info.annotation)
        if table is not None:
            yield from _variables(table, f"{prefix}{name.upper()}__")
        elif name != "probes":
            yield prefix + name.upper()


def _model(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    models = [option for option in options if option is not NoneType and isinstance(option, type)]
    return next((model for model in models if issubclass(model, BaseModel)), None)
