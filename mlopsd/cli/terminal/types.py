"""The type of an option in the operator's words."""

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


def kind(annotation: Any) -> str:
    """*annotation* as ``text``, ``list of path``, ``"a" or "b"``, ``table`` …"""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0])
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(kind(argument) for argument in arguments if argument is not NoneType)
    plain = origin or annotation
    if isinstance(plain, type) and plain not in WORDS:
        return _collection(plain, arguments)
    return WORDS.get(plain, str(plain))


def _collection(plain: type, arguments: tuple[Any, ...]) -> str:
    if issubclass(plain, Mapping | BaseModel):
        return "table"
    if issubclass(plain, Sequence | Set) and arguments:
        return f"list of {kind(arguments[0])}"
    return plain.__name__
