"""One line on a terminal that says what is going on, and is gone when it is over."""

from types import TracebackType
from typing import Self, TextIO

from mlopsd.cli.text import harmless, width

ERASE = "\r\x1b[K"


class Progress:
    """The last line of *stream*; where nobody sees it, nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write(ERASE)
            self._stream.flush()

    def show(self, text: object) -> None:
        """Put *text* in place of what was there."""
        line = harmless(text)[: width(self._stream) - 1]
        if self._stream.isatty() and line != self._shown:
            self._stream.write(ERASE + line)
            self._stream.flush()
            self._shown = line
