"""The one place where all parts meet: the order of starting, reloading, draining and stopping."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

from mlopsd import log as logs
from mlopsd import plugins
from mlopsd.board import Board, Entry, Verdict
from mlopsd.heart import beat
from mlopsd.metrics import Metrics
from mlopsd.plugins import Configured
from mlopsd.probe import Status
from mlopsd.roster import Roster
from mlopsd.settings.load import Loaded
from mlopsd.settings.mistakes import ConfigurationError, Mistake
from mlopsd.state import Places, StateFolder, places
from mlopsd.systemd import Notifier
from mlopsd.watch import Watch
from mlopsd.web.doors import Doors
from mlopsd.web.listener import ListenError
from mlopsd.web.parts import Info, Parts
from mlopsd.worker import descent
from mlopsd.worker.make import make_worker
from mlopsd.worker.thread import in_thread

LEAVING_SECONDS = 0.3  # for tasks that are asked to end when the loop is about to
log = logging.getLogger("mlopsd.daemon")


def main(load: Callable[[], Loaded]) -> int:
    """Run until told to stop; *load* reads the configuration, now and at each reload.

    Raises:
        ConfigurationError: the configuration cannot be used.
        StateError: the state folder cannot be used.
        ListenError: an address cannot be listened on.
    """
    loaded = load()
    configured = plugins.configure(loaded)
    where = places(loaded.settings)
    drain = logs.start(loaded.settings.log.level, loaded.settings.log.format, debug=loaded.settings.debug)
    folder = StateFolder(where.state)
    try:
        folder.open()
        daemon = Daemon(load, loaded, folder, where, drain)
        _run(daemon.run(configured), drain)
    finally:
        folder.close()
        drain.end()
    return 0


def _run(whole: Coroutine[Any, Any, None], drain: logs.Drain) -> None:
    """Like ``asyncio.run``, which would wait for ever for a coroutine that will not end."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(whole)
    finally:
        stuck = loop.run_until_complete(_leave())
        if stuck:
            log.warning("left behind", extra={"tasks": stuck})
            drain.end()
            os._exit(0)
        loop.close()


