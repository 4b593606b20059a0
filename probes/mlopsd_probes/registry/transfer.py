"""The transfer of single files into a folder: each goes on where it broke off, also in a later process."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.journal import Journal, Mark, stamp_of
from mlopsd_probes.registry.meter import Meter, write_all
from mlopsd_probes.registry.ranges import LARGE, RangedTransfer
from mlopsd_probes.registry.reuse import CachedFiles
from mlopsd_probes.registry.stores import CHUNK, ContinuableStore, LocalStore, OpenFile, S3Store

if TYPE_CHECKING:
    from hashlib import _Hash

MARK_EVERY = 64 * CHUNK  # bytes; a power cut costs at most so many
SMALL = 256 * 1024  # bytes; a smaller file starts again
MOST_EXTRA = 64 * CHUNK  # bytes beyond the listed size; an endless answer would fill the disk
FILE_WORTH = 100_000  # bytes that a complete file counts as at least, since each costs a request


@dataclass(slots=True)
class _Part:
    """The bytes of a file that are on disk, and their digest."""

    path: str
    offset: int = 0
    validator: str | None = None
    digest: "_Hash" = field(default_factory=hashlib.sha256)
    listed: int | None = None

    @property
    def is_endless(self) -> bool:
        return self.listed is not None and self.offset > self.listed + MOST_EXTRA


class Transfer:
    """The transfer of files of *repository* into *folder*.

    *store* reads it; None if only MLflow's own client can. *cached* has the files of other versions. At most
    *at_a_time* files or ranges of large files are on their way.
    """

    def __init__(
        self,
        repository: ArtifactRepository,
        store: ContinuableStore | None,
        folder: Path,
        cached: CachedFiles,
        meter: Meter,
        *,
        at_a_time: int,
    ) -> None:
        self._repository = repository
        self._store = store
        self._folder = folder
        self._cached = cached
        self._journal = Journal(folder)
        self._meter = meter
        self._slots = threading.BoundedSemaphore(at_a_time)
        self._ranged = (
            RangedTransfer(store, self._journal, meter, self._slots, at_a_time=at_a_time)
            if isinstance(store, S3Store)
            else None
        )
        self._whole: set[Path] = set()  # files that MLflow's client is writing
        self._cloned: set[str] = set()  # files that are complete, and were not read yet

    def prepare(self, file: FileInfo) -> None:
        """Take *file* from this host if that needs neither a transfer nor room: as a link, or as a clone.

        A file of which something is there already is left as it is.
        """
        path = self._folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        if isinstance(self._store, LocalStore) and self._store.clone(file.path, path):
            self._cloned.add(file.path)
        elif isinstance(self._store, S3Store):
            self._link(self._store, file, path)

    def fetch(self, file: FileInfo) -> tuple[str, int, str]:
        """Fetch *file*, or the rest of it; return path, size and SHA-256."""
        path = self._folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if (known := self._finished(file, path)) is not None:
            return file.path, path.stat().st_size, known
        digest = self._in_ranges(file, path)
        if digest is None:
            with self._slots:
                digest = self._in_one(file, path)
        self._journal.finish(file.path, path, digest)
        size = path.stat().st_size
        self._meter.add(moved=max(FILE_WORTH - size, 0))
        return file.path, size, digest

    def _in_ranges(self, file: FileInfo, path: Path) -> str | None:
        """Return the digest of *file* once it has come in ranges; None if it cannot."""
        size = file.file_size
        if self._ranged is None or size is None or size <= LARGE:
            return None
        return self._ranged.receive(file.path, size, path)

    def _in_one(self, file: FileInfo, path: Path) -> str:
        return self._fetched_whole(file, path) if self._store is None else self._received(file, path)

    def forget(self, file: FileInfo) -> None:
        """Remove what came of *file*."""
        path = self._folder / file.path
        if path.exists():
            self._meter.add(here=-path.stat().st_size)
            path.unlink()
        self._journal.forget(file.path)
        self._cloned.discard(file.path)

    def size_of(self, file: FileInfo, aside: Path) -> int:
        """Return the size with which *file* comes now; *aside* is a path for it."""
        if self._store is not None:
            return sum(map(len, self._store.open(file.path).chunks))
        self._repository._download_file(file.path, str(aside))  # type: ignore[no-untyped-call]  # noqa: SLF001  # see below
        return aside.stat().st_size

    def unseen(self) -> int:
        """Return the bytes that MLflow's own client has written so far."""
        return sum(map(_written, list(self._whole)))

    def here(self, files: list[FileInfo]) -> int:
        """Return the bytes of *files* that earlier attempts left."""
        return sum(
            min(_written(self._folder / file.path), file.file_size or 0)
            for file in files
            if (self._folder / file.path).is_file()
        )

    def close(self) -> None:
        """Close the journal, and end what is still on its way."""
        if self._ranged is not None:
            self._ranged.close()
        self._journal.close()

    def _link(self, store: S3Store, file: FileInfo, path: Path) -> None:
        """Link *file* if a cached version has the content that *store* names."""
        size = file.file_size
        if size is None or not self._cached.may_have(size):
            return
        try:
            digest = store.digest(file.path)
        except Exception:  # noqa: BLE001  # a store's client may raise anything; the file itself is asked for next
            return
        if digest is None:
            return
        self._journal.forget(file.path)  # a killed process must not leave a link as a part of a download
        found = self._cached.link(path, size, digest, lambda read: self._meter.add(hashed=read))
        if found is not None:
            self._journal.finish(file.path, path, found)

    def _finished(self, file: FileInfo, path: Path) -> str | None:
        """Return the digest of *file* if an earlier attempt completed it, and the disk still has that."""
        record = self._journal.find(file.path)
        if record.sha256 is None or file.file_size not in (record.size, None) or not path.is_file():
            return None
        size = path.stat().st_size
        is_untouched = record.boot == self._journal.boot and record.stamp == stamp_of(path)
        if not is_untouched and (size != record.size or self._digest(path) != record.sha256):
            return None
        self._meter.add(here=size)
        return record.sha256

    def _received(self, file: FileInfo, path: Path) -> str:
        """Return the digest of *file* once it is complete; after a break go on while bytes come."""
        if file.path in self._cloned:
            return self._digest(path, is_new=True)
        part = self._resumed(file, path)
        self._meter.add(here=part.offset)
        if part.offset and part.offset == file.file_size:
            return part.digest.hexdigest()
        while True:
            before = part.offset
            try:
                self._receive(part, path)
            except Exception:  # a store's client may raise anything
                if part.validator is None or part.offset <= before or part.is_endless:
                    self._meter.add(here=-part.offset)
                    raise
            else:
                return part.digest.hexdigest()

    def _receive(self, part: _Part, path: Path) -> None:
        """Receive the rest of *part*, or all of it if its content has changed."""
        assert self._store is not None
        found = self._store.open(part.path, part.offset, part.validator)
        if found.offset != part.offset or part.validator is None:
            self._start_over(part, found)
            path.unlink(missing_ok=True)  # never write into a file that may be linked
        with path.open("r+b" if part.offset else "wb", buffering=0) as stream:
            stream.truncate(part.offset)
            stream.seek(part.offset)
            self._write(part, found, stream)
        if found.size not in (part.offset, None):
            raise Fault("bad_response", "the answer broke off in the middle; check the registry's log")

    def _start_over(self, part: _Part, found: OpenFile) -> None:
        self._meter.add(here=-part.offset)
        part.offset, part.digest, part.validator = 0, hashlib.sha256(), found.validator
        if part.validator is not None and (found.size is None or found.size > SMALL):
            self._journal.begin(part.path, part.validator)

    def _write(self, part: _Part, found: OpenFile, stream: BinaryIO) -> None:
        for chunk in found.chunks:
            write_all(stream, chunk)
            part.digest.update(chunk)
            before, part.offset = part.offset, part.offset + len(chunk)
            self._meter.add(here=len(chunk), moved=len(chunk))
            if part.is_endless:
                text = f"{part.path} has {part.listed} bytes in the listing, and more than {part.offset} came"
                raise Fault("bad_response", f"{text}; check which server answers there")
            if part.validator is not None and before // MARK_EVERY != part.offset // MARK_EVERY:
                self._journal.mark(part.path, Mark(part.offset, part.digest.hexdigest()))

    def _resumed(self, file: FileInfo, path: Path) -> _Part:
        """Return the part of *file* that an earlier process left, as far as it can be trusted.

        After a restart of this host only the bytes up to the last mark count, and only with their digest.
        """
        record, fresh = self._journal.find(file.path), _Part(file.path, listed=file.file_size)
        if record.validator is None or record.sha256 is not None or not path.is_file():
            return fresh
        if self._journal.ranges(file.path):  # it has its full length, with holes
            return fresh
        size, mark = path.stat().st_size, record.mark or Mark(0, "")
        until = size if record.boot == self._journal.boot else mark.offset
        if size < until or size > (file.file_size or size):
            return fresh
        part = _Part(file.path, validator=record.validator, listed=file.file_size)
        for chunk in self._read(path, until, mark.offset):
            part.digest.update(chunk)
            part.offset += len(chunk)
            if part.offset == mark.offset and part.digest.hexdigest() != mark.sha256:
                return fresh
        return part

    def _read(self, path: Path, until: int, stop: int) -> Iterator[bytes]:
        """Yield the first *until* bytes of *path*, with one chunk that ends at *stop*."""
        with path.open("rb", buffering=0) as stream:
            at = 0
            while at < until:
                end = stop if at < stop else until
                if not (chunk := stream.read(min(CHUNK, end - at))):
                    return
                at += len(chunk)
                self._meter.add(hashed=len(chunk))
                yield chunk

    def _fetched_whole(self, file: FileInfo, path: Path) -> str:
        self._whole.add(path)
        try:
            self._repository._download_file(file.path, str(path))  # type: ignore[no-untyped-call]  # noqa: SLF001  # the public one turns an exception into text
        finally:
            self._whole.discard(path)
        size = path.stat().st_size
        self._meter.add(here=size, moved=size)
        return self._digest(path)

    def _digest(self, path: Path, *, is_new: bool = False) -> str:
        """Return the SHA-256 of *path*; if it *is_new*, its bytes count as they are read."""
        digest = hashlib.sha256()
        for chunk in self._read(path, path.stat().st_size, 0):
            digest.update(chunk)
            self._meter.add(here=len(chunk) if is_new else 0)
        return digest.hexdigest()


def _written(path: Path) -> int:
    """Return the bytes on disk; some stores set a file's full length before they fill it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return min(found.st_size, found.st_blocks * 512)
