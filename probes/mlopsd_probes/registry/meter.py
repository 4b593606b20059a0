"""The bytes of a download: how many there are, and how they get to the disk."""

import threading
from typing import BinaryIO


class Meter:
    """Counts the bytes of a download; any thread may call it.

    Attributes:
        here: bytes that are in place.
        moved: bytes that came, each time that they came.
        hashed: bytes that were only read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.here = self.moved = self.hashed = 0

    def add(self, *, here: int = 0, moved: int = 0, hashed: int = 0) -> None:
        """Add to each count; *here* may be negative."""
        with self._lock:
            self.here += here
            self.moved += moved
            self.hashed += hashed


def write_all(stream: BinaryIO, chunk: bytes) -> None:
    """Write *chunk* to the unbuffered *stream*; a single write may take only part of it."""
    left = memoryview(chunk)
    while left:
        left = left[stream.write(left) :]
