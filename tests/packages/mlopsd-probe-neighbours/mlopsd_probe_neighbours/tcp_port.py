"""A port that must accept connections: a feature store, a cache. It only waits, so it is a coroutine."""

import asyncio
import os
from typing import Annotated

from pydantic import Field

from mlopsd.probe import Advice, Finding, Metric, Options, Probe, Reading, Schedule, Status

CONNECT = Metric("connect_seconds", "Seconds until the connection stood.", unit="seconds")
REFUSED = Metric("refused_total", "Connections that were refused.", kind="counter")


class PortOptions(Options):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]


class TcpPort(Probe[PortOptions]):
    """Unhealthy while nothing accepts connections on the port."""

    Options = PortOptions
    metrics = (CONNECT, REFUSED)
    schedule = Schedule(interval=10, timeout=3, recover_after=1)

    async def check(self) -> Reading:
        clock = asyncio.get_running_loop().time
        began = clock()
        place = f"{self.options.host}:{self.options.port}"
        try:
            _, writer = await asyncio.open_connection(self.options.host, self.options.port)
        except OSError as error:
            self.context.instruments.counter(REFUSED).inc()
            cause = os.strerror(error.errno) if error.errno else str(error)
            why = f"{place} does not accept connections: {cause}"
            return Reading(
                [Finding("connect", Status.UNHEALTHY, why, subject=place, advice=Advice.RESTART_APP)]
            )
        seconds = clock() - began
        writer.close()
        await writer.wait_closed()
        finding = Finding("connect", Status.HEALTHY, f"{place} accepts connections", subject=place)
        return Reading([finding], [CONNECT.sample(seconds)])
