"""The status page: one self-contained response that needs no script; its own script refreshes it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import operator
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from mlopsd.board import PAST_READINGS, Board
from mlopsd.entry import Entry, PastReading
from mlopsd.format import format_age, format_duration, format_size, format_time
from mlopsd.predictor import VersionFacts
from mlopsd.probe import Advice, Finding, Status
from mlopsd.threads import in_thread
from mlopsd.web.api.readings import reload_state
from mlopsd.web.context import WebContext
from mlopsd.web.jsonable import DEEPEST, jsonable
from mlopsd.web.page.strip import DrawnSegment, Segment, segments_of, strip
from mlopsd.web.page.tables import badge_text, model_row, plain_finding, shown_table

if TYPE_CHECKING:
    from jinja2 import Template

    from mlopsd.verdict import Verdict
    from mlopsd.watch import ProbeReload
    from mlopsd.web.api.info import About

LONGEST = 2000  # characters of one text; the JSON has the whole
MOST_IN_ROW = 20  # values of a list in one row of the table
LIMITS = {"most_findings": 100, "most_rejected": 20, "most_rows": 200}  # the JSON has the rest

BAR, SLOT = 3, 4  # widths in units: a bar, and a bar with the gap after it
BASE, TALLEST, SHORTEST = (
    48,
    30,
    2,
)  # units: the baseline, and the heights of the longest and the shortest bar
SIGNS = {
    Status.HEALTHY: "",
    Status.DEGRADED: "M{x} 7h3v5h-3z",  # half a block
    Status.UNKNOWN: "M{x} 1h3v3h-3zM{x} 8h3v3h-3z",  # a block with a hole
    Status.UNHEALTHY: "M{x} 0h3v12h-3z",  # a whole block
}
"""The sign above the bar of a reading that was not healthy, for readers without colours."""


class StatusPage:
    """The handler of ``/``: the page for a browser, ``/info`` for other clients."""

    def __init__(self, context: WebContext, about: About) -> None:
        self._context = context
        self._about = about
        self._host = socket.gethostname()
        self._instance = secrets.token_hex(4)  # each page object counts its editions from 0
        self._edition = 0
        self._state: object = None
        self._entries: Sequence[Entry] = ()
        self._template: PageTemplate | None = None
        self._loading = asyncio.Lock()
        self._verdict: object = None
        self._segments: Sequence[Segment] = ()

    async def answer(self, request: web.Request) -> web.Response:
        """Return the page, 304 if only ages have changed, or the facts for a program."""
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            response = self._about.info(request)
            response.headers[hdrs.VARY] = hdrs.ACCEPT
            return response
        template = await self._loaded()
        etag = self._etag()
        headers = template.headers | {hdrs.ETAG: f'W/"{etag}"'}
        if any(known.value == etag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        day = await self._day()
        return web.Response(body=template.render(self._values(day)), headers=headers)

    async def _loaded(self) -> PageTemplate:
        async with self._loading:
            if self._template is None:
                self._template = await in_thread("load the status page", PageTemplate)
            return self._template

    async def _day(self) -> Sequence[DrawnSegment]:
        """Return the strip of the last day. The history is read once for each change of the verdict."""
        verdict = self._context.board.verdict
        key = verdict.status, verdict.since, verdict.advice
        if key != self._verdict:
            self._segments = await in_thread("read history", lambda: self._read(verdict))
            self._verdict = key
        return strip(self._segments, self._context.board.now())

    def _read(self, verdict: Verdict) -> Sequence[Segment]:
        """Return the segments by the whole history: what was before the day says how it began."""
        events = self._context.history.since(datetime.min.replace(tzinfo=UTC))
        return tuple(segments_of(events, verdict))

    def _values(self, day: Sequence[DrawnSegment]) -> dict[str, Any]:
        board, reloads = self._context.board, dict(self._reloads())
        worst_first = sorted(board, key=lambda entry: (-entry.status, entry.probe))
        trends, traffic = self._context.trends, self._context.traffic
        figures = [(entry, traffic.figures(entry.probe)) for entry in board]
        return {
            "host": self._host,
            "now": board.now(),
            "verdict": board.verdict,
            "draining": self._context.draining,
            "cards": [make_card(board, entry, reloads.get(entry.probe)) for entry in worst_first],
            "info": self._context.info,
            "runbook": self._context.loaded.settings.api.runbook_url,
            "day": day,
            "tables": list(filter(None, (shown_table(entry, trends) for entry in board))),
            "models": [model_row(entry, figure) for entry, figure in figures if figure is not None],
        }

    def _reloads(self) -> Iterator[tuple[str, ProbeReload]]:
        for name, watch in self._context.watches.items():
            if watch.reload is not None:
                yield name, watch.reload

    def _etag(self) -> str:
        """Return an ETag that changes with the page, except for ages. Entries are never changed."""
        reloads = [(name, reload.started_at, reload.done.done()) for name, reload in self._reloads()]
        context = self._context
        state = (context.draining, context.info, context.board.verdict, reloads, context.traffic.edition)
        entries = tuple(self._context.board)
        if state != self._state or not _same(entries, self._entries):
            self._state, self._entries = state, entries
            self._edition += 1
        return f"{self._instance}-{self._edition}"


class PageTemplate:
    """The page's template, style and script, which the first request reads and compiles.

    Without a request for the page, the daemon saves the memory of Jinja2.

    Attributes:
        headers: The headers of each response. The page may use only its own style and script, by their
            hashes, and send requests only to this server.
    """

    def __init__(self) -> None:
        folder = files("mlopsd.web.page")
        style, script, source = (
            folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "template.html")
        )
        self._template = _compile(source, style, script)
        self.headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept",
        }

    def render(self, values: Mapping[str, Any]) -> bytes:
        """Return the page with *values*."""
        return self._template.render(values).encode("utf-8", "replace")


def _compile(source: str, style: str, script: str) -> Template:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # only for the first page: see PageTemplate
    from markupsafe import Markup  # noqa: PLC0415  # the same

    def plain(value: object) -> str:
        """Return *value* as one text of the page, cut at `LONGEST` characters."""
        if isinstance(value, Markup):  # the template's own
            return value
        text = value if isinstance(value, str) else str(jsonable(value))
        return text if len(text) <= LONGEST else text[:LONGEST] + "…"

    environment = Environment(
        autoescape=True, finalize=plain, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "age": format_age,
        "duration": format_duration,
        "size": format_size,
        "time": format_time,
        "badge": badge_text,
    }
    environment.globals |= {
        **LIMITS,
        "style": Markup(style),
        "script": Markup(script),
        "made": hashlib.sha256((style + script).encode()).hexdigest()[:16],
    }
    return environment.from_string(source)


@dataclass(frozen=True, slots=True)
class ReloadLine:
    """The last reload of a probe, for its card."""

    state: str
    started_at: object
    detail: str | None


@dataclass(frozen=True, slots=True)
class ProbeCard:
    """One probe on the page. All texts of a probe are plain text.

    Attributes:
        entry: The board's entry.
        age: The seconds since the last check; None before the first.
        summary: The summary of the reading, or None if the list of findings begins with it.
        unwell: The findings that are not healthy, worst first, each since when it stands.
        well: The healthy findings in the same form.
        advice: The most drastic advice of *unwell*.
        reload: The last reload of the probe.
        versions: The facts about the versions of a model, which *rows* leaves out.
        plot: The plot of the last readings.
        rows: All other facts by their path.
    """

    entry: Entry
    age: float | None
    summary: str | None
    unwell: Sequence[tuple[Finding, datetime]]
    well: Sequence[tuple[Finding, datetime]]
    advice: Advice
    reload: ReloadLine | None
    versions: VersionFacts
    plot: Plot | None
    rows: Sequence[tuple[str, str]]

    @property
    def is_settled(self) -> bool:
        """Return whether the probe is healthy and its versions need no attention."""
        facts = self.versions
        is_moving = facts.drift_since or facts.progress or facts.rejected or facts.held_back
        return self.entry.status is Status.HEALTHY and not is_moving


def make_card(board: Board, entry: Entry, reload: ProbeReload | None) -> ProbeCard:
    """Return the card of *entry*."""
    findings = sorted(entry.reading.findings, key=lambda finding: (-finding.status, -finding.advice))
    unwell = [finding for finding in findings if finding.status != Status.HEALTHY]
    listed = [(plain_finding(finding), entry.since_of(finding)) for finding in findings]
    versions = VersionFacts.read(entry.facts)
    known = versions.facts() if versions.names_version else {}
    rest = {key: value for key, value in entry.facts.items() if key not in known}
    return ProbeCard(
        entry=entry,
        age=board.age(entry),
        summary=_summary(entry, unwell),
        unwell=listed[: len(unwell)],
        well=listed[len(unwell) :],
        advice=max((finding.advice for finding in unwell), default=Advice.NONE),
        reload=_reload_line(reload) if reload is not None else None,
        versions=versions,
        plot=plot(board.past(entry.probe)),
        rows=list(islice(_rows(rest, ""), LIMITS["most_rows"] + 1)),
    )


def _summary(entry: Entry, unwell: Sequence[Finding]) -> str | None:
    summary = str.__str__(entry.reading.summary)
    is_repeated_below = unwell and unwell[0].summary and summary.startswith(unwell[0].summary)
    return None if is_repeated_below else summary


def _reload_line(reload: ProbeReload) -> ReloadLine:
    state = reload_state(reload)
    return ReloadLine(state["state"], reload.started_at, jsonable(state.get("detail")))


def _rows(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield each nested value of *value* with its path, down to a limit, since it may contain itself."""
    if depth >= DEEPEST:
        yield path, "…"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _rows(item, _joined(path, key), depth + 1)
    elif isinstance(value, Sequence) and not _fits(value):
        for index, item in enumerate(value):
            yield from _rows(item, _joined(path, index), depth + 1)
    else:
        yield path, _fact_text(value)


