"""The registries that name the wanted version, asked in order, each by a process of its own."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.causes import REGISTRY, Cause, Step, cause_of, kinds_of
from mlopsd_probes.registry.client import STOPPED, Answer, ClientProcess, Unanswered
from mlopsd_probes.registry.options import WantedModel
from mlopsd_probes.registry.pace import Pace
from mlopsd_probes.registry.version import File, LoggedMetric, Version

if TYPE_CHECKING:
    from mlopsd_probes.registry.pool import ClientPool

TRIES = 2  # of an HTTP request; both must end before the daemon would kill the process
HEADROOM = 0.5  # seconds
ATTEST_LIMIT = 60.0  # seconds to import model-signing and to verify a signature on a busy machine
KINDS = kinds_of(REGISTRY)
NOT_YET = frozenset({"not_ready", "not_approved"})  # complaints of a version that may be wanted soon
ANSWERS = frozenset({"absent", "dangling", *NOT_YET})  # complaints of a registry that answered
Count = Callable[[str, str, float], None]
OnProgress = Callable[[int, int | None], None]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Complaint:
    """A problem of a registry, in place of an answer or in addition to one.

    Attributes:
        registry: its URI without credentials; the URI of its store of files if that is the one in trouble.
        kind: ``absent``: it has no such model, or none of the candidates. ``auth``: it rejected the
            credentials, or they cannot be read. ``dangling``: an alias points to a deleted version.
            ``not_ready``, ``not_approved``: a candidate leads to a version that is not ready, or lacks a tag
            of ``require_tags``. The others are in `mlopsd_probes.causes.CAUSES`.
        reason: one sentence without credentials, with a fix if there is one.
        retry_after: the seconds for which the server asks to be left alone.
        asked_for: the request; a registry without metrics or files may still answer other requests.
    """

    registry: str
    kind: str
    reason: str
    asked_for: Literal["version", "metrics", "files", "signature"] = "version"
    retry_after: float | None = None

    @property
    def cause(self) -> Cause:
        """The side at fault, and the advice."""
        return cause_of(REGISTRY, self.kind)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The answers of the registries; *found* is the wanted version."""

    found: Version | None
    complaints: tuple[Complaint, ...] = ()

    @property
    def is_denial(self) -> bool:
        """True if every registry answered and none has the version."""
        return self.found is None and all(complaint.kind in ANSWERS for complaint in self.complaints)


