"""The variables ``MLOPSD_<TABLE>__<KEY>``: the keys that they set, and those that name no key."""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from mlopsd.config.errors import ConfigIssue, nearest
from mlopsd.config.schema import Settings
from mlopsd.config.sources import ENVIRONMENT, PREFIX, Tree

CONFIG_VARIABLE = f"{PREFIX}CONFIG"  # names the file


class _Environment(EnvSettingsSource):
    """The variables as nested tables; a value that is no JSON stays text."""

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
    """Yield an issue for each ``MLOPSD_*`` variable, in any case, that names no key.

    Pydantic-settings passes over such a variable in silence, and takes one in small letters for ours.
    """
    for name in sorted(variables):
        if name.upper().startswith(PREFIX) and not _is_known(name):
            yield ConfigIssue(name, f"no such variable; {_hint(name.upper())}", None, ENVIRONMENT)


def _hint(variable: str) -> str:
    if variable.startswith(f"{PREFIX}PROBES") and not _is_known(variable):
        return f"write {PREFIX}PROBES__NAME__KEY"
    return nearest(variable, [variable] if _is_known(variable) else _known_variables())


def _is_known(variable: str) -> bool:
    return variable.startswith(PREFIX) and (variable in _known_variables() or _names_a_probe(variable))


def _known_variables() -> list[str]:
    return [*_variables(Settings, PREFIX), CONFIG_VARIABLE]


def _names_a_probe(variable: str) -> bool:
    """Return true for ``MLOPSD_PROBES__NAME__KEY``; the probe's own model validates the key."""
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
