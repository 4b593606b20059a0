"""Values as TOML, with secrets masked."""

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from pydantic import BaseModel, SecretStr

from mlopsd.config.errors import CREDENTIALS_IN_URI, MASK, SECRET_KEY, shown

BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def format_value(key: str, value: object) -> str:
    """Return the *value* of *key* as TOML. `MASK` replaces a secret, and credentials in a URI."""
    if value and not isinstance(value, Mapping | BaseModel) and _is_secret(key, value):
        return f'["{MASK}"]' if isinstance(value, tuple | list) else f'"{MASK}"'
    if isinstance(value, BaseModel):
        return format_value(key, {name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        return _format_table(value)
    if isinstance(value, Sequence | Set) and not isinstance(value, str):
        return f"[{', '.join(format_value(key, item) for item in value if item is not None)}]"
    return _format_scalar(value)


def quote(text: str) -> str:
    """Return *text* as a TOML string; JSON's escapes are TOML's too."""
    return json.dumps(CREDENTIALS_IN_URI.sub(MASK, text), ensure_ascii=False).replace("\x7f", "\\u007f")


def format_key(key: str) -> str:
    """Return *key*, in quotes if TOML needs them."""
    return key if key and set(key) <= BARE else quote(key)


def _is_secret(key: str, value: object) -> bool:
    return isinstance(value, SecretStr) or (bool(SECRET_KEY.search(key)) and shown(key, value) == MASK)


def _format_scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return quote(str(value))


def _format_table(table: Mapping[Any, object]) -> str:
    given = {str(key): item for key, item in table.items() if item is not None}
    pairs = (f"{format_key(key)} = {format_value(key, item)}" for key, item in given.items())
    return f"{{ {', '.join(pairs)} }}"
