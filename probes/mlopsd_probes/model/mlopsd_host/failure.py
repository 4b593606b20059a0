"""Why a model was not loaded, told so that an operator can act."""

from __future__ import annotations

import sys

LONGEST = 300  # characters of another's words


class Failure(Exception):
    """The model was not loaded.

    Attributes:
        kind: ``corrupt``, ``import_error``, ``out_of_memory``, ``error``.
        reason: one sentence that names the cause.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def explain(error: BaseException) -> Failure:
    """*error*, which the model's or a library's code raised while it loaded, as a failure."""
    if isinstance(error, Failure):
        return error
    if is_out_of_memory(error):
        return Failure("out_of_memory", f"there was not enough memory to load it ({type(error).__name__})")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Failure(
            "import_error", f"it needs the module {error.name!r}, which {sys.executable} does not have"
        )
    kind = "import_error" if isinstance(error, ImportError) else "error"
    return Failure(kind, f"loading it raised {type(error).__name__}{_words(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether *error* says so; the GPU libraries have classes of their own."""
    return isinstance(error, MemoryError) or any(
        "OutOfMemory" in kind.__name__ for kind in type(error).__mro__
    )


def _words(error: BaseException) -> str:
    try:
        words = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  # a stranger's __str__
        return ""
    if len(words) > LONGEST:
        words = words[:LONGEST] + "…"
    return f": {words}" if words else ""
