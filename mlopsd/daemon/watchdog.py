"""The beat of the event loop: measures its lag, and tells systemd that it turns and how the host is."""

import asyncio
from collections.abc import Callable

from mlopsd.daemon.systemd import Notifier

BEAT = 1.0  # seconds


async def run_watchdog(
    notifier: Notifier, lagged: Callable[[float], None], status: Callable[[], str]
) -> None:
    """Beat for ever; *lagged* takes the seconds by which the loop was late, *status* is told on a change.

    The watchdog is fed from here alone: a hung probe must not restart the daemon in a circle, a hung
    event loop must.
    """
    loop = asyncio.get_running_loop()
    period = min(BEAT, notifier.watchdog / 4) if notifier.watchdog else BEAT
    told = ""
    while True:
        due = loop.time() + period
        await asyncio.sleep(period)
        lagged(max(loop.time() - due, 0))
        notifier.alive()
        if (now := status()) != told:
            notifier.status(now)
            told = now
