"""The versions whose files are on this host's disk, whole: the current one and the one before.

Below the probe's state folder::

    models/MODEL/VERSION-ID/            the files of a version
    models/MODEL/VERSION-ID.json        its manifest; without it the folder counts for nothing
    models/MODEL/VERSION-ID.part/       files that are being fetched
    models/MODEL/order.json             which version is the current one, and which was before

Every change is one rename, so that whatever ends the daemon leaves the old state or the new. All
functions block; each may be called from any thread.
"""

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from mlopsd_probes.model.version import File, Kept, Version

PART, ASIDE, WRITING = ".part", ".aside", ".writing"  # what a killed daemon leaves behind
MANIFEST = ".json"
ORDER = f"order{MANIFEST}"
LONGEST_NAME = 120  # characters; a file system takes 255 bytes
CURES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EROFS: "mount it writable, or set state_dir",
    errno.EACCES: "make it writable for the daemon's user",
    errno.EPERM: "make it writable for the daemon's user",
}


class StoreError(Exception):
    """The disk will not have it: "cannot X: cause; cure"."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is on disk.

    Attributes:
        current: the version that was chosen last.
        previous: the one that was chosen before it.
        others: whole, but never chosen.
        broken: what was found and is of no use, and why; it has been removed.
    """

    current: Kept | None = None
    previous: Kept | None = None
    others: tuple[Kept, ...] = ()
    broken: tuple[str, ...] = ()

    def without(self, kept: Kept) -> "Shelf":
        """This shelf after the version of *kept* is gone."""
        gone = kept.version.id
        return replace(
            self,
            current=None if self.current is not None and self.current.version.id == gone else self.current,
            previous=None
            if self.previous is not None and self.previous.version.id == gone
            else self.previous,
            others=tuple(other for other in self.others if other.version.id != gone),
        )


@dataclass(frozen=True, slots=True)
class _Manifest:
    version: Version
    files: tuple[File, ...]
    fetched_at: datetime
    proven: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def kept(self, folder: Path) -> Kept:
        return Kept(self.version, str(folder), self.files, self.proven, self.notes)


@dataclass(frozen=True, slots=True)
class _Order:
    current: str | None = None
    previous: str | None = None


MANIFESTS = TypeAdapter(_Manifest)
ORDERS = TypeAdapter(_Order)


