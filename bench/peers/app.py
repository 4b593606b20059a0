"""The same job as one would write it with FastAPI, prometheus-client, pydantic-settings and psutil.

It looks at the system and at as many series as it is told to at intervals, keeps what it saw, and answers
``/health/``, ``/health/detailed`` and ``/metrics``. As the documents of its parts advise: responses are
models, settings come from the environment, tasks from the lifespan, requests are counted by a middleware
by route, each labelled child of a metric is kept, and what only reads memory is an ``async def``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Literal

import psutil
from fastapi import FastAPI, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict

from bench import workload

StatusWord = Literal["healthy", "degraded", "unknown", "unhealthy"]
SYSTEM_INTERVAL = 15.0


class PeerSettings(BaseSettings):
    """What the environment says, as ``PEER_*``."""

    model_config = SettingsConfigDict(env_prefix="PEER_")

    series: int = 0
    memory_available_degraded: float = 0.05


class PeerFinding(BaseModel):
    """One judged fact."""

    name: str
    status: StatusWord
    observed: float
    limit: float
    unit: str
    summary: str


class PeerReading(BaseModel):
    """What one look gave."""

    probe: str
    status: StatusWord
    summary: str
    checked_at: datetime
    duration_seconds: float
    interval_seconds: float
    findings: list[PeerFinding]
    facts: dict[str, float]


class PeerVerdict(BaseModel):
    """The host's status, and each probe's."""

    status: StatusWord
    since: datetime
    summary: str
    probes: dict[str, StatusWord]


class Detailed(PeerVerdict):
    """The same with all readings."""

    readings: dict[str, PeerReading]


settings = PeerSettings()
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line for each counter
REQUESTS = Counter("peer_http_requests_total", "Requests answered.", ("method", "route", "status"))
DURATION = Histogram("peer_http_request_duration_seconds", "Seconds an answer took.", ("route",))
AVAILABLE = Gauge("peer_memory_available_bytes", "Memory that is available.")
CPU = Gauge("peer_cpu_busy_ratio", "How busy the cores are.")
DISK = Gauge("peer_disk_free_bytes", "Free bytes of the disk.")


class Quantities:
    """The series that it is told to show."""

    def __init__(self, number: int) -> None:
        self._families: dict[str, Gauge | Counter] = {}
        self._children = [self._child(one) for one in workload.series(number)]

    def look(self, number: int) -> None:
        """Take over the values of the *number*-th look."""
        for at, child in enumerate(self._children):
            if isinstance(child, Gauge):
                child.set(workload.value(at, number))
            else:
                child.inc(workload.value(at, number) - workload.value(at, number - 1))

    def _child(self, one: workload.Series) -> Gauge | Counter:
        kind = Counter if one.counts else Gauge
        if one.family not in self._families:
            self._families[one.family] = kind(f"peer_{one.family}", "A quantity of a card.", workload.LABELS)
        return self._families[one.family].labels(*one.labels)


class Watching:
    """The latest readings, and when the verdict last changed."""

    def __init__(self) -> None:
        self.readings: dict[str, PeerReading] = {}
        self._since = datetime.now(UTC)
        self._status: StatusWord = "unknown"

    def verdict(self) -> PeerVerdict:
        """Return the worst of all readings."""
        return PeerVerdict(
            status=self._status,
            since=self._since,
            summary="; ".join(reading.summary for reading in self.readings.values()),
            probes={name: reading.status for name, reading in self.readings.items()},
        )

    def take(self, reading: PeerReading) -> None:
        """Keep *reading* as the latest of its probe."""
        self.readings[reading.probe] = reading
        worst = max((one.status for one in self.readings.values()), key=_WORSE.index)
        if worst != self._status:
            self._status, self._since = worst, datetime.now(UTC)

    async def look_at_system(self) -> None:
        """Every interval."""
        while True:
            self.take(_system())
            await asyncio.sleep(SYSTEM_INTERVAL)

    async def look_at_quantities(self) -> None:
        """Every interval."""
        quantities, look = Quantities(settings.series), 0
        while True:
            look += 1
            began = time.perf_counter()
            quantities.look(look)
            finding = PeerFinding(
                name="series", status="healthy", observed=look, limit=0, unit="looks", summary="all there"
            )
            facts = {"series": float(settings.series)}
            self.take(_reading("series", finding, began, workload.INTERVAL, facts))
            await asyncio.sleep(workload.INTERVAL)


_WORSE: list[StatusWord] = ["healthy", "degraded", "unknown", "unhealthy"]


def _system() -> PeerReading:
    began = time.perf_counter()
    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
    busy = psutil.cpu_percent(None) / 100
    AVAILABLE.set(memory.available)
    CPU.set(busy)
    DISK.set(disk.free)
    share = memory.available / memory.total
    finding = PeerFinding(
        name="memory",
        status="healthy" if share > settings.memory_available_degraded else "degraded",
        observed=share,
        limit=settings.memory_available_degraded,
        unit="ratio",
        summary=f"{share:.0%} of the memory is available",
    )
    facts = {"memory_total_bytes": float(memory.total), "disk_free_bytes": float(disk.free), "cpu": busy}
    return _reading("system", finding, began, SYSTEM_INTERVAL, facts)


def _reading(
    probe: str, finding: PeerFinding, began: float, interval: float, facts: dict[str, float]
) -> PeerReading:
    return PeerReading(
        probe=probe,
        status=finding.status,
        summary=finding.summary,
        checked_at=datetime.now(UTC),
        duration_seconds=time.perf_counter() - began,
        interval_seconds=interval,
        findings=[finding],
        facts=facts,
    )


watching = Watching()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Look for as long as it serves."""
    tasks = [
        asyncio.create_task(watching.look_at_system(), name="system"),
        asyncio.create_task(watching.look_at_quantities(), name="quantities"),
    ]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count each request by its route."""
    began = time.perf_counter()
    response = await call_next(request)
    route = getattr(request.scope.get("route"), "path", "unmatched")
    REQUESTS.labels(request.method, route, str(response.status_code)).inc()
    DURATION.labels(route).observe(time.perf_counter() - began)
    return response


@app.get("/livez")
async def alive() -> str:
    """Show that the service answers."""
    return "alive"


@app.get("/health/")
async def health(response: Response) -> PeerVerdict:
    """Return the verdict, and its code."""
    verdict = watching.verdict()
    response.status_code = 200 if verdict.status in {"healthy", "degraded"} else 503
    return verdict


@app.get("/health/detailed")
async def detailed(response: Response) -> Detailed:
    """Return the verdict with all readings."""
    verdict = watching.verdict()
    response.status_code = 200 if verdict.status in {"healthy", "degraded"} else 503
    return Detailed(**verdict.model_dump(), readings=watching.readings)


@app.get("/metrics")
async def metrics() -> Response:
    """Render the page for each request; compression would cost it more."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
