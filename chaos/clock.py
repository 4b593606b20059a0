"""The time of day as the daemon and its probes' processes see it; the machine's own stays as it is."""

import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
MOVED = struct.Struct("=q")  # nanoseconds, as clock.c reads it


class Clock:
    """A file in *folder* that says by how much the clock is off, and a library that obeys it."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "clock.so"
        self._file = folder / "clock"
        self._file.write_bytes(MOVED.pack(0))
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("cannot compile the clock: no C compiler; install gcc")
        command = [compiler, "-O2", "-fPIC", "-shared", "-o", str(self._library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), MOVED.size)
        self.moved = 0.0

    def environment(self) -> Mapping[str, str]:
        """Return the environment in which a process and its children see this time."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def move(self, seconds: float) -> None:
        """From now on it is *seconds* later than it is."""
        self._page[:] = MOVED.pack(int(seconds * 1e9))
        self.moved = seconds

    def touch(self, path: Path) -> None:
        """As ``touch`` does in this time."""
        now = time.time() + self.moved
        os.utime(path, (now, now))
