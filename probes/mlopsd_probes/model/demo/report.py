"""The report of the training to its parent process: JSON lines, without any output of libraries."""

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class Report:
    """Writes JSON lines to standard output; all other prints go to standard error."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def begin(self, step: str) -> None:
        """Report the *step* that begins."""
        self._write({"step": step})

    def end(self, version: str, metrics: Mapping[str, float] | None = None) -> None:
        """Report the champion *version*, and its *metrics* if it is new."""
        self._write({"version": version, "metrics": metrics})

    def fail(self, reason: object) -> None:
        """Report the *reason* of a failure."""
        self._write({"failed": " ".join(str(reason).split())})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps(line) + "\n")


def die_with_parent() -> None:
    """End this process as soon as the other end of its standard input is closed."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(1)

    threading.Thread(target=wait, name="wait for the parent's end", daemon=True).start()
