"""The daemon: the place where all parts meet, with the order of start, reload, drain and stop."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from mlopsd import log as logs
from mlopsd.board import Board
from mlopsd.config import plugins
from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.config.imports import PluginImports
from mlopsd.config.load import LoadedConfig, secret_files, warnings
from mlopsd.config.probes import ProbeConfig, read_configuration
from mlopsd.daemon.event_loop import Unawaited, run
from mlopsd.daemon.preflight import (
    clashing,
    keyless,
    moved,
    outdated,
    shadowing,
    shared,
    uncritical,
    unencrypted,
    without_folder,
    writable_code,
)
from mlopsd.daemon.reload import STOPPING, ConfigReloads
from mlopsd.daemon.systemd import Notifier, run_watchdog, status_line
from mlopsd.daemon.transitions import Transitions
from mlopsd.daemon.watches import Watches
from mlopsd.entry import Entry
from mlopsd.history import History
from mlopsd.metrics.registry import Metrics
from mlopsd.printed import logging_prints
from mlopsd.process.reaper import adopt_orphans
from mlopsd.state_dir import Places, StateFolder, places
from mlopsd.threads import in_thread
from mlopsd.trends import Trends
from mlopsd.watch import Watch
from mlopsd.web.context import Info, WebContext
from mlopsd.web.server.listener import ListenError
from mlopsd.web.server.renewal import KeyRenewal, TlsRenewal
from mlopsd.web.server.server import HttpServer
from mlopsd.web.server.socket_guard import SocketGuard
from mlopsd.worker.factory import make_worker
from mlopsd.worker.mask import SecretMask

log = logging.getLogger("mlopsd.daemon")


def main(load: Callable[[], LoadedConfig]) -> int:
    """Run the daemon until a signal stops it. *load* reads the configuration, now and at each reload.

    Raises:
        ConfigurationError: The configuration is invalid.
        StateError: The state folder cannot be used.
        ListenError: The daemon cannot listen on an address.
    """
    read = partial(read_configuration, load, PluginImports())
    drain = logs.hold()
    try:
        with logging_prints():  # the import of a probe may print too
            loaded, configured = read()
            drain.begin(loaded.settings.log.format, debug=loaded.settings.debug)
            logs.set_level(loaded.settings.log.level)
            where = places(loaded.settings)
            history = History(where.state)
            with closing(StateFolder(where.state)) as folder:
                folder.open()
                daemon = Daemon(read, loaded, folder, where, drain=drain, history=history)
                daemon.prepare(configured)
                with history.running():
                    run(daemon.run(configured), drain)
    finally:
        drain.end()
    return 0


class Daemon:
    """One run of the daemon, from the first listener that opens to the last one that closes.

    *read* returns the configuration and its probes, at each reload.

    Attributes:
        reloads: The reloads of the configuration.
    """

    def __init__(
        self,
        read: Callable[[], tuple[LoadedConfig, tuple[ProbeConfig, ...]]],
        loaded: LoadedConfig,
        folder: StateFolder,
        where: Places,
        *,
        drain: logs.Drain,
        history: History,
    ) -> None:
        self._read = read
        self._folder = folder
        self._places = where
        self._drain = drain
        self._stop = asyncio.Event()
        transitions = Transitions()
        self._trends = Trends()

        def changed(entry: Entry, before: Entry) -> None:
            transitions.recorded(entry, before)
            self._trends.record(entry)

        self._board = Board(on_change=changed, on_verdict=transitions.verdict_changed)
        self._metrics = Metrics(self._board, version("mlopsd"))
        info = Info(
            version=version("mlopsd"),
            started=self._board.started,
            mode=_mode(loaded),
            mlflow=_mlflow_version(),
            socket=str(where.socket),
        )
        self._context = WebContext(
            self._board, self._metrics, loaded, info, self._reload, history, trends=self._trends
        )
        self._notifier = Notifier()
        self.reloads = ConfigReloads(self._change, self._context, self._notifier)
        self._server = HttpServer(self._context)
        self._guard = SocketGuard(self._server, self._context)
        drain.on_loss = lambda: self._metrics.error("log")

    def prepare(self, configured: Sequence[ProbeConfig]) -> None:
        """Check that *configured* can be watched, before anything is opened.

        Raises:
            ConfigurationError: Some probes cannot be watched, with one line for each.
        """
        if mistakes := [*without_folder(self._folder, configured), *clashing(self._metrics, configured)]:
            raise ConfigurationError(mistakes)

    async def run(self, configured: Sequence[ProbeConfig]) -> None:
        """Start, serve until a signal stops the daemon, and stop. The order of both stands here."""
        self._configured(configured)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Unawaited(lambda: self._metrics.error("loop")).handle)
        adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with (
            self.reloads.put_off()
        ):  # a reload requested on the first listener waits until all are open
            await self._server.open(self._context.loaded.settings, self._places.socket)
        file = str(self._context.loaded.path) if self._context.loaded.path else "none"
        log.info("listening", extra={"configuration": file, **self._server.places})
        async with asyncio.TaskGroup() as group:
            self._context.watches = self._watches = Watches(
                self._board, group, self._watch, self._metrics.probes.forget
            )
            watchdog = group.create_task(run_watchdog(self._notifier, self._context), name="watchdog")
            guarding = group.create_task(self._guard.run(), name="guard the socket")
            renewing = group.create_task(KeyRenewal(self._context).run(), name="renew API keys")
            tls = group.create_task(TlsRenewal(self._server, self._context).run(), name="renew certificates")
            await self._watches.change(configured)
            warning = group.create_task(self._warn(configured), name="check configuration")
            announcing = group.create_task(self._announce(), name="announce")
            loop.add_signal_handler(signal.SIGHUP, self.reloads.begin)
            await self._stop.wait()
            for task in (announcing, warning, guarding, renewing, tls):
                task.cancel()
            self._notifier.stopping()
            await self.reloads.end()
            await self._drain_out()
            await self._watches.close()
            watchdog.cancel()
        self._board.close()
        log.info("stopped")

    async def _warn(self, configured: Sequence[ProbeConfig]) -> None:
        """Log the configuration warnings. A task of its own: a hung file must not delay the probes."""
        try:
            found = await _find_warnings(self._context.loaded, configured, self._places)
            _log_warnings(list(map(str, found)))
        except Exception:  # a fault of ours, which must not end a daemon that serves
            log.exception("configuration check failed")

    async def _change(self) -> list[str]:
        """Apply the new configuration and return the changes. Check everything before changing anything."""
        if self._stop.is_set():
            raise ConfigurationError([STOPPING])
        before = self._context.loaded.settings
        loaded, configured = await in_thread("load configuration", self._read)
        if mistakes := list(moved(self._places, loaded)):
            raise ConfigurationError(mistakes)
        await in_thread("prepare probes", lambda: self.prepare(configured))
        found = await _find_warnings(loaded, configured, self._places)
        old = await in_thread("compare code", lambda: [str(issue) for issue in outdated(configured)])
        try:
            changed = await self._server.change(loaded.settings)
        except ListenError as error:
            raise ConfigurationError([ConfigIssue("api", str(error))]) from error
        self._context.loaded = loaded
        self._context.info = replace(self._context.info, mode=_mode(loaded), outdated=tuple(old))
        self._configured(configured)
        _log_warnings([*map(str, found), *old])
        logs.set_level(loaded.settings.log.level)
        self._drain.write_as(loaded.settings.log.format, debug=loaded.settings.debug)
        changed += [
            f"table {name} changed"
            for name in ("debug", "api", "metrics", "log")
            if getattr(before, name) != getattr(loaded.settings, name)
        ]
        return changed + await self._watches.change(configured) + old

    def _configured(self, configured: Sequence[ProbeConfig]) -> None:
        """Note the probes, and mask their secrets in the log. Those of probes that now end stay masked."""
        options = [probe.options for probe in (*self._context.configured, *configured)]
        mask = SecretMask.of(options)
        self._drain.handler.mask, self._context.history.mask = mask.text, mask.plain
        self._context.configured = configured
        tables = {probe.name: probe.probe.table for probe in configured}
        self._trends.follow({name: table for name, table in tables.items() if table is not None})
        self._context.traffic.follow(probe.name for probe in configured if probe.predicts)

    async def _reload(self) -> Sequence[str]:
        return await self.reloads.ask()

    async def _announce(self) -> None:
        """Send READY to systemd once every probe has a reading or has used up its timeout."""
        for watch in list(self._context.watches.values()):  # a reload may change them meanwhile
            await watch.first_reading()
        gc.collect()
        gc.freeze()  # a full collection over permanent objects would block the loop for 7 ms
        self._notifier.ready(status_line(self._context))
        extra = {"version": self._context.info.version, **self._server.places, "history": True}
        log.info("started", extra=extra)

    async def _drain_out(self) -> None:
        """Report that the daemon is draining, keep serving for ``drain_delay``, then close the listeners."""
        self._context.draining = True
        self._metrics.draining()
        log.info("stopping", extra={"summary": self._board.verdict.summary, "history": True})
        self._server.start_draining()
        await asyncio.sleep(self._context.loaded.settings.api.drain_delay)
        await self._server.close(self._context.loaded.settings.api.drain_timeout)

    def _watch(self, configured: ProbeConfig) -> Watch:
        folder = self._folder.place_of(configured.name)
        check_requested = asyncio.Event()
        worker = make_worker(
            configured,
            folder,
            self._board,
            self._metrics.probes,
            log,
            request_check=check_requested.set,
            private_paths=self._private_paths,
        )
        return Watch(configured, worker, self._board, self._metrics.probes, check_requested=check_requested)

    def _private_paths(self) -> Sequence[Path]:
        """Return the paths that a model's code must not see, since with them it could act as the daemon.

        Because the socket itself is hidden, nothing in its folder can be added, removed or renamed.
        """
        return self._places.state, self._places.socket, *secret_files(self._context.loaded)


def _mode(loaded: LoadedConfig) -> Literal["production", "development"]:
    return "development" if loaded.settings.debug else "production"


def _mlflow_version() -> str | None:
    """Return MLflow's version from its metadata, since the daemon never imports it; None without it."""
    try:
        return version("mlflow")
    except PackageNotFoundError:
        return None


async def _find_warnings(
    loaded: LoadedConfig, configured: Sequence[ProbeConfig], where: Places
) -> list[ConfigIssue]:
    """Return the warnings about a valid configuration. A thread reads the files, since a disk can hang."""
    return await in_thread(
        "check configuration",
        lambda: [
            *warnings(loaded),
            *uncritical(configured),
            *shared(where),
            *writable_code(),
            *keyless(loaded, configured),
            *unencrypted(loaded),
            *shadowing(plugins.find()),
        ],
    )


def _log_warnings(found: Sequence[str]) -> None:
    for warning in found:
        log.warning("configuration warning", extra={"warning": warning})