class Store:
    """The versions of *model* below *folder*, an absolute path."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder / "models" / _file_name(model)
        self._lock = threading.RLock()

    def load(self) -> Shelf:
        """What a start finds; what is half-made or broken is removed, and never trusted.

        Of the versions that were never chosen the newest stays.

        Raises:
            StoreError: the folder cannot be used.
        """
        with self._changing("read the cache of models"):
            if not self._folder.is_dir():
                return Shelf()
            self._remove_leftovers()
            found, broken = self._manifests()
            order, trouble = self._order(found)
            unchosen = [name for name in _newest_first(found) if name not in (order.current, order.previous)]
            self._remove_all_but({order.current, order.previous, *unchosen[:1]})
            return Shelf(
                self._kept(order.current, found),
                self._kept(order.previous, found),
                tuple(kept for name in unchosen[:1] if (kept := self._kept(name, found)) is not None),
                (*broken, *trouble),
            )

    def part(self, version: Version) -> Path:
        """A new, empty folder to fetch *version* into.

        Raises:
            StoreError: it cannot be made.
        """
        part = self._path(version, PART)
        with self._changing(f"make room for version {version.number}"):
            _remove(part)
            part.mkdir(0o750, parents=True)
        return part

    def discard(self, version: Version) -> None:
        """Remove what was fetched of *version* and not kept.

        Raises:
            StoreError: it cannot be removed.
        """
        with self._changing(f"remove what was fetched of version {version.number}"):
            _remove(self._path(version, PART))

    def keep(self, version: Version, files: Iterable[File]) -> Kept:
        """What `part` now holds of *version* is whole, and stays.

        Raises:
            StoreError: it cannot be kept.
        """
        part, folder, aside = (self._path(version, end) for end in (PART, "", ASIDE))
        manifest = _Manifest(version, tuple(files), datetime.now(UTC))
        with self._changing(f"keep version {version.number}"):
            for path in (*part.rglob("*"), part):
                _sync(path)
            if folder.exists():  # and was of no use
                _remove(aside)
                folder.rename(aside)
            part.rename(folder)
            self._write(self._path(version, MANIFEST), MANIFESTS.dump_json(manifest))
            _remove(aside)
        return manifest.kept(folder)

    def choose(self, kept: Kept) -> Shelf:
        """*kept* is the current version from now on; what is neither it nor the one before is removed.

        Raises:
            StoreError: that cannot be written down.
        """
        chosen = _file_name(kept.version.id)
        with self._changing(f"choose version {kept.version.number}"):
            found, broken = self._manifests()
            before, _ = self._order(found)
            previous = before.previous if before.current == chosen else before.current
            order = _Order(chosen, previous)
            if order != before:
                self._write(self._folder / ORDER, ORDERS.dump_json(order))
            self._remove_all_but({order.current, order.previous})
        return Shelf(kept, self._kept(previous, found), broken=tuple(broken))

    def note(self, kept: Kept, *, proven: bool | None = None, **notes: Any) -> Kept:
        """*kept* with what was learnt of it; a note that is None is left as it was.

        Raises:
            StoreError: that cannot be written down.
        """
        learnt = {name: value for name, value in notes.items() if value is not None}
        noted = replace(
            kept,
            proven=kept.proven if proven is None else proven,
            notes={**(kept.notes or {}), **learnt},
        )
        path = self._path(kept.version, MANIFEST)
        with self._changing(f"note what was learnt of version {kept.version.number}"):
            manifest = MANIFESTS.validate_json(path.read_bytes())
            manifest = replace(manifest, proven=noted.proven, notes=dict(noted.notes or {}))
            self._write(path, MANIFESTS.dump_json(manifest))
        return noted

    def forget(self, kept: Kept) -> None:
        """Remove *kept*.

        Raises:
            StoreError: it cannot be removed.
        """
        with self._changing(f"remove version {kept.version.number}"):
            self._remove_version(_file_name(kept.version.id))

    def usage(self) -> int:
        """How many bytes all this takes; what vanishes meanwhile counts for nothing."""
        sizes = 0
        for folder, _, names in os.walk(self._folder):
            for name in names:
                try:
                    sizes += (Path(folder) / name).lstat().st_size
                except FileNotFoundError:
                    continue
        return sizes

    def _path(self, version: Version, end: str) -> Path:
        return self._folder / f"{_file_name(version.id)}{end}"

    def _manifests(self) -> tuple[dict[str, _Manifest], list[str]]:
        """Every version that is whole by its name, and what is wrong with the others."""
        found: dict[str, _Manifest] = {}
        broken = []
        for path in sorted(self._folder.glob(f"*{MANIFEST}")):
            if path.name == ORDER:
                continue
            try:
                manifest = MANIFESTS.validate_json(path.read_bytes())
            except ValidationError:
                broken.append(f"{path} is no manifest")
                continue
            name = path.name.removesuffix(MANIFEST)
            if (fault := _fault(self._folder / name, manifest.files)) is not None:
                broken.append(fault)
            else:
                found[name] = manifest
        return found, broken

    def _order(self, found: dict[str, _Manifest]) -> tuple[_Order, list[str]]:
        """The order of what is whole; where it cannot be read, the newest that proved themselves."""
        path = self._folder / ORDER
        try:
            order = ORDERS.validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Order(), []
        except ValidationError:
            proven = [name for name in _newest_first(found) if found[name].proven]
            return _Order(*proven[:2]), [f"{path} is not readable"]
        whole = [name if name in found else None for name in (order.current, order.previous)]
        return _Order(*whole), []

    def _kept(self, name: str | None, found: dict[str, _Manifest]) -> Kept | None:
        return None if name is None or name not in found else found[name].kept(self._folder / name)

    def _remove_leftovers(self) -> None:
        for path in self._folder.iterdir():
            if path.name.endswith((PART, ASIDE, WRITING)):
                _remove(path)

    def _remove_all_but(self, names: set[str | None]) -> None:
        for path in list(self._folder.iterdir()):
            name = path.name.removesuffix(MANIFEST)
            if path.name != ORDER and name not in names and not path.name.endswith(PART):
                self._remove_version(name)

    def _remove_version(self, name: str) -> None:
        """The manifest first: what is left if this is cut short is trusted by nobody."""
        _remove(self._folder / f"{name}{MANIFEST}")
        _remove(self._folder / name)

    def _write(self, path: Path, content: bytes) -> None:
        writing = path.with_name(path.name + WRITING)
        try:
            with writing.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            writing.replace(path)
        except OSError:
            writing.unlink(missing_ok=True)
            raise
        _sync(path.parent)

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """One change at a time; what the disk says is told in an operator's words.

        Raises:
            StoreError: it cannot be done.
        """
        with self._lock:
            try:
                yield
            except OSError as error:
                cure = CURES.get(error.errno or 0, "look at the disk")
                raise StoreError(
                    f"cannot {what} in {self._folder}: {error.strerror or error}; {cure}"
                ) from error


def _file_name(text: str) -> str:
    """*text*, which may be anything, as the name of one file."""
    name = quote(text, safe=" ")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return name


def _fault(folder: Path, files: Iterable[File]) -> str | None:
    """What *files* lack in *folder*, if anything."""
    for file in files:
        path = folder / file.path
        try:
            size = path.lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return f"{path} is missing"
        if size != file.size:
            return f"{path} has {size} bytes instead of {file.size}"
    return None


def _newest_first(found: dict[str, _Manifest]) -> list[str]:
    return sorted(found, key=lambda name: found[name].fetched_at, reverse=True)


def _remove(path: Path) -> None:
    """*path* and what is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have *path* on the disk and not only in memory; a link has nothing of its own."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
