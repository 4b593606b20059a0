"""One line on a terminal that says what is going on, and is gone when it is over; else a line a step."""

from types import TracebackType
from typing import Self, TextIO

from mlopsd.cli.terminal.text import harmless, width

ERASE = "\r\x1b[K"
CELLS = 24  # of a bar


class ProgressLine:
    """The last line of *stream*; where that is no terminal, what is worth a line of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""
        self._told = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write(ERASE)
            self._stream.flush()

    def show(self, text: object, plain: str = "") -> None:
        """Put *text* in place of what was there; where that cannot be, *plain* below it, if it is new."""
        if self._stream.isatty():
            self._draw(harmless(text)[: width(self._stream) - 1])
        elif plain and plain != self._told:
            print(harmless(plain), file=self._stream, flush=True)
            self._told = plain

    def _draw(self, line: str) -> None:
        if line != self._shown:
            self._stream.write(ERASE + line)
            self._stream.flush()
            self._shown = line


def bar(ratio: float, cells: int = CELLS) -> str:
    """*ratio*, 0 to 1, as a bar of *cells*: ``[######------]``."""
    full = round(min(max(ratio, 0), 1) * cells)
    return f"[{'#' * full}{'-' * (cells - full)}]"
