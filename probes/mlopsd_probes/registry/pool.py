"""The clients of registries, which all tables of one daemon share."""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from mlopsd.file_tree import remove_tree
from mlopsd.format import format_age
from mlopsd.log_limit import LogLimiter
from mlopsd.threads import in_thread
from mlopsd_probes.registry.client import Answer, ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions

Key = tuple[RegistryOptions, float]  # the registry with its credentials, and the timeout of an HTTP request

_log = logging.getLogger("mlopsd.registry")


class TableClient:
    """One table's use of a client; tables with the same registry, credentials and timeout use the same one.

    *name* is the name of the table, *folder* is for the process if this table is the first to use it.
    """

    def __init__(
        self, pool: "ClientPool", registry: RegistryOptions, http_timeout: float, folder: Path, *, name: str
    ) -> None:
        self.key: Key = (registry, http_timeout)
        self.folder = folder
        self.name = name
        self._pool = pool

    @property
    def is_used(self) -> bool:
        """True since this table has asked, until `end`."""
        return self._pool.has(self)

    @property
    def pause(self) -> Unanswered | None:
        """The fault of a server that asks to be left alone, as long as it does."""
        return self._pool.pause(self.key)

    async def ask(self, question: Answer, limit: float) -> Answer:
        """Return the answer to *question*, see `ClientProcess.ask`.

        Raises:
            Unanswered: there is no answer; the reason says why.
        """
        try:
            return await self._pool.join(self).ask(question, limit)
        except Unanswered as error:
            self._pool.note_pause(self.key, error)
            raise

    async def end(self) -> None:
        """End the process, unless another table uses it."""
        await self._pool.leave(self)


@dataclass(slots=True)
class _Shared:
    process: ClientProcess
    users: list[TableClient] = field(default_factory=list)


class ClientPool:
    """At most one process for each registry, its credentials and its timeout."""

    def __init__(self) -> None:
        self._shared: dict[Key, _Shared] = {}
        self._pauses: dict[Key, tuple[float, Unanswered]] = {}  # until when, and why
        self._printed: dict[Key, LogLimiter] = {}
        self._clearing: dict[Path, asyncio.Task[None]] = {}

    def client(
        self, registry: RegistryOptions, http_timeout: float, folder: Path, *, name: str
    ) -> TableClient:
        """Return the client of the table *name*, which has no process yet."""
        return TableClient(self, registry, http_timeout, folder, name=name)

    def has(self, user: TableClient) -> bool:
        """Return whether *user* uses a process."""
        return (shared := self._shared.get(user.key)) is not None and user in shared.users

    def join(self, user: TableClient) -> ClientProcess:
        """Return the process for *user*, which uses it until it leaves."""
        if (shared := self._shared.get(user.key)) is None:
            shared = self._shared[user.key] = self._shared_by(user)
        if user not in shared.users:
            shared.users.append(user)
        return shared.process

    async def leave(self, user: TableClient) -> None:
        """Let *user* go; end the process after the last one."""
        if not self.has(user):
            return
        shared = self._shared[user.key]
        shared.users.remove(user)
        if not shared.users:
            del self._shared[user.key]
            await shared.process.end()

    def pause(self, key: Key) -> Unanswered | None:
        """Return the fault for whoever would ask the registry of *key* now; None if it may be asked."""
        until, why = self._pauses.get(key, (0.0, None))
        if why is None or (left := until - time.monotonic()) <= 0:
            return None
        return Unanswered(why.kind, f"{why.reason}; it is asked again in {format_age(left)}")

    def note_pause(self, key: Key, error: Unanswered) -> None:
        """Keep that the server has asked to be left alone, if *error* says so."""
        now = time.monotonic()
        self._pauses = {each: pause for each, pause in self._pauses.items() if pause[0] > now}
        if error.retry_after is not None:
            self._pauses[key] = now + error.retry_after, error

    async def clear_up(self, folder: Path) -> None:
        """Remove what a killed daemon left in *folder*, before its first use by this one."""
        if (clearing := self._clearing.get(folder)) is None:
            clearing = asyncio.create_task(_remove(folder), name=f"clear up {folder}")
            self._clearing[folder] = clearing
        await asyncio.shield(clearing)

    def _shared_by(self, user: TableClient) -> _Shared:
        """Return a new process in the folder of *user*; its log names all tables that use it then."""
        registry, http_timeout = user.key
        users: list[TableClient] = []
        process = ClientProcess(
            registry,
            user.folder / f"client-{secrets.token_hex(8)}",
            http_timeout,
            name=user.name,
            log=_TablesLog(_log, users),
            printed=self._printed.setdefault(user.key, LogLimiter()),
        )
        return _Shared(process, users)


async def _remove(folder: Path) -> None:
    left = await in_thread("clear up the folder of clients", lambda: remove_tree(folder))
    if left is not None:
        _log.warning("files left behind", extra={"reason": left})


class _TablesLog(logging.LoggerAdapter[logging.Logger]):
    """A log whose field ``probe`` has the tables that use a client now."""

    def __init__(self, log: logging.Logger, users: Iterable[TableClient]) -> None:
        super().__init__(log)
        self._users = users

    @override
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        names = ", ".join(sorted({user.name for user in self._users}))
        return msg, {**kwargs, "extra": {**kwargs.get("extra", {}), "probe": names}}


POOL = ClientPool()  # of this process: the tables that share a client know nothing of each other
