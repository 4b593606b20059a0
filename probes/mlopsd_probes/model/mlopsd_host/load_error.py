"""The reason why a model was not loaded, for an operator."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from . import packages
from .host_fault import host_fault

LONGEST = 300  # characters of an exception's text


class LoadError(Exception):
    """The model was not loaded.

    Attributes:
        kind: ``corrupt``, ``import_error``, ``error``, or a kind of `host_fault`.
        reason: one sentence that names the cause.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def explain(error: BaseException, folder: Path) -> LoadError:
    """Return a failure for *error*, raised by the model's or a library's code while loading *folder*."""
    if isinstance(error, LoadError):
        return error
    if (known := not_of_the_version(error, folder, "load it")) is not None:
        return known
    why = f"loading it raised {type(error).__name__}{_text(error)}"
    if isinstance(error, ImportError):
        return LoadError("import_error", why + _logged_with(folder))
    return LoadError("error", why)


def not_of_the_version(error: BaseException, folder: Path, doing: str) -> LoadError | None:
    """Return the failure if this host is known to be the cause of *error*; None if it is not.

    *doing* is what the host could not do, such as "load it".
    """
    if (fault := host_fault(error)) is not None:
        kind, text = fault
        return LoadError(kind, f"this host could not {doing}: {text}")
    return _missing_module(error, folder)


def _missing_module(error: BaseException, folder: Path) -> LoadError | None:
    """Return the failure if this interpreter lacks a module that *error* names; None if not."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            why = f"it needs the module {cause.name!r}, which {sys.executable} does not have"
            return LoadError("import_error", why + _fix(cause.name, folder))
        # a library that raises its own error does so while it handles the ImportError
        cause = cause.__cause__ or (cause.__context__ if isinstance(cause, ImportError) else None)
    return None


def _fix(name: str, folder: Path) -> str:
    if _is_of_another_version(name):
        return _logged_with(folder)
    own = (
        ""
        if packages.is_required(name, folder)
        else "; if it is the model's own code, log the version with it"
    )
    return f"; install it there, or set python{own}"


def _is_of_another_version(name: str) -> bool:
    """Return whether *name* is a submodule that the installed version of its library lacks."""
    top, _, inner = name.partition(".")
    if top.startswith("_"):
        return True
    try:
        return bool(inner) and find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _logged_with(folder: Path) -> str:
    if not (differing := packages.differences(folder)):
        return ""
    return f"; it was logged with {differing}: set python to an interpreter with these versions"


def _text(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  # a third-party __str__
        return ""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return f": {text}" if text else ""