def _fits(value: Sequence[object]) -> bool:
    """Return whether *value* is short enough for one row."""
    return isinstance(value, str | bytes) or (
        len(value) <= MOST_IN_ROW and not any(isinstance(item, Mapping | list | tuple) for item in value)
    )


def _joined(path: str, key: object) -> str:
    return f"{path}.{_fact_text(key)}" if path else _fact_text(key)


def _fact_text(value: object) -> str:
    plain = jsonable(value)
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if isinstance(plain, list):
        return ", ".join(map(_fact_text, plain)) or "none"
    return "none" if plain in (None, {}) else str(plain)


def _same(entries: Sequence[Entry], known: Sequence[Entry]) -> bool:
    return len(entries) == len(known) and all(map(operator.is_, entries, known))


def _source(code: str) -> str:
    """Return the source expression of *code* for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


@dataclass(frozen=True, slots=True)
class Plot:
    """The plot of the last readings: one bar each, the newest on the right.

    Attributes:
        paths: For each status, the SVG path of its readings.
        caption: The same as text.
        width: The width in units.
        height: The height in units.
    """

    paths: Sequence[tuple[Status, str]]
    caption: str
    width: int = PAST_READINGS * SLOT
    height: int = BASE


def plot(past: Sequence[PastReading]) -> Plot | None:
    """Return the plot of *past*, oldest first, or None without a reading."""
    return Plot(tuple(_plot_paths(past)), plot_caption(past)) if past else None


def plot_caption(past: Sequence[PastReading]) -> str:
    """Return *past* as text: "last 120 readings: 118 healthy, 2 unknown; newest healthy; longest 300 ms"."""
    raw = [reading.raw_status for reading in past]
    counts = ", ".join(f"{raw.count(status)} {status}" for status in Status if status in raw)
    many = "last reading" if len(past) == 1 else f"last {len(past)} readings"
    longest = max(reading.duration for reading in past)
    return f"{many}: {counts}; newest {raw[-1]}; longest {format_duration(longest)}"


def _plot_paths(past: Sequence[PastReading]) -> Iterator[tuple[Status, str]]:
    longest = max(reading.duration for reading in past) or 1
    first = PAST_READINGS - len(past)
    bars = [
        (reading.raw_status, _bar(reading, (first + at) * SLOT, longest)) for at, reading in enumerate(past)
    ]
    for status in Status:
        if path := "".join(bar for raw, bar in bars if raw == status):
            yield status, path


def _bar(reading: PastReading, x: int, longest: float) -> str:
    height = SHORTEST + (TALLEST - SHORTEST) * reading.duration / longest
    return f"M{x} {BASE}v-{height:.1f}h{BAR}V{BASE}z{SIGNS[reading.raw_status].format(x=x)}"
