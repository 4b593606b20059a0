"""The public surface of the contract as text: ``python -m tests.surface`` writes ``tests/surface.txt``."""

import enum
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

CONTRACT = ("mlopsd.probe", "mlopsd.predictor", "mlopsd.commands", "mlopsd.testing")
LIST = Path(__file__).with_suffix(".txt")


def surface() -> str:
    """Return a line for each public name, its fields and methods, with types and defaults."""
    return "".join(f"{line}\n" for name in CONTRACT for line in _module(name))


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    for public in module.__all__:
        yield from _lines(f"{name}.{public}", getattr(module, public))


def _lines(name: str, found: Any) -> Iterator[str]:
    if not inspect.isclass(found):
        yield f"{name}{inspect.signature(found)}" if inspect.isfunction(found) else f"{name} = {found!r}"
        return
    yield f"{name}({', '.join(base.__name__ for base in found.__bases__)})"
    if issubclass(found, enum.Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in found)
        return
    yield from (f"{name}.{line}" for line in _fields(found))
    made = "__init__" if Protocol not in found.__bases__ else ""
    for member, value in vars(found).items():
        if member == made or not member.startswith("_"):
            yield from (f"{name}.{line}" for line in _member(member, value))


def _fields(found: type) -> Iterator[str]:
    """Yield the fields of a dataclass or a model in their order, which is that of the arguments."""
    if is_dataclass(found):
        yield from (f"{field.name}: {_type(field.type)}" for field in fields(found))
    elif issubclass(found, BaseModel):
        for key, info in found.model_fields.items():
            yield f"{key}: {_type(info.annotation)} = {info.default!r}"
    else:
        yield from (f"{key}: {_type(kind)}" for key, kind in inspect.get_annotations(found).items())


def _member(name: str, value: Any) -> Iterator[str]:
    plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if isinstance(plain, property):
        yield f"{name} (property)"
    elif inspect.isfunction(plain):
        prefix = "async " if inspect.iscoroutinefunction(plain) else ""
        yield f"{name}: {prefix}def {_signature(plain)}"


def _signature(function: Any) -> str:
    """Return the signature, without the addresses of default functions."""
    shown = inspect.signature(function)
    kept = [_without_address(parameter) for parameter in shown.parameters.values()]
    return str(shown.replace(parameters=kept))


def _without_address(parameter: inspect.Parameter) -> inspect.Parameter:
    is_function = inspect.isfunction(parameter.default)
    return parameter.replace(default=Ellipsis) if is_function else parameter


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


if __name__ == "__main__":
    LIST.write_text(surface(), "utf-8")
