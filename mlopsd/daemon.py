"""The one place where all parts meet: the order of starting, reloading, draining and stopping."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlopsd import journal
from mlopsd import log as logs
from mlopsd.board import Board
from mlopsd.children.reaper import adopt_orphans
from mlopsd.configured import Configured, read_configuration
from mlopsd.event_loop import Unawaited, run
from mlopsd.heart import beat
from mlopsd.metrics import Metrics
from mlopsd.obstacles import clashing, keyless, moved, shared, without_folder
from mlopsd.reloads import STOPPING, Reloads
from mlopsd.roster import Roster
from mlopsd.settings.load import Loaded, doubts, secret_files
from mlopsd.settings.mistakes import ConfigurationError, Mistake
from mlopsd.state import Places, StateFolder, places
from mlopsd.systemd import Notifier
from mlopsd.threads import in_thread
from mlopsd.watch import Watch
from mlopsd.web.doors import Doors
from mlopsd.web.guard import SocketGuard
from mlopsd.web.listener import ListenError
from mlopsd.web.parts import Info, Parts
from mlopsd.worker.make import make_worker

log = logging.getLogger("mlopsd.daemon")


def main(load: Callable[[], Loaded]) -> int:
    """Run until told to stop; *load* reads the configuration, now and at each reload.

    Raises:
        ConfigurationError: the configuration cannot be used.
        StateError: the state folder cannot be used.
        ListenError: an address cannot be listened on.
    """
    loaded, configured = read_configuration(load)
    where = places(loaded.settings)
    drain = logs.start(loaded.settings.log.level, loaded.settings.log.format, debug=loaded.settings.debug)
    folder = StateFolder(where.state)
    try:
        folder.open()
        daemon = Daemon(load, loaded, folder, where, drain)
        daemon.prepare(configured)
        run(daemon.run(configured), drain)
    finally:
        folder.close()
        drain.end()
    return 0


class Daemon:
    """One run of the daemon, from the first open door to the last closed one.

    Attributes:
        reloads: those of the configuration.
    """

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
        self._mlflow = _mlflow_version()
        self._stop = asyncio.Event()
        self._announced = False
        self._draining = False
        self._configured: Sequence[Configured] = ()
        self._board = Board(on_change=journal.entry_changed, on_verdict=journal.verdict_changed)
        self.reloads = Reloads(self._change, self, self._board.now)
        self._metrics = Metrics(self._board, self._version)
        self._notifier = Notifier()
        self._doors = Doors(self._parts())
        self._guard = SocketGuard(self._doors, self._metrics.error)
        self._watches: Mapping[str, Watch] = {}  # until the roster is there, which needs the task group
        drain.on_loss = lambda: self._metrics.error("log")

    def prepare(self, configured: Sequence[Configured]) -> None:
        """Make sure that *configured* can be watched, before anything is opened.

        Raises:
            ConfigurationError: with a line for each that cannot.
        """
        if mistakes := [*without_folder(self._folder, configured), *clashing(self._metrics, configured)]:
            raise ConfigurationError(mistakes)

    async def run(self, configured: Sequence[Configured]) -> None:
        """Start, serve until a signal says stop, and leave; the order of both stands here."""
        self._configured = configured
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Unawaited(lambda: self._metrics.error("loop")).tell)
        adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with self.reloads.put_off():  # who asks at the first door for a reload waits for the last one
            await self._doors.open(self._loaded.settings, self._places.socket)
        file = str(self._loaded.path) if self._loaded.path else "none"
        log.info("listening", extra={"configuration": file, **self._doors.places})
        async with asyncio.TaskGroup() as group:
            self._watches = self._roster = Roster(self._board, group, self._watch, self._metrics.forget_probe)
            heart = group.create_task(
                beat(self._notifier, self._metrics.loop_lag, self._status_line), name="heart"
            )
            guarding = group.create_task(self._guard.run(), name="guard the socket")
            await self._roster.change(configured)
            doubting = group.create_task(self._say_doubts(configured), name="look for doubts")
            announcing = group.create_task(self._announce(), name="announce")
            loop.add_signal_handler(signal.SIGHUP, self.reloads.begin)
            await self._stop.wait()
            for task in (announcing, doubting, guarding):
                task.cancel()
            await self.reloads.end()
            await self._drain_out()
            await self._roster.close()
            heart.cancel()
        self._board.close()
        log.info("stopped")

    async def _say_doubts(self, configured: Sequence[Configured]) -> None:
        """Log what is doubtful, beside the probes: a file that hangs must not keep them waiting."""
        _tell(await self._look_for_doubts(self._loaded, configured))

    async def _look_for_doubts(self, loaded: Loaded, configured: Sequence[Configured]) -> list[Mistake]:
        """Look at files and folders in a thread, since a mount may hang."""
        return await in_thread("look for doubts", lambda: _doubts(loaded, configured, self._places))

    async def _change(self) -> list[str]:
        """Put a new configuration in force; all that could go wrong is found out before anything changes."""
        if self._stop.is_set():
            raise ConfigurationError([STOPPING])
        before = self._loaded.settings
        loaded, configured = await in_thread("load configuration", lambda: read_configuration(self._load))
        if mistakes := list(moved(self._places, loaded)):
            raise ConfigurationError(mistakes)
        await in_thread("prepare probes", lambda: self.prepare(configured))
        doubtful = await self._look_for_doubts(loaded, configured)
        try:
            changed = await self._doors.change(loaded.settings)
        except ListenError as error:
            raise ConfigurationError([Mistake("api", str(error))]) from error
        self._loaded = loaded
        self._configured = configured
        _tell(doubtful)
        logs.set_level(loaded.settings.log.level)
        self._drain.write_as(loaded.settings.log.format, debug=loaded.settings.debug)
        changed += [
            f"table {name} changed"
            for name in ("debug", "api", "metrics", "log")
            if getattr(before, name) != getattr(loaded.settings, name)
        ]
        return changed + await self._roster.change(configured)

    def reloading(self) -> None:
        """See `Surroundings`: a service manager is told."""
        if self._is_up:
            self._notifier.reloading()

    def in_force(self) -> None:
        """See `Surroundings`: Prometheus is told."""
        self._metrics.configured(self._board.now())

    def refused(self, *, broke: bool) -> None:
        """See `Surroundings`: Prometheus is told."""
        self._metrics.not_configured()
        if broke:
            self._metrics.error("reload")

    def reloaded(self) -> None:
        """See `Surroundings`: a service manager is told."""
        if self._is_up:
            self._notifier.ready(self._status_line())

    async def _announce(self) -> None:
        """Tell systemd that the daemon is up once every probe has a reading, or had the time for one."""
        for watch in list(self._watches.values()):  # a reload may change them meanwhile
            await watch.first_reading()
        gc.collect()
        gc.freeze()  # a full collection over what stays anyway would hold the loop for 7 ms
        self._announced = True
        self._notifier.ready(self._status_line())
        log.info("started", extra={"version": self._version, **self._doors.places})

    async def _drain_out(self) -> None:
        """Say no to new work, go on serving for as long as configured, then close the doors."""
        self._draining = True
        self._metrics.draining()
        self._notifier.stopping()
        log.info("stopping", extra={"summary": self._board.verdict.summary})
        self._doors.part()
        await asyncio.sleep(self._loaded.settings.api.drain_delay)
        await self._doors.close(self._loaded.settings.api.drain_timeout)

    def _watch(self, configured: Configured) -> Watch:
        folder = self._folder.place_of(configured.name)
        again = asyncio.Event()
        worker = make_worker(
            configured, folder, self._board, self._metrics, log, again=again.set, private=self._private
        )
        return Watch(configured, worker, self._board, self._metrics, again=again)

    def _private(self) -> Sequence[Path]:
        """What no code of a model may see: by what it wrote or read there it would be the daemon.

        With the socket itself hidden, nothing in its folder can be added, removed or renamed.
        """
        return self._places.state, self._places.socket, *secret_files(self._loaded)

    @property
    def _is_up(self) -> bool:
        """Between READY=1 and STOPPING=1, the only time in which a service manager hears of reloads."""
        return self._announced and not self._stop.is_set()

    def _status_line(self) -> str:
        verdict = self._board.verdict
        trouble = "; last configuration reload failed, see the journal" if self.reloads.error else ""
        return f"{verdict.status}: {verdict.summary}{trouble}"

    def _info(self) -> Info:
        return Info(
            version=self._version,
            started=self._board.started,
            mode="development" if self._loaded.settings.debug else "production",
            reloaded_at=self.reloads.at,
            reload_error=self.reloads.error,
            mlflow=self._mlflow,
            socket=str(self._places.socket),
            socket_error=self._guard.error,
        )

    def _parts(self) -> Parts:
        return Parts(
            board=self._board,
            metrics=self._metrics,
            configured=lambda: self._configured,
            watches=lambda: self._watches,
            loaded=lambda: self._loaded,
            reload_configuration=self.reloads.ask,
            draining=lambda: self._draining,
            info=self._info,
        )


def _mlflow_version() -> str | None:
    """By what pip has written down: the daemon never imports MLflow."""
    try:
        return version("mlflow")
    except PackageNotFoundError:
        return None


def _doubts(loaded: Loaded, configured: Sequence[Configured], where: Places) -> list[Mistake]:
    """Return what may run and was hardly meant; this looks at files, and a disk can hang."""
    return [*doubts(loaded), *shared(where), *keyless(loaded, configured)]


def _tell(doubtful: Sequence[Mistake]) -> None:
    for doubt in doubtful:
        log.warning("doubtful configuration", extra={"doubt": str(doubt)})
