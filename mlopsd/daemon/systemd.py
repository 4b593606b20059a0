"""Messages to the service manager by sd_notify(3), and the beat that feeds its watchdog."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping

from mlopsd.web.context import WebContext

BEAT = 1.0  # seconds between two messages to the watchdog, at most


class Notifier:
    """Sender of the daemon's state to systemd; without systemd it sends nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(variables)
        self._owed = ""  # a READY=1 that systemd had no room for
        self._is_up = False  # between READY=1 and STOPPING=1, the only time in which it hears of reloads

    def ready(self, status: str) -> None:
        """Tell that the daemon has started."""
        self._is_up = True
        message = f"READY=1\nSTATUS={_one_line(status)}"
        self._owed = "" if self._tell(message) else message

    def status(self, status: str) -> None:
        """Tell one line for ``systemctl status``."""
        self._tell(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Tell that a reload begins; `reloaded` ends it."""
        if self._is_up:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """Tell that a reload has ended, well or not."""
        if self._is_up:
            self.ready(status)

    def stopping(self) -> None:
        """Tell that the daemon is stopping."""
        self._is_up = False
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Tell that the event loop turns, at least once in half of `watchdog`."""
        if self._owed and self._tell(self._owed):
            self._owed = ""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> bool:
        """Send *message*; return if it was taken, or there is nobody to take it."""
        if not self._address:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:  # systemd is busy or gone, and nothing here may wait for it
                return False
        return True


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Return the seconds after which systemd takes a silent daemon for dead, or None where it does not."""
    usec, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _one_line(status: str) -> str:
    return " ".join(status.split())[:500]


async def run_watchdog(notifier: Notifier, context: WebContext) -> None:
    """Beat for ever: measure by how much the loop is late, and tell systemd the status on a change.

    The watchdog is fed from here alone: a hung probe must not restart the daemon in a circle, a hung
    event loop must.
    """
    loop = asyncio.get_running_loop()
    period = min(BEAT, notifier.watchdog / 4) if notifier.watchdog else BEAT
    told = ""
    while True:
        due = loop.time() + period
        await asyncio.sleep(period)
        context.metrics.loop_lag(max(loop.time() - due, 0))
        notifier.alive()
        if (now := status_line(context)) != told:
            notifier.status(now)
            told = now


def status_line(context: WebContext) -> str:
    """Return the line for ``systemctl status``."""
    verdict = context.board.verdict
    trouble = "; last configuration reload failed, see the journal" if context.info.reload_error else ""
    return f"{verdict.status}: {verdict.summary}{trouble}"
