"""The fault of a registry, of its store, or of the way to them; runs in the registry's process."""

import re
from collections.abc import Iterator
from typing import Any

LONGEST_QUOTE = 140


class Fault(Exception):
    """A fault of a registry, its store, or the connection to them.

    Attributes:
        kind: a kind that `mlopsd_probes.causes.CAUSES` has for ``registry`` or ``fetch``.
        retry_after: the seconds for which the server asks to be left alone; None if it does not ask.
    """

    def __init__(self, kind: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after = retry_after

    def as_answer(self) -> dict[str, Any]:
        """Return the fault as an answer to the daemon."""
        return {"kind": self.kind, "reason": str(self), "retry_after": self.retry_after}


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and its causes, outermost first; MLflow raises without ``from``, requests wraps."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is before for before in seen):
            continue
        seen.append(one)
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def quote(text: str) -> str:
    """Return the `first_line` of *text* in quotes; "" without one."""
    return f'"{line}"' if (line := first_line(text)) else ""


def first_line(text: str) -> str:
    """Return the first line of *text* that is not empty, printable and shortened; "" without one."""
    line = next((plain for line in text.splitlines() if (plain := printable(line))), "")
    return line if len(line) <= LONGEST_QUOTE else line[: LONGEST_QUOTE - 1] + "…"


def printable(text: str) -> str:
    """Return *text* on one line, with a space for each run of characters that cannot be printed."""
    return re.sub(r"\s+", " ", "".join(one if one.isprintable() else " " for one in text)).strip()