class RegistryError(Exception):
    """A registry did not answer; *complaint* has the reason."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(f"{complaint.registry}: {complaint.reason}")
        self.complaint = complaint


class FetchError(Exception):
    """The files of a version cannot be fetched.

    Attributes:
        kind: a kind of a `Complaint`, or one that proves a fault of the version: ``missing``, ``truncated``
            or those of the step ``provenance``.
        store: the URI of the store that has the files, without credentials; None if the registry has them.
        retry_after: the seconds for which the server asks to be left alone.
    """

    def __init__(
        self, kind: str, reason: str, store: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.store = store
        self.retry_after = retry_after

    @property
    def is_of_disk(self) -> bool:
        """True if the disk of this host is at fault."""
        return self.kind in {"disk_full", "disk"}

    @property
    def step(self) -> Step:
        """The step that the version fails, if it is at fault."""
        return "provenance" if self.kind in kinds_of("provenance") else "fetch"

    @property
    def is_of_version(self) -> bool:
        """True if the version itself is proven to be at fault."""
        return cause_of(self.step, self.kind).at_fault == "version"


class Registries:
    """Asks the registries of *wanted*.

    *count* is called with each operation (``resolve``, ``metrics``, ``fetch``), its result (``ok`` or the
    kind of the complaint) and its seconds. *folder* is for the files of processes, *name* is the probe's.
    Tables with the same *pool*, registry and credentials use the same process, except for a fetch.
    """

    def __init__(
        self,
        wanted: WantedModel,
        log: logging.Logger,
        count: Count,
        folder: Path,
        name: str,
        *,
        pool: "ClientPool",
    ) -> None:
        self._wanted = wanted
        self._log = log
        self._count = count
        self._folder = folder
        self._name = name
        self._pool = pool
        self._printed = LogLimiter()
        http_timeout = (wanted.timeout - HEADROOM) / TRIES
        self._clients = [
            pool.client(registry, http_timeout, folder, name=name) for registry in wanted.registries
        ]
        self._fetching: set[ClientProcess] = set()
        self._is_closed = False

    async def resolve(self) -> Resolution:
        """Return the first version that a candidate leads to, in the order of the registries.

        Skip a registry without one, and keep its complaint.
        """
        complaints: list[Complaint] = []
        for rank in range(len(self._clients)):
            if self._is_closed:
                break
            found, reported = await self._resolve_at(rank)
            complaints += reported
            if found is not None:
                await asyncio.gather(*(later.end() for later in self._clients[rank + 1 :] if later.is_used))
                return Resolution(found, tuple(complaints))
        return Resolution(None, tuple(complaints))

    async def metrics(self, version: Version) -> Mapping[str, LoggedMetric]:
        """Return the last value of each metric of *version*, from its run and its logged model.

        Raises:
            RegistryError: the registry does not give the metrics.
        """
        question = {"do": "metrics", "run_id": version.run_id, "source": version.source}
        try:
            answer = await self._ask(self._rank(version), "metrics", question)
        except Unanswered as error:
            raise RegistryError(_complaint(version.registry, error)) from error
        return {name: _logged(metric) for name, metric in answer["metrics"].items()}

    async def fetch(
        self, version: Version, folder: Path, progress: OnProgress, cached: Iterable[File] = ()
    ) -> tuple[File, ...]:
        """Fetch the files of *version* into *folder*, which may have files of an earlier attempt.

        Return them all. *progress* is called with the bytes so far and the total, None while unknown. A
        process of its own fetches, so that the registry can still be asked. *cached* are files of other
        versions with absolute paths, which may be linked.

        Raises:
            FetchError: the files cannot be fetched. The next attempt continues with those in *folder*.
        """
        try:
            question = {
                "do": "fetch",
                "model": self._wanted.name,
                "version": version.number,
                "folder": str(folder),
                "cached": [[file.path, file.size, file.sha256] for file in cached],
                "parallel": self._wanted.fetch_parallel,
                "evidence": self._evidence(version),
            }
            fetching = self._fetch(self._rank(version), question, progress)
            files = await self._counted("fetch", fetching)
        except Unanswered as error:
            raise FetchError(error.kind, error.reason, error.store, error.retry_after) from error
        return tuple(File(path, size, sha256) for path, size, sha256 in files)

    async def attest(self, version: Version, folder: Path, files: Iterable[File]) -> str | None:
        """Return a sentence if the *files* of *version* in *folder* are not the registered ones.

        A process of its own checks them.

        Raises:
            RegistryError: they cannot be checked.
        """
        listed = [(file.path, file.size, file.sha256) for file in files]
        question = {
            "do": "attest",
            "folder": str(folder),
            "files": listed,
            "evidence": self._evidence(version),
        }
        try:
            async with self._own_client(self._rank(version), self._wanted.timeout) as client:
                await client.ask(question, ATTEST_LIMIT)
        except Unanswered as error:
            if error.kind in kinds_of("provenance"):
                return error.reason
            raise RegistryError(_complaint(version.registry, error)) from error
        return None

    async def tag(self, version: Version, name: str, value: str) -> None:
        """Set the tag *name* of *version* in its registry.

        Raises:
            RegistryError: the registry does not take it.
        """
        question = {
            "do": "tag",
            "model": self._wanted.name,
            "version": version.number,
            "name": name,
            "value": value,
        }
        try:
            await self._clients[self._rank(version)].ask(question, self._wanted.timeout)
        except Unanswered as error:
            raise RegistryError(_complaint(version.registry, error)) from error

    async def close(self) -> None:
        """End every process, and start none any more."""
        self._is_closed = True
        ends = [client.end() for client in self._clients]
        await asyncio.gather(*ends, *(client.end() for client in self._fetching))

    async def _resolve_at(self, rank: int) -> tuple[Version | None, list[Complaint]]:
        wanted = self._wanted
        question = {
            "do": "resolve",
            "model": wanted.name,
            "candidates": wanted.candidates,
            "tags": dict(wanted.require_tags),
            "digest_tag": wanted.digest_tag,
        }
        label = wanted.registries[rank].label
        try:
            answer = await self._ask(rank, "resolve", question, _found_or_not)
        except Unanswered as error:
            return None, [_complaint(label, error)]
        complaints = [Complaint(label, kind, reason) for kind, reason in answer["complaints"]]
        return None if answer["found"] is None else self._version(rank, answer["found"]), complaints

    async def _ask(
        self,
        rank: int,
        operation: str,
        question: Answer,
        result_of: Callable[[Answer], str] = lambda _: "ok",
    ) -> Answer:
        """Ask the registry at *rank*, but not while it asks to be left alone.

        Raises:
            Unanswered: there is no answer, or the registry is not asked.
        """
        await self._prepare()
        client = self._clients[rank]
        if (pause := client.pause) is not None:
            raise pause
        return await self._counted(operation, client.ask(question, self._wanted.timeout), result_of)

    async def _fetch(self, rank: int, question: Answer, progress: OnProgress) -> list[Any]:
        http_timeout = 2 * self._wanted.fetch_idle_timeout  # the timeout in `_follow` comes first
        async with self._own_client(rank, http_timeout) as client:
            await client.start()
            return await self._follow(client, question, progress)

    async def _prepare(self) -> None:
        """Clear the folder up before its first use.

        Raises:
            Unanswered: this is closed, and starts no process any more.
        """
        await self._pool.clear_up(self._folder)
        if self._is_closed:
            raise Unanswered(*STOPPED)

    @asynccontextmanager
    async def _own_client(self, rank: int, http_timeout: float) -> AsyncIterator[ClientProcess]:
        """Yield a client for the block alone, so that a long request delays no other.

        Raises:
            Unanswered: this is closed, and starts no process any more.
        """
        await self._prepare()
        client = ClientProcess(
            self._wanted.registries[rank],
            self._folder / f"client-{secrets.token_hex(8)}",
            http_timeout,
            name=self._name,
            log=self._log,
            printed=self._printed,
        )
        self._fetching.add(client)
        try:
            yield client
        finally:
            self._fetching.discard(client)
            await client.end()

    async def _follow(self, client: ClientProcess, question: Answer, progress: OnProgress) -> list[Any]:
        wanted = self._wanted
        pace = Pace(wanted.fetch_min_rate, wanted.fetch_idle_timeout, asyncio.get_running_loop().time)
        store: str | None = None

        def pulse(part: Mapping[str, Any]) -> None:
            nonlocal store
            store = part["store"]
            progress(part["pulse"]["bytes"], part["pulse"]["total"])
            pace.pulse(part["pulse"])

        try:
            async with pace.slow, pace.idle:
                return cast("list[Any]", (await client.ask_started(question, pulse))["files"])
        except Unanswered as error:
            error.store = store
            raise
        except TimeoutError:
            late = Unanswered("timeout", f"{pace.reason()}; check the store of files")
            late.store = store
            raise late from None

    async def _counted(
        self, operation: str, work: Awaitable[Result], result_of: Callable[[Result], str] = lambda _: "ok"
    ) -> Result:
        """Return the result of *work*; count and time it."""
        began = time.monotonic()
        try:
            result = await work
        except Unanswered as error:
            self._count(operation, error.kind, time.monotonic() - began)
            raise
        self._count(operation, result_of(result), time.monotonic() - began)
        return result

    def _evidence(self, version: Version) -> Answer:
        """Return the evidence that the files of *version* must have."""
        signature = self._wanted.signature
        key = signature.public_key
        of_tag = {"tag": self._wanted.digest_tag, "tagged": version.tagged_digest}
        of_key = {"public_key": str(key), "signature": signature.file}
        return {**(of_tag if version.tagged_digest else {}), **(of_key if key is not None else {})}

    def _version(self, rank: int, found: Mapping[str, Any]) -> Version:
        return Version(
            **found,
            candidate_rank=self._wanted.candidates.index(found["candidate"]),
            registry=self._wanted.registries[rank].label,
            registry_rank=rank,
        )

    def _rank(self, version: Version) -> int:
        """Return the present index of *version*'s registry, which a reload may have changed."""
        labels = [registry.label for registry in self._wanted.registries]
        if labels[version.registry_rank : version.registry_rank + 1] == [version.registry]:
            return version.registry_rank
        if version.registry in labels:
            return labels.index(version.registry)
        raise Unanswered("other", "it is not among the configured registries")


def _complaint(registry: str, error: Unanswered) -> Complaint:
    kind = error.kind if error.kind in KINDS else "other"
    return Complaint(registry, kind, error.reason, retry_after=error.retry_after)


def _logged(metric: Mapping[str, Any]) -> LoggedMetric:
    try:
        moment = datetime.fromtimestamp(metric["at"] / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # whoever logs a metric chooses its time
        moment = None
    return LoggedMetric(float(metric["value"]), metric["source"], moment)


def _found_or_not(answer: Mapping[str, Any]) -> str:
    return "ok" if answer["found"] is not None else "absent"
