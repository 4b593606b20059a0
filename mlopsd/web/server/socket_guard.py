"""Watches over the path of the Unix socket: who else may write in its folder may take the daemon's place."""

import asyncio
import logging
from collections.abc import Callable

from mlopsd.log_limit import LogLimiter
from mlopsd.web.server.listener import ListenError
from mlopsd.web.server.server import HttpServer

PAUSE = 3.0  # seconds between two looks
SAME_AGAIN = 300.0  # seconds in which the same trouble has one line in the log
COMPONENT = "socket"  # of mlopsd_errors_total
log = logging.getLogger("mlopsd.socket")


class SocketGuard:
    """Binds the Unix socket's path again when it no longer leads to the daemon.

    Attributes:
        error: why the path cannot be bound again, while it cannot.
    """

    def __init__(self, doors: HttpServer, count: Callable[[str], None], pause: float = PAUSE) -> None:
        self._doors = doors
        self._count = count
        self._pause = pause
        self._repeats = LogLimiter(window=SAME_AGAIN)
        self.error: str | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._pause)
            await self.look()

    async def look(self) -> None:
        """Look once, and bind the path again if it is somebody else's or nobody's."""
        path = self._doors.places["socket"]
        try:
            if not await self._doors.is_socket_in_place():
                self._tell_loss(path)
                await self._doors.bind_socket_again()
                log.warning("Unix socket bound again", extra={"path": path})
            self.error = None
        except (ListenError, OSError, RuntimeError) as error:  # no descriptor or no thread is left
            self.error = str(error)
            self._say("Unix socket lost", path, self.error)

    def _tell_loss(self, path: str) -> None:
        if self.error is None:
            self._count(COMPONENT)
            self._say("Unix socket replaced", path, "its path no longer leads to this daemon")

    def _say(self, event: str, path: str, reason: str) -> None:
        if (kept_back := self._repeats.worth_saying((event, reason))) is not None:
            more = {"kept_back": kept_back} if kept_back else {}
            log.error(event, extra={"path": path, "reason": reason, **more})
