"""Callers who never stop: each answer is judged when it comes, and one that does not come as well."""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from chaos.models import COLUMNS
from chaos.shapes import Shapes
from chaos.timeline import Timeline

KEY = "sesame-0123456789"
HEADERS = {"X-API-Key": KEY, "Content-Type": "application/json"}
BOUND = 5.0  # seconds for an answer that depends on nothing but the daemon
PATIENCE = 60.0  # seconds that a caller waits at all
ALWAYS = ("/livez", "/health/", "/metrics", "/readyz", "/info")  # answered while the daemon lives
SILENT = ("down", "stopped")  # windows in which nothing can answer
ACCEPTING = (*SILENT, "descriptors")  # or nobody can be let in
HONEST = (429, 500, 503, 504)  # what a prediction may get whose host was hit
LAG_EVERY = 0.05
CHECKS = re.compile(rb"^mlopsd_probe_checks_total\{[^\n]*\} (\S+)$", re.MULTILINE)


def checks(page: bytes) -> float:
    """Of all probes, as the metrics *page* counts them."""
    return sum(map(float, CHECKS.findall(page)))


@dataclass(frozen=True, slots=True)
class CallerAnswer:
    """An answer, and when it was asked for and had."""

    status: int
    body: bytes
    began: float
    ended: float


class CallerTraffic:
    """The callers of the daemon on *port*; *factors* are the right ones for a prediction now."""

    def __init__(
        self, port: int, shapes: Shapes, timeline: Timeline, factors: Callable[[], frozenset[float]]
    ) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._shapes = shapes
        self._timeline = timeline
        self._factors = factors
        self._numbers = itertools.count(1)
        self.codes: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.checks = self._checks_before = 0.0
        self.lag = 0.0  # of this process, which is none of the daemon's, in all
        self.greatest_lag = 0.0

    async def run(self) -> None:
        """Call for ever."""
        kept = aiohttp.TCPConnector(keepalive_timeout=600)
        fresh = aiohttp.TCPConnector(force_close=True)
        limit = aiohttp.ClientTimeout(total=PATIENCE)
        async with (
            aiohttp.ClientSession(self._base, connector=kept, timeout=limit) as session,
            aiohttp.ClientSession(self._base, connector=fresh, timeout=limit) as once,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._feel_lag())
            for number, path in enumerate(ALWAYS):
                group.create_task(self._read(session, path, 0.1 + 0.03 * number))
            for path in ("/livez", "/health/"):
                group.create_task(self._read(once, path, 0.4, waits=ACCEPTING))
            for _ in range(3):
                group.create_task(self._predict(session))
            group.create_task(self._act(session))

    async def ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        waits: tuple[str, ...] = SILENT,
    ) -> CallerAnswer | None:
        """Return the answer, its shape judged; None if there was none, which *waits* may excuse."""
        began, lag = time.monotonic(), self.lag
        try:
            async with session.request(method, path, params=query, data=body, headers=HEADERS) as response:
                reported = CallerAnswer(response.status, await response.read(), began, time.monotonic())
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            self._missed(method, path, began, error, waits)
            return None
        self.codes[f"{method} {path} {reported.status}"] += 1
        if (fault := self._shapes.fault(method, path, reported.status, reported.body)) is not None:
            self._timeline.violate("documented shape", f"{method} {path}: {fault}")
        if path in ALWAYS:
            self._judge_pace(path, reported, self.lag - lag, waits)
        return reported

    def _missed(self, method: str, path: str, began: float, error: Exception, waits: tuple[str, ...]) -> None:
        """No answer is excused while there was nothing that could give one."""
        self.codes[f"{method} {path} none"] += 1
        # a kept connection whose other end was killed is found out with the next request on it
        excused = self._timeline.excused(waits, began - 1.5, time.monotonic())
        if not excused:
            self._timeline.violate(
                "no request lost", f"{method} {path}: {type(error).__name__}: {error}"[:300]
            )

    def _judge_pace(self, path: str, reported: CallerAnswer, lag: float, waits: tuple[str, ...]) -> None:
        seconds = (
            reported.ended
            - reported.began
            - lag
            - self._timeline.overlap(waits, reported.began, reported.ended)
        )
        self.longest[path] = max(self.longest.get(path, 0.0), seconds)
        if seconds > BOUND:
            self._timeline.violate("answers in time", f"{path} took {seconds:.1f} s")

    async def _read(
        self, session: aiohttp.ClientSession, path: str, pause: float, waits: tuple[str, ...] = SILENT
    ) -> None:
        while True:
            reported = await self.ask(session, "GET", path, waits=waits)
            if reported is None:
                await asyncio.sleep(0.1)
            elif path == "/metrics":
                self._count_checks(reported.body)
            if reported is not None and path in ("/livez", "/info", "/metrics") and reported.status != 200:
                self._timeline.violate("always 200", f"{path}: {reported.status}")
            await asyncio.sleep(pause)

    def _count_checks(self, page: bytes) -> None:
        """Add the checks of *page*; a daemon that was killed begins at zero again."""
        now = checks(page)
        self.checks += now - self._checks_before if now >= self._checks_before else now
        self._checks_before = now

    async def _predict(self, session: aiohttp.ClientSession) -> None:
        while True:
            x, right = float(next(self._numbers)), self._factors()
            body = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [["", x], ["", x + 1]]}})
            reported = await self.ask(session, "POST", "/invocations", body=body.encode())
            if reported is not None:
                self.judge_prediction(reported, x, right | self._factors())
            await asyncio.sleep(0.05)

    def judge_prediction(self, reported: CallerAnswer, x: float, right: frozenset[float]) -> None:
        """Right is a factor of *right* times *x* and *x* + 1, or a refusal while the host was hit."""
        hit = self._timeline.excused(("host", *SILENT), reported.began, reported.ended)
        if reported.status in HONEST and hit:
            return
        if reported.status != 200:
            self._timeline.violate("predictions go on", f"{reported.status} {reported.body[:200]!r}")
            return
        answers = json.loads(reported.body)["predictions"]
        if answers not in [[x * factor, (x + 1) * factor] for factor in right]:
            self._timeline.violate("right values", f"{answers} for {x:g}, {x + 1:g} by {set(right)}")

    async def _act(self, session: aiohttp.ClientSession) -> None:
        """Do what an operator does meanwhile."""
        turns = itertools.cycle(("model", "gpu", "system", "heartbeat", "dry"))
        for turn in turns:
            if turn in ("model", "dry"):
                query = {"wait": "3"} if turn == "model" else {"dry_run": "true", "wait": "3"}
                await self.ask(session, "POST", "/health/model/reload", query=query)
            else:
                await self.ask(session, "POST", f"/health/{turn}/check")
            await asyncio.sleep(random.uniform(1, 3))

    async def _feel_lag(self) -> None:
        """Seconds by which this process itself was late, which a busy machine makes it."""
        while True:
            due = time.monotonic() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            late = max(time.monotonic() - due, 0.0)
            self.lag += late
            self.greatest_lag = max(self.greatest_lag, late)
