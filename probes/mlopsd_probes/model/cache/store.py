"""The complete versions on this host's disk: the current one and the previous one.

Below the probe's state folder::

    models/MODEL/VERSION-ID/            the files of a version
    models/MODEL/VERSION-ID.json        its manifest; a folder without one is ignored
    models/MODEL/VERSION-ID.stamps      the stamps of its files, see `stamps`
    models/MODEL/VERSION-ID.part/       an unfinished download, see `partial`
    models/MODEL/order.json             the current and the previous version

Every change is one rename, so a killed daemon leaves the old state or the new one. All functions block;
each may be called from any thread.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlopsd.safe_file import WRITING, IrregularFile, read_regular, sync, write_atomically
from mlopsd_probes.model.cache import links, stamps
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.cache.files import (
    ASIDE,
    StoreError,
    below,
    file_name,
    remove,
    tidy,
)
from mlopsd_probes.model.cache.partial import FILES, PART, open_part, prune, release
from mlopsd_probes.model.cache.stamps import Stamps
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import File, Version

MANIFEST = ".json"
ORDER = f"order{MANIFEST}"


@dataclass(frozen=True, slots=True)
class _Manifest:
    version: Version
    files: tuple[File, ...]
    fetched_at: datetime
    proven: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def kept(self, folder: Path) -> CachedVersion:
        return CachedVersion(self.version, str(folder), self.files, self.proven, self.notes)


@dataclass(frozen=True, slots=True)
class _Order:
    current: str | None = None
    previous: str | None = None


MANIFESTS = TypeAdapter(_Manifest)
ORDERS = TypeAdapter(_Order)


class Store:
    """The versions of *model* below *folder*, an absolute path."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder / "models" / file_name(model)
        self._lock = threading.RLock()

    def load(self) -> CacheContents:
        """Return the contents at the start; remove incomplete and broken versions.

        Of the versions that were never chosen, keep only the newest.

        Raises:
            StoreError: the folder cannot be used.
        """
        with self._changing("read the cache of models"):
            if not self._folder.is_dir():
                return CacheContents()
            self._remove_leftovers()
            found, broken = self._manifests()
            order, problems = self._order(found)
            unchosen = [name for name in _newest_first(found) if name not in (order.current, order.previous)]
            self._remove_all_but({order.current, order.previous, *unchosen[:1]})
            return CacheContents(
                self._kept(order.current, found),
                self._kept(order.previous, found),
                tuple(kept for name in unchosen[:1] if (kept := self._kept(name, found)) is not None),
                (*broken, *problems),
            )

    def part(self, version: Version, *spared: Version) -> Path:
        """Return the folder to fetch *version* into, with the files of an unfinished download.

        To make room, remove every version that was never chosen and is not *spared*. Also remove the other
        unfinished downloads that are too many, too old or too large.

        Raises:
            StoreError: the folder cannot be made.
        """
        part = self._path(version, PART)
        with self._changing(f"make room for version {version.number}"):
            files = open_part(part)
            order, _ = self._order(self._manifests()[0])
            names = {file_name(one.id) for one in spared}
            self._remove_all_but({order.current, order.previous, *names})
            prune(self._folder, part)
        return files

    def release(self, version: Version) -> None:
        """End a download of *version* that was broken off; keep its files if there are any.

        Raises:
            StoreError: the disk failed.
        """
        part = self._path(version, PART)
        with self._changing(f"remove the partial files of version {version.number}"):
            if part.is_dir():
                release(part)

    def make_room(self, version: Version) -> None:
        """Remove the unfinished downloads of all versions but *version*.

        Raises:
            StoreError: the disk failed.
        """
        with self._changing(f"make room for version {version.number}"):
            prune(self._folder, self._path(version, PART), keep=0)

    def discard(self, version: Version) -> None:
        """Remove the partial files of *version*.

        Raises:
            StoreError: they cannot be removed.
        """
        with self._changing(f"remove the partial files of version {version.number}"):
            remove(self._path(version, PART))

    def keep(self, version: Version, files: Iterable[File]) -> CachedVersion:
        """Keep the folder of `part` as the complete *version*.

        Raises:
            StoreError: the version cannot be kept.
        """
        part, folder, aside = (self._path(version, end) for end in (PART, "", ASIDE))
        fetched = part / FILES
        manifest = _Manifest(version, tuple(files), datetime.now(UTC))
        with self._changing(f"keep version {version.number}"):
            for path in (*below(fetched), fetched):
                sync(path)
            if folder.exists():  # a broken copy, or the version would not have been fetched
                remove(aside)
                folder.rename(aside)
            fetched.rename(folder)
            self._link(version, manifest)
            stamps.save(self._path(version, stamps.SUFFIX), stamps.take(folder, manifest.files))
            write_atomically(self._path(version, MANIFEST), MANIFESTS.dump_json(manifest))
            tidy(part)
            tidy(aside)
        return manifest.kept(folder)

    def stamped(self, kept: CachedVersion) -> tuple[CachedVersion, Stamps]:
        """Return *kept* with its unchanged files, and the stamps of its files now.

        Raises:
            StoreError: the disk failed.
        """
        with self._changing(f"read version {kept.version.number}"):
            now = stamps.take(Path(kept.folder), kept.files)
            before = stamps.load(self._path(kept.version, stamps.SUFFIX))
        return replace(kept, unchanged=now.shared(before)), now

    def compared(self, kept: CachedVersion, when: Stamps) -> None:
        """Note that the files of *kept* were compared, after their stamps were as in *when*.

        Raises:
            StoreError: the note cannot be written.
        """
        with self._changing(f"write the stamps of version {kept.version.number}"):
            stamps.save(self._path(kept.version, stamps.SUFFIX), when)

    def choose(self, kept: CachedVersion) -> CacheContents:
        """Make *kept* the current version; remove all but it and the previous one.

        Raises:
            StoreError: the choice cannot be written.
        """
        chosen = file_name(kept.version.id)
        with self._changing(f"choose version {kept.version.number}"):
            found, broken = self._manifests()
            before, _ = self._order(found)
            previous = before.previous if before.current == chosen else before.current
            order = _Order(chosen, previous)
            if order != before:
                write_atomically(self._folder / ORDER, ORDERS.dump_json(order))
            self._remove_all_but({order.current, order.previous})
        return CacheContents(kept, self._kept(previous, found), broken=tuple(broken))

    def note(self, kept: CachedVersion, *, proven: bool | None = None, **notes: Any) -> CachedVersion:
        """Write *notes* to the manifest of *kept* and return the new record; a note of None changes nothing.

        Raises:
            StoreError: the notes cannot be written.
        """
        learnt = {name: value for name, value in notes.items() if value is not None}
        noted = replace(kept, notes={**(kept.notes or {}), **learnt})
        path = self._path(kept.version, MANIFEST)
        with self._changing(f"write the notes of version {kept.version.number}"):
            manifest = MANIFESTS.validate_json(read_regular(path))
            noted = replace(
                noted,
                proven=manifest.proven if proven is None else proven,
                notes={**manifest.notes, **(noted.notes or {})},
            )
            manifest = replace(manifest, proven=noted.proven, notes=dict(noted.notes or {}))
            write_atomically(path, MANIFESTS.dump_json(manifest))
        return noted

    def _link(self, version: Version, manifest: _Manifest) -> None:
        """Link the files of *version* that another version has with the same digest."""
        for name, other in self._manifests()[0].items():
            if name == file_name(version.id):
                continue
            folder, target = self._folder / name, self._path(version, "")
            before = self._path(other.version, stamps.SUFFIX)
            unchanged = stamps.take(folder, other.files).shared(stamps.load(before))
            unchanged |= links.linked(folder, other.files, target, manifest.files)
            known = [file for file in other.files if file.path in unchanged]
            if links.link_same(folder, known, target, manifest.files):
                now = stamps.take(folder, other.files)  # a link changes the time of the inode
                kept = {path: stamp for path, stamp in now.files.items() if path in unchanged}
                stamps.save(before, Stamps(now.boot, kept))

    def _path(self, version: Version, end: str) -> Path:
        return self._folder / f"{file_name(version.id)}{end}"

    def _manifests(self) -> tuple[dict[str, _Manifest], list[str]]:
        """Return the manifest of each complete version by name, and a sentence for each broken one."""
        found: dict[str, _Manifest] = {}
        broken = []
        for path in sorted(self._folder.glob(f"*{MANIFEST}")):
            if path.name == ORDER:
                continue
            try:
                manifest = MANIFESTS.validate_json(read_regular(path))
            except (ValidationError, IrregularFile):
                broken.append(f"{path} is not a valid manifest")
                continue
            name = path.name.removesuffix(MANIFEST)
            if (fault := _fault(self._folder / name, manifest.files)) is not None:
                broken.append(fault)
            else:
                found[name] = manifest
        return found, broken

    def _order(self, found: dict[str, _Manifest]) -> tuple[_Order, list[str]]:
        """Return the order of the complete versions; if it is unreadable, the newest verified ones."""
        path = self._folder / ORDER
        try:
            order = ORDERS.validate_json(read_regular(path))
        except FileNotFoundError:
            return _Order(), []
        except (ValidationError, IrregularFile):
            proven = [name for name in _newest_first(found) if found[name].proven]
            return _Order(*proven[:2]), [f"cannot read {path}"]
        whole = [name if name in found else None for name in (order.current, order.previous)]
        return _Order(*whole), []

    def _kept(self, name: str | None, found: dict[str, _Manifest]) -> CachedVersion | None:
        return None if name is None or name not in found else found[name].kept(self._folder / name)

    def _remove_leftovers(self) -> None:
        for path in self._folder.iterdir():
            if path.name.endswith((ASIDE, WRITING)):
                tidy(path)
        prune(self._folder)

    def _remove_all_but(self, names: set[str | None]) -> None:
        for path in list(self._folder.iterdir()):
            name = path.name.removesuffix(MANIFEST).removesuffix(stamps.SUFFIX)
            if path.name != ORDER and name not in names and not path.name.endswith(PART):
                self._remove_version(name)

    def _remove_version(self, name: str) -> None:
        """Remove the manifest, then the folder: without a manifest, leftovers of a crash are ignored.

        A file that cannot be removed does not affect other versions.
        """
        if tidy(self._folder / f"{name}{MANIFEST}"):
            tidy(self._folder / name)
            tidy(self._folder / f"{name}{stamps.SUFFIX}")

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """Hold the lock for one change, and turn an `OSError` into a `StoreError`.

        Raises:
            StoreError: the disk failed.
        """
        with self._lock:
            try:
                yield
            except OSError as error:
                raise StoreError.of(what, self._folder, error) from error


def _fault(folder: Path, files: Iterable[File]) -> str | None:
    """Return a sentence on the first of *files* that is missing or incomplete in *folder*, if any."""
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
