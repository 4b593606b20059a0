"""The contract of a probe: all that a plugin author reads, and all of ours that a probe imports.

A complete probe::

    OPEN = Metric("open", help="1 while the rack's door is open.")


    class Door(Probe):
        metrics = (OPEN,)

        def check(self) -> Reading:
            is_open = read_the_switch()
            return Reading(
                findings=[Finding("door", Status.DEGRADED if is_open else Status.HEALTHY, "the door")],
                samples=[OPEN.sample(is_open)],
            )
"""

import enum
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar


class Status(enum.IntEnum):
    """The status of a thing, from best to worst, so that ``max()`` of several is the status of all.

    ``UNKNOWN`` is better than ``UNHEALTHY``: a probe that cannot tell never hides one that can.
    """

    HEALTHY = 0
    DEGRADED = 1
    UNKNOWN = 2
    UNHEALTHY = 3

    def __str__(self) -> str:
        return self.name.lower()


class Advice(enum.IntEnum):
    """The advice to a person, from nothing to the most drastic; mlopsd itself acts on none of it."""

    NONE = 0
    WATCH = 1
    RESTART_APP = 2
    FREE_RESOURCES = 3
    FIX_CONFIG = 4
    FIX_REGISTRY = 5
    RESET_GPU = 6
    REBOOT = 7
    REPLACE_HARDWARE = 8

    def __str__(self) -> str:
        return self.name.lower()


Number = int | float
Isolation = Literal["loop", "thread", "process"]
Access = Literal["read", "act", "predict"]
HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
MetricKind = Literal["gauge", "counter", "histogram"]

METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")
LABEL_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_LABELS = frozenset({"probe", "le", "quantile", "job", "instance"})
ROUTE_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\{[a-z][a-z0-9_]*\}"
ROUTE_PATH = re.compile(rf"(?:/(?:{ROUTE_SEGMENT}))+")
ROUTE_PARAMETER = re.compile(r"\{(\w+)\}")
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact inside a reading.

    Attributes:
        name: which judgement this is, the same at every check (``disk_space``).
        status: how bad the fact is.
        summary: one sentence for a person at 3 a.m., the number and the limit in it.
        subject: what it is about where there are several (``/var``, ``gpu 2``).
        observed: the number that was judged, in *unit*; None where none could be read.
        unit: ``bytes``, ``ratio``, ``celsius``, ``seconds``, ``watts`` …
        limit: the limit that *observed* was held against, in *unit*.
        advice: what to do about it.
        lasting: the trouble holds until somebody acts: a reset, a reboot, a replacement. A reading that
            cannot tell does not end it. Counts only for a degraded or an unhealthy finding.
    """

    name: str
    status: Status
    summary: str
    subject: str | None = None
    observed: Number | str | None = None
    unit: str | None = None
    limit: Number | None = None
    advice: Advice = Advice.NONE
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One number for Prometheus; made by `Metric.sample`, which knows its name and labels."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a number that a probe reports, as ``mlopsd_<plugin>_<name>{probe=…}``.

    Attributes:
        name: in base units, the unit at its end (``memory_free_bytes``); counters end in ``_total``.
        help: one sentence.
        kind: a gauge goes both ways; a counter only grows; a histogram counts observations.
        unit: the base unit that *name* carries (``bytes``, ``seconds``, ``celsius``, ``ratio``), or "".
        labels: the label names; every sample carries exactly these.
        buckets: the upper bounds of a histogram, ascending, without infinity.

    Raises:
        ValueError: a name, unit, label or bucket that Prometheus' naming rules do not allow.
    """

    name: str
    help: str
    kind: MetricKind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = DEFAULT_BUCKETS

    def __post_init__(self) -> None:
        if not METRIC_NAME.fullmatch(self.name):
            raise ValueError(f"metric name {self.name!r} is not of the form [a-z][a-z0-9_]*")
        if self.name.endswith(("_count", "_sum", "_bucket")):
            raise ValueError(f"metric name {self.name!r} ends like a part of a histogram")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"metric {self.name!r}: a counter, and only a counter, ends in _total")
        if self.unit and not self.name.removesuffix("_total").endswith(self.unit):
            raise ValueError(f"metric name {self.name!r} does not end in its unit {self.unit!r}")
        for label in self.labels:
            if not LABEL_NAME.fullmatch(label) or label in RESERVED_LABELS:
                raise ValueError(f"metric {self.name!r}: label {label!r} is reserved or not [a-z][a-z0-9_]*")
        if list(self.buckets) != sorted(set(self.buckets)) or not all(map(math.isfinite, self.buckets)):
            raise ValueError(f"metric {self.name!r}: buckets must ascend and be finite")

    def sample(self, value: Number, **labels: object) -> Sample:
        """*value* under this metric's name, with a value for each declared label.

        Raises:
            ValueError: a histogram (its observations go through `Context.histogram`), or labels that
                are not the declared ones.
        """
        if self.kind == "histogram":
            raise ValueError(f"metric {self.name!r} is a histogram: observe it through the context")
        return Sample(self.name, float(value), self.label_values(labels))

    def label_values(self, labels: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
        """*labels* as text, in the order they were declared.

        Raises:
            ValueError: a declared label is missing, or one that was not declared is there.
        """
        if len(labels) != len(self.labels) or any(name not in labels for name in self.labels):
            raise ValueError(f"metric {self.name!r} has the labels {self.labels}, not {tuple(labels)}")
        return tuple((name, str(labels[name])) for name in self.labels)


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one check.

    Attributes:
        findings: the judged facts; their worst is the status unless *status* says otherwise.
        samples: numbers for Prometheus, each of a metric that the probe declares; a subject that is
            left out vanishes from the next scrape.
        facts: whatever else is worth reading, as JSON; nothing secret.
        status: left out, the worst of *findings*, and ``UNKNOWN`` where there is none: never healthy
            without evidence.
        summary: left out, the sentence of the worst finding.
    """

    findings: Sequence[Finding] = ()
    samples: Sequence[Sample] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: Status = None  # type: ignore[assignment]  # set below, never None to a reader
    summary: str = ""

    def __post_init__(self) -> None:
        if self.status is None:
            worst = max((finding.status for finding in self.findings), default=Status.UNKNOWN)
            object.__setattr__(self, "status", worst)
        if not self.summary:
            object.__setattr__(self, "summary", self._summarise())

    def _summarise(self) -> str:
        troubles = [finding for finding in self.findings if finding.status != Status.HEALTHY]
        if troubles:
            worst = max(troubles, key=lambda finding: (finding.status, finding.advice))
            more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
            return worst.summary + more
        many = len(self.findings)
        told = "1 finding, healthy" if many == 1 else f"{many} findings, all healthy"
        return told if many else "nothing was found out"


class ProbeError(Exception):
    """Raised by a probe that cannot tell, with the cause and the cure; the reading is ``unknown``."""


class ReloadRefused(Exception):
    """Raised by `Probe.reload` that will not do it, with the reason; answered with 409."""


class Counter(Protocol):
    """A counter of what a probe does between its checks."""

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*, 0 or more."""


class Histogram(Protocol):
    """A histogram of what a probe does between its checks."""

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value* in its bucket."""

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Count what was counted elsewhere.

        *counts* are the numbers of observations in each bucket alone, one count for each bound of the
        metric and a last one beyond them; *total* is the sum of the values.
        """


class Instruments(Protocol):
    """Hands out the counters and histograms that a probe declared."""

    def counter(self, metric: Metric) -> Counter:
        """The counter that *metric* declares."""

    def histogram(self, metric: Metric) -> Histogram:
        """The histogram that *metric* declares."""


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of a probe, which it is given besides its options.

    Attributes:
        name: the probe's name in the configuration; two tables may use one plugin.
        state_dir: a folder of this probe's own that outlives restarts.
        log: a logger; fields go into ``extra``.
        board: the latest reading of every probe by name, as of now; empty in a child process.
        instruments: counters and histograms for what happens between checks.
        timeout: seconds that one check may take.
        request_check: asks for a check soon, because something has changed between two; on the event loop
            only.
        show_facts: shows facts beside the last reading, in place of those shown before, until the next
            one; on the event loop only.
        private_paths: files and folders of the daemon that are nobody else's, as its configuration, its
            keys and its state: what runs a stranger's code in a process keeps them from it; on the event
            loop only.
    """

    name: str
    state_dir: Path
    log: logging.Logger
    board: Mapping[str, Reading]
    instruments: Instruments
    timeout: float = math.inf
    request_check: Callable[[], None] = lambda: None
    show_facts: Callable[[Mapping[str, Any]], None] = lambda _facts: None
    private_paths: Callable[[], Sequence[Path]] = tuple


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a `Route`, its body read.

    Attributes:
        parameters: the segments that the route's path names in braces, decoded.
        query: the parameters behind the question mark; of one that is there twice, the first.
        headers: those of the request without keys and cookies.
        body: the whole body; empty for a route that may be read by anyone.
    """

    method: str = "GET"
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """Return the body's type with its parameters, or ""."""
        return self.headers.get("Content-Type", "")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The answer to an `HttpRequest`; *code* is the HTTP status, 200 to 599."""

    body: bytes = b""
    content_type: str = "application/json"
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """Raised by a route's handler instead of an answer; the caller gets a problem document.

    Attributes:
        code: the HTTP status, 400 to 599.
        detail: the cause and the fix, for the caller.
        retry_after: seconds after which to ask again, where that helps.
    """

    def __init__(self, code: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP route of a probe, at ``/probes/{probe}`` and its path.

    Attributes:
        path: begins with ``/``; a name in braces stands for one segment: ``/locks/{lock}``. The handler gets
            it decoded, and never ``.``, ``..`` or a text with ``/`` or a control character.
        handler: runs on the event loop, also for a probe whose checks run in a thread.
        summary: one sentence for ``/openapi.json`` and ``/info``.
        access: ``read`` is open to everybody and takes a GET; ``act`` needs the rights of an action;
            ``predict`` needs those of a prediction, and its handler minds its own clock.

    Raises:
        ValueError: a method, path, summary or access that a route cannot have.
    """

    method: HttpMethod
    path: str
    handler: Callable[[HttpRequest], Awaitable[HttpResponse]]
    summary: str
    access: Access = "act"

    def __post_init__(self) -> None:
        name = f"route {self.method} {self.path}"
        if self.method not in get_args(HttpMethod):
            raise ValueError(f"{name}: no such method; use {', '.join(get_args(HttpMethod))}")
        if not self.path.startswith("/"):
            raise ValueError(f"{name}: the path does not begin with /; write /{self.path}")
        if not ROUTE_PATH.fullmatch(self.path):
            raise ValueError(f"{name}: not a path of segments like /locks or /{{lock}}, without / at its end")
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"{name}: two parameters have one name; rename one")
        if self.access not in get_args(Access):
            raise ValueError(f"{name}: no such access: {self.access!r}; use {', '.join(get_args(Access))}")
        if self.access == "read" and self.method != "GET":
            raise ValueError(f"{name}: what everybody may ask is a GET; use GET, or access act or predict")
        if not self.summary.strip():
            raise ValueError(f"{name}: no summary; write a sentence for those who read the API")
        if not iscoroutinefunction(self.handler):
            raise ValueError(f"{name}: its handler is no coroutine function; write async def")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names in braces."""
        return tuple(ROUTE_PARAMETER.findall(self.path))

    @property
    def shape(self) -> tuple[str, str]:
        """Return a value that is equal for routes that no request can tell apart."""
        return self.method, ROUTE_PARAMETER.sub("{}", self.path)


class Options(BaseModel):
    """A probe's own keys in its table of the configuration; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The time and place of a probe's checks unless the configuration says otherwise.

    Attributes:
        interval: seconds between two checks.
        timeout: seconds that one check may take.
        fail_after: readings in a row before the status worsens.
        recover_after: readings in a row before it recovers.
        isolation: where a plain ``def check`` runs; an ``async def check`` that is not given a process
            runs on the event loop.
        critical: its status alone can make the host unhealthy; otherwise it makes it degraded at most.
    """

    interval: float = 30.0
    timeout: float = 10.0
    fail_after: int = 2
    recover_after: int = 2
    isolation: Isolation = "thread"
    critical: bool = False


OptionsT = TypeVar("OptionsT", bound=Options, default=Options)


class Probe(Generic[OptionsT]):
    """A thing that can be asked how it is.

    Attributes:
        Options: the model of the probe's own keys in the configuration.
        metrics: every number that it can report.
        schedule: the defaults of its table.
        subject: the keys of its table that say what it looks at, as ``("path",)``; the others are limits.
            A reload that changes none of these keeps the status until the next reading. None: every key.
    """

    Options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = ()
    schedule: ClassVar[Schedule] = Schedule()
    subject: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, options: OptionsT, context: Context) -> None:
        self.options = options
        self.context = context

    @classmethod
    def declares(cls, _options: OptionsT) -> Sequence[Metric]:
        """`metrics`, or where a table may change buckets, what they are with these options."""
        return cls.metrics

    def check(self) -> Reading | Awaitable[Reading]:
        """Look once. A plain method may block and runs in a worker; a coroutine must not block.

        Raises:
            ProbeError: it cannot tell, and why.
        """
        raise NotImplementedError

    def reload(self, *, dry_run: bool, force: bool) -> str | Awaitable[str]:
        """Take the subject up anew and say in one sentence what was done, or with *dry_run* would be.

        A probe that does not define it answers ``POST /health/{probe}/reload`` with 405.

        Raises:
            ReloadRefused: it will not, and why; *force* overrides what may be overridden.
        """
        raise NotImplementedError

    def routes(self) -> Sequence[Route]:
        """Return the probe's own HTTP routes; called when the probe has been made."""
        return ()

    def close(self) -> Awaitable[None] | None:
        """Release what the probe holds; called once, after the last check."""


def can_reload(probe: type[Probe[Any]]) -> bool:
    """Tell if *probe* defines `Probe.reload`."""
    return probe.reload is not Probe.reload


def has_routes(probe: type[Probe[Any]]) -> bool:
    """Tell if *probe* defines `Probe.routes`."""
    return probe.routes is not Probe.routes


def declared_routes(probe: Probe[Any]) -> tuple[Route, ...]:
    """Return the routes of *probe*.

    Raises:
        TypeError: it returns something else.
        ValueError: two of them are alike to every request.
    """
    routes = tuple(probe.routes())
    known: dict[tuple[str, str], Route] = {}
    for route in routes:
        if not isinstance(route, Route):
            wrong = f"{type(route).__name__} {route!r:.60}"
            raise TypeError(f"routes() has {wrong}; return a list of mlopsd.probe.Route(…)")
        if (other := known.get(route.shape)) is not None:
            alike = f"{other.method} {other.path} and {route.method} {route.path}"
            raise ValueError(f"two routes are alike: {alike}; change or remove one")
        known[route.shape] = route
    return routes
