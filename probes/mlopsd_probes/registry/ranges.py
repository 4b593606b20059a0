"""The transfer of a large file in ranges, several at a time; each goes on where it broke off.

The file has its full length from the start on. The journal has how far each range has come. The SHA-256 is
that of the file on disk, read behind the ranges.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.journal import Journal, Mark
from mlopsd_probes.registry.meter import Meter, write_all
from mlopsd_probes.registry.stores import CHUNK, ContentChanged, S3Store

RANGE = 16 * CHUNK
LARGE = 4 * RANGE  # bytes; a smaller file comes in one go
NOTE_EVERY = 8 * CHUNK  # bytes; a killed process costs at most so many of each range
TRIES = 3  # of a file whose content changes while it comes


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file with the content of *validator*, to be received into *target*."""

    path: str
    size: int
    validator: str
    target: Path


@dataclass(slots=True)
class _Range:
    """The bytes from *start* to *stop* of a file; those before *at* are on disk.

    Attributes:
        was_there: an earlier attempt has completed it.
    """

    start: int
    stop: int
    at: int
    was_there: bool = field(init=False)

    def __post_init__(self) -> None:
        self.was_there = self.at == self.stop


class RangedTransfer:
    """The transfer of large files of *store*, *at_a_time* ranges at a time.

    Each range takes one of the *slots*, as every other file does.
    """

    def __init__(
        self,
        store: S3Store,
        journal: Journal,
        meter: Meter,
        slots: threading.BoundedSemaphore,
        *,
        at_a_time: int,
    ) -> None:
        self._store = store
        self._journal = journal
        self._meter = meter
        self._slots = slots
        self._pool = ThreadPoolExecutor(at_a_time)
        self._closed = threading.Event()

    def receive(self, path: str, size: int, target: Path) -> str | None:
        """Return the SHA-256 of the file *path* of *size* bytes once it is in *target*.

        Return None if the store does not give ranges of it. If the content changes, start over.

        Raises:
            Fault: the content changes again and again.
            Exception: any other exception of the store's client.
        """
        for _ in range(TRIES):
            with self._slots:
                validator = self._store.validator(path, size)
            if validator is None:
                return None
            try:
                return self._receive(_Wanted(path, size, validator, target))
            except ContentChanged:
                continue
        raise Fault("bad_response", f"{path} changes while it comes; the store of files is changing")

    def close(self) -> None:
        """End the ranges that are still on their way, each after its next bytes."""
        self._closed.set()
        self._pool.shutdown(wait=False)

    def _receive(self, wanted: _Wanted) -> str:
        ranges = self._resumed(wanted)
        self._meter.add(here=sum(one.at - one.start for one in ranges))
        ended = threading.Event()
        running = [self._pool.submit(self._run, wanted, one, ended) for one in ranges]
        try:
            return self._hashed(wanted, ranges, running)
        except Exception:  # a store's client may raise anything
            ended.set()
            wait(running)
            self._meter.add(here=-sum(one.at - one.start for one in ranges))
            raise

    def _hashed(self, wanted: _Wanted, ranges: Sequence[_Range], running: Sequence[Future[None]]) -> str:
        """Return the SHA-256 of the file; read each range once it is there."""
        digest = hashlib.sha256()
        with wanted.target.open("rb", buffering=0) as stream:
            for one, future in zip(ranges, running, strict=True):
                future.result()
                if one.at < one.stop:
                    raise _first_error(running)
                for chunk in _read(stream, one.stop - one.start):
                    digest.update(chunk)
                    self._meter.add(hashed=len(chunk) if one.was_there else 0)
                self._journal.mark(wanted.path, Mark(one.stop, digest.hexdigest()))
        return digest.hexdigest()

    def _run(self, wanted: _Wanted, one: _Range, ended: threading.Event) -> None:
        """Receive *one*, and after a break go on while bytes come; stop once *ended* is set."""
        if one.was_there:
            return
        try:
            with self._slots:
                while one.at < one.stop and not (ended.is_set() or self._closed.is_set()):
                    self._go_on(wanted, one, ended)
        except Exception:  # a store's client may raise anything
            ended.set()
            raise
        finally:
            self._journal.reach(wanted.path, one.start, one.at)

    def _go_on(self, wanted: _Wanted, one: _Range, ended: threading.Event) -> None:
        before = one.at
        try:
            self._stream(wanted, one, ended)
        except ContentChanged:
            raise
        except Exception:  # a store's client may raise anything
            if one.at == before:
                raise
            return
        if one.at == before and not ended.is_set():
            raise Fault("bad_response", "the answer broke off in the middle; check the store of files")

    def _stream(self, wanted: _Wanted, one: _Range, ended: threading.Event) -> None:
        asked = self._store.range(wanted.path, one.at, one.stop, wanted.validator)
        with closing(asked) as chunks, wanted.target.open("r+b", buffering=0) as stream:
            stream.seek(one.at)
            for chunk in chunks:
                write_all(stream, chunk)
                before, one.at = one.at, one.at + len(chunk)
                self._meter.add(here=len(chunk), moved=len(chunk))
                if before // NOTE_EVERY != one.at // NOTE_EVERY:
                    self._journal.reach(wanted.path, one.start, one.at)
                if ended.is_set() or self._closed.is_set():
                    return

    def _resumed(self, wanted: _Wanted) -> list[_Range]:
        """Return all ranges, with the bytes that an earlier attempt left as far as they can be trusted."""
        path, target = wanted.path, wanted.target
        record, known = self._journal.find(path), self._journal.ranges(path)
        is_same = record.validator == wanted.validator and record.sha256 is None
        if not (known and is_same and target.is_file() and target.stat().st_size == wanted.size):
            known = self._start_over(wanted)
        elif record.boot != self._journal.boot:
            known = self._compared(wanted, record.mark) or self._start_over(wanted)
        starts = range(0, wanted.size, RANGE)
        return [_Range(at, min(at + RANGE, wanted.size), known.get(at, at)) for at in starts]

    def _start_over(self, wanted: _Wanted) -> dict[int, int]:
        wanted.target.unlink(missing_ok=True)  # never write into a file that may be linked
        self._journal.begin(wanted.path, wanted.validator)
        self._journal.reach(wanted.path, 0, 0)  # before the file looks complete
        with wanted.target.open("xb") as stream:
            stream.truncate(wanted.size)
        return {}

    def _compared(self, wanted: _Wanted, mark: Mark | None) -> dict[int, int]:
        """Return the ranges before *mark* after a restart of this host, if their digest is the noted one."""
        if mark is None:
            return {}
        digest = hashlib.sha256()
        with wanted.target.open("rb", buffering=0) as stream:
            for chunk in _read(stream, mark.offset):
                digest.update(chunk)
                self._meter.add(hashed=len(chunk))
        if digest.hexdigest() != mark.sha256:
            return {}
        self._journal.begin(wanted.path, wanted.validator)
        known = {start: min(start + RANGE, mark.offset) for start in range(0, mark.offset, RANGE)}
        for start, end in known.items():
            self._journal.reach(wanted.path, start, end)
        self._journal.mark(wanted.path, mark)
        return known


def _first_error(running: Iterable[Future[None]]) -> BaseException:
    """Return why ranges have ended; without an error because the whole download has."""
    errors = (future.exception() for future in running)
    return next((error for error in errors if error is not None), Fault("other", "the download has ended"))


def _read(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next *size* bytes of *stream*."""
    while size > 0 and (chunk := stream.read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk
