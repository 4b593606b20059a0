"""A reload that somebody asked for: to the version that the registry names now, or why not."""

from collections.abc import Awaitable, Callable

from mlopsd.probe import ReloadRefused
from mlopsd_probes.model.cache.versions import CachedVersions
from mlopsd_probes.model.rollout.attempts import Rollouts
from mlopsd_probes.model.rollout.desired import DesiredVersion
from mlopsd_probes.model.serving.active_model import ActiveModel, ActiveVersion
from mlopsd_probes.model.version import Version


class VersionReload:
    """Goes to the wanted version; *resolve* asks the registries, *prove* makes the canary of what serves."""

    def __init__(
        self,
        wish: DesiredVersion,
        service: ActiveModel,
        stock: CachedVersions,
        attempts: Rollouts,
        *,
        resolve: Callable[[], Awaitable[Version | None]],
        prove: Callable[[], Awaitable[None]],
    ) -> None:
        self._wish = wish
        self._service = service
        self._stock = stock
        self._attempts = attempts
        self._resolve = resolve
        self._prove = prove

    async def run(self, *, dry_run: bool, force: bool) -> str:
        """What was done, or with *dry_run* would be; a version that is on its way already is waited for.

        Raises:
            Refused: it is not done, and why.
        """
        await self._stock.open()
        if self._attempts.are_under_way and dry_run:
            progress = self._attempts.progress
            raise ReloadRefused(progress.sentence() if progress else "a version is on its way")
        await self._attempts.arrive()
        found = await self._resolve()
        await self._attempts.arrive()  # what a check has set out for meanwhile
        wanted = self._wanted(found, force=force)
        serving = self._service.serving
        stays = self._service.serves(wanted) and not force
        if serving is not None and stays and not serving.is_outdated:
            return await self._prove_again(serving, found, dry_run=dry_run)
        obstacle = await self._attempts.find_obstacle(wanted)
        if obstacle is not None and not force:
            raise ReloadRefused(
                f"version {wanted.number} is not taken up: {obstacle}; ?force=true does it anyway"
            )
        if dry_run:
            return await self._attempts.rehearse(wanted)
        self._attempts.refusals.pardon(wanted)
        if self._attempts.are_under_way:
            raise ReloadRefused("a version is on its way; ask again")
        return await self._attempts.take(wanted)

    def _wanted(self, found: Version | None, *, force: bool) -> Version:
        """The version that this is about, of which the registries named *found*.

        Raises:
            Refused: they named none, and nothing that was named before is to be taken up.
        """
        if found is not None and self._wish.desired is not None:
            return self._wish.desired
        if (serving := self._service.serving) is not None:
            known = serving.kept.version if force else None
        else:
            known = self._wish.desired or self._attempts.restart.first_of(self._stock.shelf)
        if known is None:
            raise ReloadRefused(f"no registry names a version: {self._wish.complaint_text()}")
        return known

    async def _prove_again(self, serving: ActiveVersion, found: Version | None, *, dry_run: bool) -> str:
        number = serving.kept.version.number
        said = f"version {number} serves and is what the registry names"
        if found is not None and self._wish.held_back is not None:
            said = (
                f"version {number} serves and stays: {found.candidate} is a fallback, version {found.number}"
            )
        if dry_run:
            return f"{said}; it would prove itself again"
        await self._prove()
        after = self._service.serving
        if after is None or not after.canary.passed:
            why = after.canary.reason if after is not None else "its host is gone"
            raise ReloadRefused(f"{said}, but it failed its canary: {why}")
        return f"{said}; it proved itself again"
