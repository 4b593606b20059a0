"""The type of an option in words for operators."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

WORDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
}


def describe_type(annotation: Any) -> str:
    """Return *annotation* as ``text``, ``list of path``, ``"a" or "b"``, ``table`` …"""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(argument) for argument in arguments if argument is not NoneType)
    plain = origin or annotation
    if isinstance(plain, type) and plain not in WORDS:
        return _describe_collection(plain, arguments)
    return WORDS.get(plain, str(plain))


def _describe_collection(plain: type, arguments: tuple[Any, ...]) -> str:
    if issubclass(plain, Mapping | BaseModel):
        return "table"
    if issubclass(plain, Sequence | Set) and arguments:
        return f"list of {describe_type(arguments[0])}"
    return plain.__name__