async def _leave() -> list[str]:
    """Cancel every task that is left; the names of those that go on all the same."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEAVING_SECONDS)
    return sorted(task.get_name() for task in left if not task.done())


class Daemon:
    """One run of the daemon, from the first open door to the last closed one."""

    def __init__(
        self,
        load: Callable[[], Loaded],
        loaded: Loaded,
        folder: StateFolder,
        where: Places,
        drain: logs.Drain,
    ) -> None:
        self._load = load
        self._loaded = loaded
        self._folder = folder
        self._places = where
        self._drain = drain
        self._version = version("mlopsd")
        self._stop = asyncio.Event()
        self._draining = False
        self._reload_turn = asyncio.Lock()
        self._reloaded_at: datetime | None = None
        self._reload_error: str | None = None
        self._board = Board(on_change=_log_change, on_verdict=_log_verdict)
        self._metrics = Metrics(self._board, self._version)
        self._notifier = Notifier()
        self._doors = Doors(self._parts())
        self._watches: Mapping[str, Watch] = {}  # until the roster is there, which needs the task group
        drain.on_loss = lambda: self._metrics.error("log")

    async def run(self, configured: Sequence[Configured]) -> None:
        """Start, serve until a signal says stop, and leave; the order of both stands here."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._lost_exception)
        descent.adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._doors.open(self._loaded.settings, self._places.socket)
        file = str(self._loaded.path) if self._loaded.path else "none"
        log.info("listening", extra={"configuration": file, **self._doors.places})
        async with asyncio.TaskGroup() as group:
            self._watches = self._roster = Roster(self._board, group, self._watch, self._metrics.forget_probe)
            heart = group.create_task(
                beat(self._notifier, self._metrics.loop_lag, self._status_line), name="heart"
            )
            await self._roster.change(configured)
            announcing = group.create_task(self._announce(), name="announce")
            loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._hang_up(), name="reload"))
            await self._stop.wait()
            await self._drain_out()
            await self._roster.close()
            announcing.cancel()
            heart.cancel()
        self._board.close()
        log.info("stopped")

    async def reload(self) -> list[str]:
        """Read the configuration anew and change what differs; what changed, in sentences.

        Raises:
            ConfigurationError: it cannot be used; nothing was changed.
        """
        async with self._reload_turn:
            self._notifier.reloading()
            try:
                changes = await self._reload()
                self._reload_error = None
            except ConfigurationError as error:
                self._reload_error = str(error)
                log.error("configuration not reloaded", extra={"mistakes": str(error).splitlines()})  # noqa: TRY400
                raise
            finally:
                self._reloaded_at = self._board.now()
                self._notifier.ready(self._status_line())
            log.info("configuration reloaded", extra={"changes": changes})
            return changes

    async def _reload(self) -> list[str]:
        before = self._loaded.settings
        loaded = await in_thread("load configuration", self._load)
        configured = await in_thread("load probes", lambda: plugins.configure(loaded))
        _refuse_what_is_fixed(self._places, loaded)
        try:
            changed = await self._doors.change(loaded.settings)
        except ListenError as error:
            raise ConfigurationError([Mistake("api", str(error))]) from error
        self._loaded = loaded
        logs.set_level(loaded.settings.log.level)
        self._drain.write_as(loaded.settings.log.format, debug=loaded.settings.debug)
        changed += [
            f"table {name} changed"
            for name in ("debug", "api", "metrics", "log")
            if getattr(before, name) != getattr(loaded.settings, name)
        ]
        return changed + await self._roster.change(configured)

    async def _hang_up(self) -> None:
        """SIGHUP: there is nobody to tell but the log, the status line and /info, which are told."""
        try:
            await self.reload()
        except ConfigurationError:
            return

    async def _announce(self) -> None:
        """Tell systemd that the daemon is up once every probe has a reading, or had the time for one."""
        for watch in list(self._watches.values()):  # a reload may change them meanwhile
            await watch.first_reading()
        gc.collect()
        gc.freeze()  # a full collection over what stays anyway would hold the loop for 7 ms
        self._notifier.ready(self._status_line())
        log.info("started", extra={"version": self._version, **self._doors.places})

    async def _drain_out(self) -> None:
        """Say no to new work, go on serving for as long as configured, then close the doors."""
        self._draining = True
        self._notifier.stopping()
        log.info("stopping", extra={"summary": self._board.verdict.summary})
        await asyncio.sleep(self._loaded.settings.api.drain_delay)
        await self._doors.close(self._loaded.settings.api.drain_timeout)

    def _watch(self, configured: Configured) -> Watch:
        folder = self._folder.of_probe(configured.name)
        worker = make_worker(configured, folder, self._board, self._metrics, log)
        return Watch(configured, worker, self._board, self._metrics)

    def _status_line(self) -> str:
        verdict = self._board.verdict
        trouble = "; last configuration reload failed, see the journal" if self._reload_error else ""
        return f"{verdict.status}: {verdict.summary}{trouble}"

    def _info(self) -> Info:
        return Info(
            version=self._version,
            started=self._board.started,
            mode="development" if self._loaded.settings.debug else "production",
            reloaded_at=self._reloaded_at,
            reload_error=self._reload_error,
        )

    def _parts(self) -> Parts:
        return Parts(
            board=self._board,
            metrics=self._metrics,
            watches=lambda: self._watches,
            loaded=lambda: self._loaded,
            reload_configuration=self.reload,
            draining=lambda: self._draining,
            info=self._info,
        )

    def _lost_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody waited for is a fault of ours: count it and say it, once."""
        self._metrics.error("loop")
        error = context.get("exception")
        extra = {"reason": context.get("message", "")}
        log.error("exception that nobody waited for", extra=extra, exc_info=error)


def _refuse_what_is_fixed(places_now: Places, loaded: Loaded) -> None:
    """The places are taken once, at the start.

    Raises:
        ConfigurationError: the new configuration moves them.
    """
    after = places(loaded.settings)
    mistakes = [
        Mistake(
            key, f"cannot move from {now} while running; restart the daemon", str(new), loaded.origin(key)
        )
        for key, now, new in (
            ("state_dir", places_now.state, after.state),
            ("socket", places_now.socket, after.socket),
        )
        if now != new
    ]
    if mistakes:
        raise ConfigurationError(mistakes)


def _log_change(entry: Entry, before: Status) -> None:
    extra = {
        "probe": entry.probe,
        "status": str(entry.status),
        "before": str(before),
        "summary": entry.reading.summary,
        "findings": [
            {"name": finding.name, "subject": finding.subject, "advice": str(finding.advice)}
            for finding in entry.reading.findings
            if finding.status != Status.HEALTHY
        ],
    }
    log.log(_level(entry.status, before), "probe status changed", extra=extra)


def _log_verdict(verdict: Verdict, before: Status) -> None:
    extra = {
        "status": str(verdict.status),
        "before": str(before),
        "summary": verdict.summary,
        "advice": str(verdict.advice),
    }
    log.log(_level(verdict.status, before), "health changed", extra=extra)


def _level(status: Status, before: Status) -> int:
    return logging.WARNING if status > before else logging.INFO
