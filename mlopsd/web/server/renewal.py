"""The renewal of what comes from files, within two seconds of their change and without a reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mlopsd.config.load import read_keys
from mlopsd.log_limit import LogLimiter
from mlopsd.threads import in_thread
from mlopsd.web.context import WebContext
from mlopsd.web.server.listener import ListenError
from mlopsd.web.server.tls import TlsFiles

if TYPE_CHECKING:
    from mlopsd.config.api_keys import ApiKey
    from mlopsd.config.load import LoadedConfig
    from mlopsd.config.schema import Api
    from mlopsd.web.server.server import HttpServer

PAUSE = 0.5  # seconds between two looks at the files
SAME_AGAIN = 3600.0  # seconds; equal failures within it have one log line
Found = TypeVar("Found")
log = logging.getLogger("mlopsd.daemon")


async def follow(what: str, read: Callable[[], Found], take: Callable[[Found], Awaitable[None]]) -> None:
    """Call *take* with the result of *read* each time that two reads in a row agree, until cancelled.

    A file that somebody is writing differs from one read to the next. *read* runs in a thread, since a disk
    can hang. It raises nothing.
    """
    before: Found | None = None
    while True:
        await asyncio.sleep(PAUSE)
        try:
            found = await in_thread(what, read)
        except RuntimeError:  # the process has no thread left; the next round tries again
            continue
        if found == before:
            await take(found)
        before = found


class KeyRenewal:
    """The API keys of the context, renewed from their file."""

    def __init__(self, context: WebContext) -> None:
        self._context = context
        self._limiter = LogLimiter(window=SAME_AGAIN)

    async def run(self) -> None:
        """Renew the keys until cancelled."""
        await follow("read API keys", self._read, self._take)

    def _read(self) -> tuple[LoadedConfig, tuple[ApiKey, ...], tuple[str, ...]]:
        loaded = self._context.loaded
        try:
            keys, complaints = read_keys(loaded.settings.api)
        except FileNotFoundError:
            return loaded, _keys_of_table(loaded.settings.api), ("the file is gone, so its keys are too",)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            return loaded, loaded.api_keys, (f"cannot read it: {reason}; its last keys stay",)
        return loaded, keys, tuple(complaints)

    async def _take(self, found: tuple[LoadedConfig, tuple[ApiKey, ...], tuple[str, ...]]) -> None:
        loaded, keys, complaints = found
        if self._context.loaded is not loaded:  # reloaded meanwhile
            return
        for complaint in complaints:
            self._complain(loaded.settings.api, complaint)
        if keys == loaded.api_keys:
            return
        self._context.loaded = replace(loaded, api_keys=keys)
        before, after = _by_name(loaded.api_keys), _by_name(keys)
        removed = [name for name, key in before.items() if after.get(name) != key]
        added = [name for name, key in after.items() if before.get(name) != key]
        log.info("API keys changed", extra={"added": added, "removed": removed, "history": True})

    def _complain(self, api: Api, reason: str) -> None:
        if self._limiter.allow(reason) is not None:
            self._context.metrics.error("keys")
            log.error("API keys not read", extra={"file": str(api.api_keys_file), "reason": reason})


def _keys_of_table(api: Api) -> tuple[ApiKey, ...]:
    return read_keys(api.model_copy(update={"api_keys_file": None}))[0]


def _by_name(keys: tuple[ApiKey, ...]) -> dict[str, ApiKey]:
    return {key.name: key for key in keys}


class TlsRenewal:
    """The certificates of the server, renewed from their files. Files that do not fit change nothing."""

    def __init__(self, server: HttpServer, context: WebContext) -> None:
        self._server = server
        self._context = context
        self._tried: object = None  # the files and their contents that were tried last

    async def run(self) -> None:
        """Renew the certificates until cancelled."""
        await follow("read certificates", self._read, self._take)

    def _read(self) -> tuple[TlsFiles | None, Sequence[bytes] | None, str | None]:
        files = TlsFiles.of(self._context.loaded.settings.api)
        if files is None:
            return None, None, None
        try:
            return files, files.read(), None
        except ListenError as error:
            return files, None, str(error)

    async def _take(self, found: tuple[TlsFiles | None, Sequence[bytes] | None, str | None]) -> None:
        if found == self._tried:
            return
        self._tried = found
        files, contents, error = found
        if files is None or (contents is not None and contents == self._server.tls_contents):
            self._note(None)
            return
        if error is not None:
            self._complain(error)
            return
        try:
            context = await in_thread("load certificates", files.make_context)
        except ListenError as broken:
            self._complain(str(broken))
            return
        if files == TlsFiles.of(self._context.loaded.settings.api):
            self._server.renew(context)
            self._note(None)
            log.info("TLS certificate renewed", extra={"file": str(files.cert), "history": True})

    def _complain(self, reason: str) -> None:
        self._note(reason)
        self._context.metrics.error("tls")
        extra = {"reason": f"{reason}; the last certificate stays in use", "history": True}
        log.error("TLS certificate not renewed", extra=extra)

    def _note(self, error: str | None) -> None:
        self._context.info = replace(self._context.info, tls_error=error)
