"""The beat of the event loop: measures its lag, and tells systemd that it turns and how the host is."""

import asyncio

from mlopsd.daemon.systemd import Notifier
from mlopsd.web.context import WebContext

BEAT = 1.0  # seconds


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
