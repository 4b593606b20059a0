"""The versions of the model on this host's disk: seen at the start, noted when another version serves."""

import asyncio
from functools import partial

from mlopsd.threads import in_thread
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.cache.files import StoreError, tidy
from mlopsd_probes.model.rollout.context import RolloutContext
from mlopsd_probes.model.rollout.problems import Problems
from mlopsd_probes.model.rollout.tasks import TaskSet
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.version import CachedVersion

OPEN, WRITE = "read the cache", "write the cache"
MISMATCH = "batching_mismatch"  # a note of a version


class CachedVersions:
    """The shelf as it is now, and the store below it; *troubles* is told what the disk refuses.

    Attributes:
        shelf: the versions that are on disk, by all that is known.
        opening: the task of `open`, once it was begun.
    """

    def __init__(
        self, means: RolloutContext, service: ActiveModel, errands: TaskSet, troubles: Problems
    ) -> None:
        self._means = means
        self._service = service
        self._errands = errands
        self._troubles = troubles
        self.shelf = CacheContents()
        self.opening: asyncio.Task[None] | None = None
        self._unwritten: ActiveVersion | None = None  # in service, and not noted on disk yet

    async def open(self) -> None:
        """See once what is on disk, and remove what processes of a daemon that was killed have left."""
        if self.opening is None:
            self.opening = self._errands.start(self._open(), OPEN)
        await asyncio.shield(self.opening)

    def add(self, kept: CachedVersion) -> None:
        """*kept* has come, and need not be fetched again if it is rejected now and tried later."""
        self.shelf = self.shelf.with_fetched(kept)

    def drop(self, kept: CachedVersion) -> None:
        """The files of *kept* are not what was fetched: it is fetched anew."""
        self.shelf = self.shelf.without(kept)

    def owe(self, serving: ActiveVersion) -> None:
        """*serving* is what a start begins with from now on, as soon as `write_down` has noted it."""
        self._unwritten = serving

    async def write_down(self) -> None:
        """Note on disk which version a start begins with; what the disk refuses is tried at each check."""
        await self._write_mismatches()
        serving = self._unwritten
        if serving is None or not self._service.holds(serving.host):
            return
        load_bytes = await serving.host.rss()
        try:
            self.shelf = await in_thread("keep the version", lambda: self._chosen(serving, load_bytes))
        except StoreError as error:
            self._troubles.note(WRITE, str(error))
        else:
            self._unwritten = None
            self._troubles.forget(WRITE, OPEN)

    async def _write_mismatches(self) -> None:
        """Note of which versions joined requests were answered otherwise, which a restart must know."""
        for kept in list(self.shelf):
            is_noted = (kept.notes or {}).get(MISMATCH)
            if is_noted or kept.version.id not in self._means.mismatches:
                continue
            note = partial(self._means.store.note, kept, **{MISMATCH: True})
            try:
                noted = await in_thread("note a mismatch", note)
            except StoreError as error:
                self._troubles.note(WRITE, str(error))
                return
            self.shelf = self.shelf.with_known(noted)

    async def _open(self) -> None:
        if self._service.serving is None:  # else there are folders in use
            scratch = self._means.scratch
            await in_thread("clear up the scratch folder", lambda: tidy(scratch))
        try:
            found = await in_thread("read the model cache", self._means.store.load)
        except StoreError as error:
            self._troubles.note(OPEN, str(error))
            return
        self.shelf = found.ranked(self._means.options)
        self._means.mismatches.update(
            kept.version.id for kept in self.shelf if (kept.notes or {}).get(MISMATCH)
        )
        for reason in found.broken:
            self._means.log.warning("files of a model were of no use", extra={"reason": reason})

    def _chosen(self, serving: ActiveVersion, load_bytes: int | None) -> CacheContents:
        store = self._means.store
        cuda = serving.host.facts.get("cuda")
        return store.choose(store.note(serving.kept, proven=True, load_bytes=load_bytes, cuda=cuda))
