"""A process that has pynvml and evaluates what conftest.py asks it, a line of JSON each way."""

import ctypes
import functools
import json
import sys
from typing import Any

import pynvml

ERRORS = {
    number: name.removeprefix("NVML_ERROR_")
    for name, number in vars(pynvml).items()
    if name.startswith("NVML_ERROR_")
}


@functools.singledispatch
def plain(value: Any) -> Any:
    """*value* as JSON can say it: structures as dictionaries, handles as None."""
    return value if isinstance(value, str | int | float | None) else None


@plain.register(ctypes.Structure)
@plain.register(ctypes.Union)
def _(value: Any) -> Any:
    return {name: plain(getattr(value, name)) for name, *_ in value._fields_}


@plain.register(ctypes.Array)
@plain.register(list)
@plain.register(tuple)
def _(value: Any) -> Any:
    return [plain(item) for item in value]


@plain.register
def _(value: dict) -> Any:  # type: ignore[type-arg]
    return {str(key): plain(item) for key, item in value.items()}


@plain.register
def _(value: bytes) -> Any:
    return value.decode()


@plain.register(pynvml.nvmlFriendlyObject)
def _(value: Any) -> Any:
    return vars(value)


@plain.register(ctypes._SimpleCData)
def _(value: Any) -> Any:
    return value.value


def answer(question: str, names: dict[str, Any]) -> Any:
    """The value of an expression, or None of statements."""
    try:
        try:
            code = compile(question, "question", "eval")
        except SyntaxError:
            return exec(question, names)
        return plain(eval(code, names))
    except pynvml.NVMLError as error:
        return {"error": ERRORS[error.value]}


def main() -> None:
    names: dict[str, Any] = {"n": pynvml}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), names)), flush=True)


if __name__ == "__main__":
    main()
