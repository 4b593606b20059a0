"""The cached versions of one model, read once at the start and written when another version serves."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.cache.files import StoreError, tidy
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.version import Version

NOTICEABLE = 1.05  # growth that is worth a write
MISMATCH = "batching_mismatch"  # a note in a version's manifest


@dataclass(frozen=True, slots=True)
class Choice:
    """The version to restore after a restart, and the measurements of its load."""

    kept: CachedVersion
    cuda: bool | None


class CachedVersions:
    """Keeps the contents of the cache in memory and on disk.

    Attributes:
        contents: the versions on disk.
        mismatches: ids of the versions that answered batched requests differently from single ones.
        problem: the last failure of the disk.
    """

    def __init__(
        self, store: Store, options: ModelOptions, log: logging.Logger, mismatches: set[str]
    ) -> None:
        self._store = store
        self._options = options
        self._log = log
        self._choice: Choice | None = None
        self.mismatches = mismatches
        self.contents = CacheContents()
        self.problem: str | None = None

    async def open(self, scratch: Path | None) -> None:
        """Read the cache; empty *scratch*, where a killed daemon left files, unless it is None."""
        if scratch is not None:
            await in_thread("clear up the scratch folder", lambda: tidy(scratch))
        try:
            found = await in_thread("read the model cache", self._store.load)
        except StoreError as error:
            self.problem = str(error)
            return
        self.contents = found.ranked(self._options)
        self.mismatches.update(kept.version.id for kept in self.contents if (kept.notes or {}).get(MISMATCH))
        for reason in found.broken:
            self._log.warning("cache files unusable", extra={"reason": reason})

    def add(self, kept: CachedVersion) -> None:
        """Record that *kept* was fetched, so that a later attempt does not fetch it again."""
        self.contents = self.contents.with_fetched(kept)

    def drop(self, kept: CachedVersion) -> None:
        """Forget *kept*, whose files are corrupt, so that it is fetched again."""
        self.contents = self.contents.without(kept)

    def choose(self, choice: Choice) -> None:
        """Restore *choice* after a restart, once `write` has written it."""
        self._choice = choice

    def is_unwritten(self, version: Version) -> bool:
        """Return whether *version* was chosen, and a restart does not know yet."""
        return self._choice is not None and self._choice.kept.version.id == version.id

    async def write(
        self, served_id: str | None, load_bytes: int | None, gpu_bytes: Mapping[str, int] | None = None
    ) -> None:
        """Note what is not on disk yet; a choice counts only while the version of *served_id* serves.

        Its process has *load_bytes* of memory, and *gpu_bytes* on each GPU.
        """
        try:
            has_written = await self._write_mismatches()
            has_written |= await self._write_peak(served_id, gpu_bytes or {})
            choice = self._choice
            if choice is not None and choice.kept.version.id == served_id:
                self.contents = await in_thread("keep the version", lambda: self._chosen(choice, load_bytes))
                self._choice = None if self._choice is choice else self._choice
                has_written = True
        except StoreError as error:
            self.problem = str(error)
        else:
            self.problem = None if has_written else self.problem

    async def _write_peak(self, served_id: str | None, gpu_bytes: Mapping[str, int]) -> bool:
        """Write the most memory on each GPU if it grew noticeably; return whether it did."""
        kept = next((kept for kept in self.contents if kept.version.id == served_id), None)
        noted = {} if kept is None else (kept.notes or {}).get("gpu_bytes", {})
        grown = {gpu: size for gpu, size in gpu_bytes.items() if size > noted.get(gpu, 0) * NOTICEABLE}
        if kept is None or not grown:
            return False
        note = partial(self._store.note, kept, gpu_bytes={**noted, **grown})
        self.contents = self.contents.with_known(await in_thread("note the GPU memory", note))
        return True

    async def _write_mismatches(self) -> bool:
        """Write the mismatches, which a restart must know; return whether there were new ones."""
        unwritten = [
            kept
            for kept in self.contents
            if kept.version.id in self.mismatches and not (kept.notes or {}).get(MISMATCH)
        ]
        for kept in unwritten:
            note = partial(self._store.note, kept, **{MISMATCH: True})
            self.contents = self.contents.with_known(await in_thread("note a mismatch", note))
        return bool(unwritten)

    def _chosen(self, choice: Choice, load_bytes: int | None) -> CacheContents:
        store = self._store
        noted = store.note(choice.kept, proven=True, load_bytes=load_bytes, cuda=choice.cuda)
        return store.choose(noted)
