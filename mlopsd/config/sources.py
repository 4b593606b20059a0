"""The sources of settings as layers of nested tables, their merge, and the origin of each key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = "environment"  # the name of the layer whose keys are variables
PREFIX = "MLOPSD_"
DEEPEST = 32  # nested tables and lists; their readers may recurse

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """The name of one source and its nested tables."""

    name: str
    tree: Tree


def origin(layers: Sequence[Layer], key: str) -> str:
    """Return the name of the strongest of *layers* that sets *key* or a part of it."""
    for layer in layers:
        if _lookup(layer.tree, key.split(".")):
            return PREFIX + key.upper().replace(".", "__") if layer.name == ENVIRONMENT else layer.name
    return "default"


def is_too_deep(tree: Tree) -> bool:
    """Return whether *tree* nests more than `DEEPEST` tables and lists, without recursion."""
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        level = [item for value in level for item in _items(value)]
    return bool(level)


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """Merge *layers*, the strongest first."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _overlay(merged, layer.tree)
    return merged


def _overlay(below: Tree, above: Tree) -> dict[str, Any]:
    both = {
        key: _overlay(below[key], value)
        for key, value in above.items()
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
    }
    return {**below, **above, **both}


def _lookup(tree: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(tree, Mapping) or part not in tree:
            return isinstance(tree, list)  # an item of a list comes from the same source as the list
        tree = tree[part]
    return True
