"""Messages to the service manager by sd_notify(3), and the task that feeds its watchdog."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping

from mlopsd.web.context import WebContext

BEAT = 1.0  # seconds; the longest time between two messages to the watchdog


class Notifier:
    """Sender of the daemon's state to systemd; without systemd it sends nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(variables)
        self._pending = ""  # a READY=1 that systemd had no room for, to be sent later
        self._is_up = False  # between READY=1 and STOPPING=1; reloads are reported only then

    def ready(self, status: str) -> None:
        """Report that the daemon has started, with the line for ``systemctl status``."""
        self._is_up = True
        message = f"READY=1\nSTATUS={_one_line(status)}"
        self._pending = "" if self._send(message) else message

    def status(self, status: str) -> None:
        """Report one line for ``systemctl status``."""
        self._send(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Report that a reload begins; `reloaded` ends it."""
        if self._is_up:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """Report that a reload has ended, successfully or not."""
        if self._is_up:
            self.ready(status)

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self._is_up = False
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Report that the event loop runs. Call it at least once in half of `watchdog` seconds."""
        if self._pending and self._send(self._pending):
            self._pending = ""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> bool:
        """Send *message*; return False if it must be sent again."""
        if not self._address:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:  # systemd is busy or gone, and the daemon must not wait for it
                return False
        return True


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Return the seconds after which systemd restarts a silent daemon, or None without a watchdog."""
    usec, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _one_line(status: str) -> str:
    return " ".join(status.split())[:500]


async def run_watchdog(notifier: Notifier, context: WebContext) -> None:
    """Feed the watchdog until cancelled, measure the lag of the loop, and report a changed status.

    Only this task feeds the watchdog: a hung event loop must restart the daemon, a hung probe must not.
    """
    loop = asyncio.get_running_loop()
    period = min(BEAT, notifier.watchdog / 4) if notifier.watchdog else BEAT
    reported = ""
    while True:
        due = loop.time() + period
        await asyncio.sleep(period)
        context.metrics.loop_lag(max(loop.time() - due, 0))
        notifier.alive()
        if (now := status_line(context)) != reported:
            notifier.status(now)
            reported = now


def status_line(context: WebContext) -> str:
    """Return the line for ``systemctl status``."""
    verdict = context.board.verdict
    problem = "; last configuration reload failed, see the journal" if context.info.reload_error else ""
    return f"{verdict.status}: {verdict.summary}{problem}"
