"""The record of a download beside its folder, with which a later process continues.

It has a JSON array a line: a path with its record, or a path with the start and the end of a range. A line
that a killed process did not finish counts for nothing.
"""

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlopsd.safe_file import open_regular, read_regular

JOURNAL = "journal"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Mark:
    """The SHA-256 of the first *offset* bytes of a file."""

    offset: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One file of the download, as far as it has come.

    Attributes:
        validator: the store's validator of the content.
        boot: the boot of this host in which the bytes were written.
        mark: the last mark. After a power cut only the bytes before it can be compared.
        size: bytes of the complete file.
        sha256: SHA-256 of the complete file.
        stamp: the file's stamp when it was complete.
    """

    validator: str | None = None
    boot: str = ""
    mark: Mark | None = None
    size: int | None = None
    sha256: str | None = None
    stamp: tuple[int, ...] = ()


class Journal:
    """The records of the download into *folder*."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self.boot = BOOT_ID.read_text("ascii").strip()
        self._records: dict[str, Record] = {}
        self._ranges: dict[str, dict[int, int]] = {}
        path = journal_of(folder)
        self._read(path)
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._stream = os.fdopen(open_regular(path, append), "ab", buffering=0)

    def find(self, path: str) -> Record:
        """Return the record of the file *path*, an empty one without any."""
        return self._records.get(path, Record())

    def ranges(self, path: str) -> dict[int, int]:
        """Return the end of each range of the file *path* by its start; empty if it comes in one."""
        return dict(self._ranges.get(path, {}))

    def begin(self, path: str, validator: str) -> None:
        """Note that *path* begins with content of *validator*."""
        self._write(path, Record(validator, self.boot))

    def mark(self, path: str, mark: Mark) -> None:
        """Note the digest of the first bytes of *path*."""
        self._write(path, replace(self.find(path), mark=mark, boot=self.boot))

    def reach(self, path: str, start: int, end: int) -> None:
        """Note that the bytes of *path* from *start* to *end* are on disk."""
        with self._lock:
            self._ranges.setdefault(path, {})[start] = end
            self._append([path, start, end])

    def finish(self, path: str, file: Path, sha256: str) -> None:
        """Note that *path* is complete in *file*."""
        stamp = stamp_of(file)
        done = Record(self.find(path).validator, self.boot, size=stamp[0], sha256=sha256, stamp=stamp)
        self._write(path, done)

    def forget(self, path: str) -> None:
        """Note that nothing of *path* is of use."""
        if path in self._records:
            self._write(path, Record())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, path: str, record: Record) -> None:
        with self._lock:
            self._take(path, record)
            self._append([path, asdict(record)])

    def _append(self, line: list[Any]) -> None:
        if not self._stream.closed:  # the download has failed, and another thread still reads
            self._stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _take(self, path: str, record: Record) -> None:
        self._records[path] = record
        if record.mark is None:  # it begins again, or is complete
            self._ranges.pop(path, None)

    def _read(self, path: Path) -> None:
        try:
            lines = read_regular(path).splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError, TypeError):  # it is not finished
                self._read_line(*json.loads(line))

    def _read_line(self, path: str, start: int | dict[str, Any], end: int | None = None) -> None:
        if isinstance(start, dict):
            self._take(path, _record(**start))
        elif end is not None:
            self._ranges.setdefault(path, {})[start] = end


def journal_of(folder: Path) -> Path:
    """Return the path of the journal of the download into *folder*."""
    return folder.with_name(JOURNAL)


def stamp_of(file: Path) -> tuple[int, ...]:
    """Return size, modification, change and inode of *file*; any write changes one of them."""
    found = os.stat(file, follow_symlinks=False)  # noqa: PTH116  # one call for all of them
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _record(*, mark: dict[str, Any] | None, stamp: list[int], **fields: Any) -> Record:
    return Record(**fields, mark=None if mark is None else Mark(**mark), stamp=tuple(stamp))
