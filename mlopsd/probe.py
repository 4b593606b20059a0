"""The contract of a probe: the one module that a plugin author reads and that a probe imports.

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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Never, Protocol, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

__all__ = [
    "API_VERSION",
    "DEFAULT_BUCKETS",
    "Access",
    "Advice",
    "Column",
    "Context",
    "Counter",
    "Diagnosis",
    "DiagnosisStatus",
    "Finding",
    "Histogram",
    "HttpError",
    "HttpMethod",
    "HttpRequest",
    "HttpResponse",
    "Instruments",
    "Isolation",
    "Metric",
    "MetricKind",
    "Number",
    "Options",
    "OptionsT",
    "Probe",
    "ProbeError",
    "Reading",
    "ReloadRefused",
    "Route",
    "Sample",
    "Schedule",
    "Setup",
    "Status",
    "SubjectTable",
]

API_VERSION = 1
"""The version of the contract. It grows with every change that can break a probe."""


class Status(enum.IntEnum):
    """A status, ordered from best to worst: ``max()`` of several is the status of all.

    ``UNKNOWN`` is better than ``UNHEALTHY``: an unknown status never hides an unhealthy one.
    """

    HEALTHY = 0
    DEGRADED = 1
    UNKNOWN = 2
    UNHEALTHY = 3

    def __str__(self) -> str:
        return self.name.lower()


class Advice(enum.IntEnum):
    """An advice to a person, from none to the most drastic. mlopsd itself never acts on it.

    - ``NONE``: nothing to do, or another finding names the cause.
    - ``WATCH``: look at the next readings. Not for what is unhealthy or unknown for long.
    - ``RESTART_APP``: restart the program that the finding names.
    - ``FREE_RESOURCES``: free memory, disk space or handles.
    - ``FIX_CONFIG``: correct credentials, packages, services or limits on this host.
    - ``FIX_MODEL``: the version or its alias is bad, and its owner acts.
    - ``FIX_REGISTRY``: the registry itself is down or broken.
    - ``RESET_GPU``: drain the host and reset the card.
    - ``REBOOT``: drain the host and reboot it.
    - ``CHECK_HARDWARE``: look at the cooling, the power cables and the seating.
    - ``REPLACE_HARDWARE``: replace the part.
    """

    NONE = 0
    WATCH = 1
    RESTART_APP = 2
    FREE_RESOURCES = 3
    FIX_CONFIG = 4
    FIX_MODEL = 5
    FIX_REGISTRY = 6
    RESET_GPU = 7
    REBOOT = 8
    CHECK_HARDWARE = 9
    REPLACE_HARDWARE = 10

    def __str__(self) -> str:
        return self.name.lower()


Number = int | float
Isolation = Literal["loop", "thread", "process"]
Access = Literal["read", "act", "predict"]
HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
MetricKind = Literal["gauge", "counter", "histogram"]
DiagnosisStatus = Literal["ok", "problem", "not_checked"]

METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")
LABEL_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_LABELS = frozenset({"probe", "le", "quantile", "job", "instance"})
ROUTE_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\{[a-z][a-z0-9_]*\}"
ROUTE_PATH = re.compile(rf"(?:/(?:{ROUTE_SEGMENT}))+")
ROUTE_PARAMETER = re.compile(r"\{(\w+)\}")
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
BASE_UNITS = (
    *("amperes", "bytes", "celsius", "coulombs", "farads", "grams", "hertz", "joules", "kelvins", "lumens"),
    *(
        "lux",
        "meters",
        "newtons",
        "ohms",
        "pascals",
        "radians",
        "ratio",
        "seconds",
        "teslas",
        "volts",
        "watts",
    ),
)
BASE_OF: Mapping[str, str] = {
    **dict.fromkeys(
        ("ns", "us", "ms", "sec", "secs", "s", "min", "mins", "minutes", "hours", "days"), "seconds"
    ),
    **dict.fromkeys(("nanoseconds", "microseconds", "milliseconds", "second"), "seconds"),
    **dict.fromkeys(("b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "bits", "byte"), "bytes"),
    **dict.fromkeys(("kilobytes", "megabytes", "gigabytes", "terabytes"), "bytes"),
    **dict.fromkeys(("kibibytes", "mebibytes", "gibibytes", "tebibytes"), "bytes"),
    **dict.fromkeys(("percent", "pct", "%", "percentage", "ratios"), "ratio"),
    **dict.fromkeys(("hz", "khz", "mhz", "ghz", "kilohertz", "megahertz", "gigahertz"), "hertz"),
    **dict.fromkeys(("w", "mw", "kw", "milliwatts", "kilowatts", "watt"), "watts"),
    **dict.fromkeys(("wh", "kwh", "joule", "kilojoules"), "joules"),
    **dict.fromkeys(("v", "mv", "millivolts", "volt"), "volts"),
    **dict.fromkeys(("a", "ma", "milliamperes", "amps", "ampere"), "amperes"),
    **dict.fromkeys(("c", "f", "fahrenheit", "degrees"), "celsius"),
}
"""The base unit for each usual unit that is none."""
NEVER_AT_THE_END = frozenset(
    {
        *("ms", "milliseconds", "microseconds", "nanoseconds", "percent", "pct", "fahrenheit", "kwh"),
        *(
            "kb",
            "mb",
            "gb",
            "tb",
            "kib",
            "mib",
            "gib",
            "tib",
            "khz",
            "mhz",
            "ghz",
            "milliwatts",
            "millivolts",
        ),
        *(
            "kilobytes",
            "megabytes",
            "gigabytes",
            "terabytes",
            "kibibytes",
            "mebibytes",
            "gibibytes",
            "tebibytes",
        ),
        *("kilohertz", "megahertz", "gigahertz", "kilowatts", "milliamperes", "kilojoules"),
    }
)
"""The units at the end of a metric's name that can mean nothing else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact of a reading.

    Attributes:
        name: The name of the judgement, the same at every check (``disk_space``).
        status: How bad the fact is.
        summary: One sentence for a person at 3 a.m., with the number and the limit.
        subject: The thing that was judged, if there are several (``/var``, ``gpu 2``).
        observed: The number that was judged, in *unit*; None if it could not be read.
        unit: ``bytes``, ``ratio``, ``celsius``, ``seconds``, ``watts`` …
        limit: The limit that *observed* was compared with, in *unit*.
        advice: What a person should do about it.
        lasting: True if the problem stays until somebody acts: a reset, a reboot, a replacement.
            An unknown reading does not end it. Counts only if *status* is degraded or unhealthy.
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
    """One number for Prometheus. Make it with `Metric.sample`, which adds the name and the labels."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric that a probe reports, as ``mlopsd_<plugin>_<name>{probe=…}``.

    Attributes:
        name: The name, with its base unit at the end (``memory_free_bytes``). Counters end in ``_total``.
        help: One sentence.
        kind: A gauge goes up and down, a counter only grows, a histogram counts observations.
        unit: The base unit at the end of *name* (``bytes``, ``seconds``, ``celsius``, ``ratio``), or "".
        labels: The label names; every sample carries exactly these.
        buckets: The upper bounds of a histogram in *unit*, ascending, without infinity.

    Raises:
        ValueError: Prometheus' naming rules do not allow the name, the unit, a label or a bucket.
    """

    name: str
    help: str
    kind: MetricKind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = DEFAULT_BUCKETS

    def __post_init__(self) -> None:
        self._check_name()
        if self.kind not in get_args(MetricKind):
            raise self._wrong(f"unknown kind {self.kind!r}; use {', '.join(get_args(MetricKind))}")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise self._wrong("a counter, and only a counter, ends in _total; rename it or change its kind")
        if not isinstance(self.help, str) or not self.help.strip():
            raise self._wrong("the help is empty; write one sentence")
        self._check_unit()
        object.__setattr__(self, "labels", self._plain("labels", self.labels, '("disk",)'))
        self._check_labels()
        object.__setattr__(self, "buckets", self._plain("buckets", self.buckets, "(0.1, 1.0, 10.0)"))
        self._check_buckets()

    def _wrong(self, complaint: str) -> ValueError:
        return ValueError(f"metric {self.name!r}: {complaint}")

    def _check_name(self) -> None:
        if not isinstance(self.name, str) or not METRIC_NAME.fullmatch(self.name):
            raise ValueError(
                f"metric name {self.name!r} is not of the form [a-z][a-z0-9_]*; write it like open_files"
            )
        if self.name.startswith("mlopsd_"):
            raise self._wrong("mlopsd_ and the plugin's name are added to it; leave them out")
        if self.name.endswith(("_count", "_sum", "_bucket")):
            raise self._wrong("it ends like a part of a histogram; rename it")

    def _check_unit(self) -> None:
        base = self.name.removesuffix("_total")
        last = base.rpartition("_")[2]
        if self.unit and not _is_base(self.unit):
            known = BASE_OF.get(str(self.unit).lower())
            fix = f"use {known!r}" if known else f"use one of {', '.join(BASE_UNITS)}"
            raise self._wrong(f'{self.unit!r} is not a base unit; {fix}, or unit="" for a plain number')
        if self.unit and not f"_{base}".endswith(f"_{self.unit}"):
            raise self._wrong(f"its name does not end in its unit {self.unit}; rename it or change its unit")
        if last in NEVER_AT_THE_END:
            raise self._wrong(f"{last!r} is not a base unit; report {BASE_OF[last]} and rename it")

    def _plain(self, what: str, values: object, example: str) -> tuple[Any, ...]:
        """Return *values* as a tuple. A list is as good, since the author can no longer change it."""
        if not isinstance(values, tuple | list):
            raise self._wrong(f"the {what} are {values!r:.60}, not a tuple; write {what}={example}")
        return tuple(values)

    def _check_labels(self) -> None:
        for label in self.labels:
            if not isinstance(label, str) or not LABEL_NAME.fullmatch(label) or label in RESERVED_LABELS:
                raise self._wrong(f"label {label!r} is reserved or not [a-z][a-z0-9_]*; rename it")
        if len(set(self.labels)) < len(self.labels):
            raise self._wrong(f"two of its labels have one name ({', '.join(self.labels)}); remove one")

    def _check_buckets(self) -> None:
        numbers = [bound for bound in self.buckets if isinstance(bound, int | float) and math.isfinite(bound)]
        if len(numbers) < len(self.buckets) or numbers != sorted(set(numbers)):
            raise self._wrong(f"the buckets must ascend and be finite numbers, not {self.buckets!r:.60}")
        if self.kind == "histogram" and not numbers:
            raise self._wrong("a histogram needs buckets; write at least one bound")

    def sample(self, value: Number, *by_place: Never, **labels: object) -> Sample:
        """Return a sample of *value*, in the metric's unit, with a value for each declared label.

        Write a label by its name: ``BAD_SECTORS.sample(7, disk="sda")``.

        Raises:
            ValueError: The metric is a histogram: observe it with ``context.instruments.histogram``. Or
                *labels* are not the declared ones.
            TypeError: The value is not a number, or a label has no name.
        """
        if self.kind == "histogram":
            call = f"self.context.instruments.histogram({self.name.upper()}).observe(value)"
            raise self._wrong(f"a histogram has no samples; call {call}")
        if by_place:
            raise TypeError(f"metric {self.name!r}: a label has no name; call {self._call('sample')}")
        return Sample(self.name, self._number(value), self.label_values(labels))

    def _number(self, value: object) -> float:
        if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            fix = "leave the sample out if it could not be read"
            raise TypeError(f"metric {self.name!r}: the value {value!r:.60} is not a number; {fix}")
        return float(value)

    def label_values(self, labels: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
        """Return the label names and values as text, in the order of the declaration.

        Raises:
            ValueError: A declared label is missing, or a label is not declared.
        """
        if len(labels) != len(self.labels) or any(name not in labels for name in self.labels):
            has = f"has the labels {', '.join(self.labels)}" if self.labels else "has no labels"
            given = ", ".join(labels) or "none"
            call = self._call("sample" if self.kind == "gauge" else "inc")
            raise ValueError(f"metric {self.name!r} {has}, and the call names {given}; call {call}")
        return tuple((name, str(labels[name])) for name in self.labels)

    def _call(self, method: str) -> str:
        arguments = ", ".join(["value", *(f"{label}=…" for label in self.labels)])
        return f"{method}({arguments})"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a probe's table on the status page: a gauge, once for each row.

    Attributes:
        title: The heading (``Memory``).
        metric: A gauge that the probe declares, with the row's label.
        where: The values of other labels that choose one number (``{"engine": "compute"}``).
        limit: The gauge that *metric* is compared with, as a bar. Without it, only a ratio has a bar.
        limit_where: The values of other labels that choose one limit.
        has_trend: True for a sparkline of the last 30 minutes.

    Raises:
        ValueError: The title is empty, or *metric* or *limit* is no gauge.
    """

    title: str
    metric: Metric
    where: Mapping[str, str] = field(default_factory=dict)
    limit: Metric | None = None
    limit_where: Mapping[str, str] = field(default_factory=dict)
    has_trend: bool = False

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise ValueError(f"the column of {self.metric.name!r} has no title; write one word")
        for metric in filter(None, (self.metric, self.limit)):
            if metric.kind != "gauge":
                raise ValueError(
                    f"column {self.title!r}: {metric.name!r} is a {metric.kind}; a column shows a gauge"
                )


@dataclass(frozen=True, slots=True)
class SubjectTable:
    """A table on the status page, with a row for each subject of a probe.

    A finding belongs to the row ``2`` of the label ``gpu`` if its subject is ``gpu 2`` or ``2``.

    Attributes:
        label: The label of the columns' metrics whose values are the rows (``gpu``).
        columns: The columns, from left to right.
        fact: The name of a fact with a list of mappings, one for each row (``gpus``); "" without one.
        key: The key in such a mapping with the value of the label (``index``).
        texts: The keys in such a mapping that are shown as text, each with its heading.

    Raises:
        ValueError: The metric of a column does not have the label.
    """

    label: str
    columns: tuple[Column, ...]
    fact: str = ""
    key: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in self.columns:
            for metric in filter(None, (column.metric, column.limit)):
                if self.label not in metric.labels:
                    raise ValueError(
                        f"column {column.title!r}: {metric.name!r} has no label {self.label!r}; add it"
                    )


def _is_base(unit: object) -> bool:
    """Return whether *unit* is a base unit, or one of them per another: ``bytes_per_second``."""
    upper, per, lower = str(unit).partition("_per_")
    return upper in BASE_UNITS and (not per or lower in BASE_UNITS or f"{lower}s" in BASE_UNITS)


def _check_list(what: str, values: object, item: type) -> None:
    """Check that *values* is a list of *item*.

    Raises:
        TypeError: It is not: a generator, for example, could be read only once.
    """
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise TypeError(f"the {what} are of the type {type(values).__name__}, not a list; write {what}=[…]")
    for value in values:
        if not isinstance(value, item):
            raise TypeError(
                f"the {what} have {value!r:.60}, which is no {item.__name__}; write {item.__name__}(…)"
            )


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one check.

    Attributes:
        findings: The judged facts.
        samples: Numbers for Prometheus, each of a metric that the probe declares. A subject without
            a sample is gone from the next scrape.
        facts: Other facts as JSON, nothing secret.
        status: Defaults to the worst status of *findings*, or to ``UNKNOWN`` without findings: never
            healthy without evidence.
        summary: Defaults to the summary of the worst finding, with the number of other problems. A finding
            without advice is a consequence of one that has an advice, and is not counted beside it.

    Raises:
        ValueError: The status is worse than every finding, and no summary says why.
    """

    findings: Sequence[Finding] = ()
    samples: Sequence[Sample] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: Status = None  # type: ignore[assignment]  # set below, never None to a reader
    summary: str = ""

    def __post_init__(self) -> None:
        _check_list("findings", self.findings, Finding)
        _check_list("samples", self.samples, Sample)
        if self.status is None:
            object.__setattr__(self, "status", self._worst())
        if not self.summary:
            self._check_cause()
            object.__setattr__(self, "summary", self._summarise())

    def _worst(self) -> Status:
        return max((finding.status for finding in self.findings), default=Status.UNKNOWN)

    def _check_cause(self) -> None:
        statuses = [self.status, *(finding.status for finding in self.findings)]
        if not all(isinstance(status, Status) for status in statuses):
            return  # the daemon rejects such a reading, with a reason of its own
        if self.status > (worst := self._worst()):
            found = f"no finding is worse than {worst}" if self.findings else "it has no finding"
            raise ValueError(
                f"the reading is {self.status}, but {found}; add a finding or a summary that says why"
            )

    def _summarise(self) -> str:
        problems = [finding for finding in self.findings if finding.status != Status.HEALTHY]
        if problems:
            worst = max(problems, key=lambda finding: (finding.status, finding.advice))
            others = sum(one is not worst and bool(one.advice or not worst.advice) for one in problems)
            return worst.summary + (f" (and {others} more)" if others else "")
        count = len(self.findings)
        text = "1 finding, healthy" if count == 1 else f"{count} findings, all healthy"
        return text if count else "nothing was found out"


class ProbeError(Exception):
    """The error of a probe that cannot determine a status: the message has the cause and the fix.

    The reading becomes ``unknown``.
    """


class ReloadRefused(Exception):
    """The error of a `Probe.reload` that refuses, with the reason. The HTTP response is 409."""


class Counter(Protocol):
    """A counter of events between the checks of a probe."""

    def inc(self, amount: Number = 1, **labels: object) -> None:
        """Add *amount*, which is 0 or more."""


class Histogram(Protocol):
    """A histogram of values between the checks of a probe."""

    def observe(self, value: Number, **labels: object) -> None:
        """Count *value*, in the metric's unit, in its bucket."""

    def observe_counts(self, counts: Sequence[int], total: Number, **labels: object) -> None:
        """Add observations that were counted elsewhere, in another process for example.

        Args:
            counts: The number of observations in each bucket alone (not cumulative): one per bound of
                the metric, then one for values above the last bound.
            total: The sum of the observed values, in the metric's unit.
            labels: A value for each declared label.
        """


class Instruments(Protocol):
    """The counters and histograms that a probe declared."""

    def counter(self, metric: Metric) -> Counter:
        """Return the counter that *metric* declares."""

    def histogram(self, metric: Metric) -> Histogram:
        """Return the histogram that *metric* declares."""


@dataclass(frozen=True, slots=True)
class Context:
    """The daemon's side of a probe, which the constructor gets with the options.

    Call *request_check*, *show_facts* and *private_paths* on the event loop only.

    Attributes:
        name: The probe's name in the configuration; two tables may use one plugin.
        state_dir: A folder for this probe alone. It survives restarts.
        log: A logger; put fields into ``extra``.
        board: The latest reading of every probe by name; empty in a child process.
        instruments: Counters and histograms of events between checks.
        timeout: The seconds that one check may take.
        request_check: Requests a check soon, because something changed since the last one.
        show_facts: Shows facts with the last reading until the next reading. They replace the facts
            that the last call showed.
        private_paths: Returns files and folders of the daemon alone: its configuration, keys and state.
            A probe that runs third-party code in a process hides them from it.
    """

    name: str
    state_dir: Path
    log: logging.Logger
    board: Mapping[str, Reading]
    instruments: Instruments
    timeout: float = 10.0
    request_check: Callable[[], None] = lambda: None
    show_facts: Callable[[Mapping[str, Any]], None] = lambda _facts: None
    private_paths: Callable[[], Sequence[Path]] = tuple


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a `Route`, with its body.

    Attributes:
        method: The HTTP method.
        parameters: The path segments that the route names in braces, decoded.
        query: The query parameters. If one occurs twice, the first value counts.
        headers: The headers of the request, without keys and cookies.
        body: The whole body; empty if the route's access is ``read``.
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
    """The response to an `HttpRequest`. *code* is the HTTP status, 200 to 599."""

    body: bytes = b""
    content_type: str = "application/json"
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """The error of a route's handler. The caller gets a problem document (RFC 9457).

    Attributes:
        code: The HTTP status, 400 to 599.
        detail: The cause and the fix, for the caller.
        retry_after: The seconds after which a retry can succeed, or None.
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
        access: ``read`` is open to everybody and takes a GET. ``act`` needs the rights of an action.
            ``predict`` needs those of a prediction, and its handler limits its own time.

    Raises:
        ValueError: The method, path, summary or access is invalid.
    """

    method: HttpMethod
    path: str
    handler: Callable[[HttpRequest], Awaitable[HttpResponse]]
    summary: str
    access: Access = "act"

    def __post_init__(self) -> None:
        name = f"route {self.method} {self.path}"
        if self.method not in get_args(HttpMethod):
            raise ValueError(f"{name}: unknown method; use {', '.join(get_args(HttpMethod))}")
        if not self.path.startswith("/"):
            raise ValueError(f"{name}: the path must begin with /; write /{self.path}")
        if not ROUTE_PATH.fullmatch(self.path):
            raise ValueError(
                f"{name}: the path is not made of segments like /locks or /{{lock}}, or ends in /; change it"
            )
        if len(set(self.parameters)) < len(self.parameters):
            raise ValueError(f"{name}: two parameters have the same name; rename one")
        if self.access not in get_args(Access):
            raise ValueError(f"{name}: unknown access {self.access!r}; use {', '.join(get_args(Access))}")
        if self.access == "read" and self.method != "GET":
            raise ValueError(f"{name}: access read needs a GET; use GET, or access act or predict")
        if not self.summary.strip():
            raise ValueError(f"{name}: the summary is empty; write one sentence for users of the API")
        if not iscoroutinefunction(self.handler):
            raise ValueError(f"{name}: the handler is not a coroutine function; write async def")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names in braces, in the order of the path."""
        return tuple(ROUTE_PARAMETER.findall(self.path))

    @property
    def shape(self) -> tuple[str, str]:
        """Return the method and the path without names: equal for two routes that match the same requests."""
        return self.method, ROUTE_PARAMETER.sub("{}", self.path)


class Options(BaseModel):
    """The probe's own keys in its configuration table. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The defaults of a probe's schedule; the configuration overrides each of them.

    Attributes:
        interval: The seconds between two checks.
        timeout: The seconds that one check may take.
        fail_after: The consecutive worse readings before the status worsens.
        recover_after: The consecutive better readings before the status recovers.
        isolation: Where a plain ``def check`` runs. An ``async def check`` runs on the event loop,
            unless *isolation* is ``process``.
        critical: True if this probe alone can make the host unhealthy. Otherwise it makes the host
            degraded at most.
    """

    interval: float = 30.0
    timeout: float = 10.0
    fail_after: int = 2
    recover_after: int = 2
    isolation: Isolation = "thread"
    critical: bool = False


OptionsT = TypeVar("OptionsT", bound=Options, default=Options)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line of ``mlopsd doctor``.

    Attributes:
        status: ``not_checked`` if it cannot be known; then *summary* has the reason.
        summary: One sentence with the name of the thing.
        fix: For a problem: a command or a line of the configuration that can be pasted.

    Raises:
        ValueError: The status is unknown, the summary is empty, or a problem has no fix.
    """

    status: DiagnosisStatus
    summary: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.status not in get_args(DiagnosisStatus):
            known = ", ".join(get_args(DiagnosisStatus))
            raise ValueError(f"a diagnosis is {self.status!r:.60}; use one of {known}")
        if not self.summary.strip():
            raise ValueError("a diagnosis has no summary; write one sentence")
        if (self.status == "problem") != bool(self.fix.strip()):
            raise ValueError(f"a problem, and only a problem, has a fix: {self.summary!r:.60}; correct it")


@dataclass(frozen=True, slots=True)
class Setup(Generic[OptionsT]):
    """The setup of a plugin on this host, for `Probe.diagnose`.

    Attributes:
        tables: The options of each enabled table that uses the plugin, by the table's name.
        folders: The state folder of mlopsd and of each probe, by their purpose; empty if not known.
        facts: The facts that the running daemon shows, by the table's name. None if no daemon of this host
            answers over its Unix socket.
        scratch: An empty folder, which is removed afterwards.
        has_environment: True if this process has the environment variables of the daemon.
    """

    tables: Mapping[str, OptionsT]
    folders: Mapping[str, Path]
    facts: Mapping[str, Mapping[str, Any]] | None
    scratch: Path
    has_environment: bool = True


class Probe(Generic[OptionsT]):
    """One check of this host, run by the daemon at an interval.

    Attributes:
        Options: The model of the probe's own keys in the configuration. A class ``Door(Probe[DoorOptions])``
            gets it from its type argument.
        metrics: Every metric that it can report.
        schedule: The defaults of its table.
        subject: The keys of its table that select what it checks, for example ``("path",)``. The other
            keys are limits: a reload that changes only limits keeps the status until the next reading.
            None means that every key belongs to the subject.
        table: The table of its subjects on the status page; None without one.
        api_version: The `API_VERSION` that the probe was written for. The daemon refuses another one.
            None if the probe does not say.
    """

    Options: ClassVar[type[Options]] = Options
    metrics: ClassVar[tuple[Metric, ...]] = ()
    schedule: ClassVar[Schedule] = Schedule()
    subject: ClassVar[tuple[str, ...] | None] = None
    table: ClassVar[SubjectTable | None] = None
    api_version: ClassVar[int | None] = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "Options" not in cls.__dict__ and (argument := type_argument(cls)) is not None:
            cls.Options = argument

    def __init__(self, options: OptionsT, context: Context) -> None:
        self.options = options
        self.context = context

    @classmethod
    def declares(cls, _options: OptionsT) -> Sequence[Metric]:
        """Return `metrics`. Override it if options change the buckets of a metric."""
        return cls.metrics

    @classmethod
    def diagnose(cls, _setup: Setup[OptionsT]) -> Iterable[Diagnosis]:
        """Return what ``mlopsd doctor`` shows about the setup of this plugin.

        It is called without a daemon, in a thread with a time limit, also if no table uses the plugin. It
        must change nothing.
        """
        return ()

    def check(self) -> Reading | Awaitable[Reading]:
        """Check once and return the reading.

        A plain method may block: it runs in a worker. A coroutine must not block.

        Raises:
            ProbeError: The probe cannot determine a status; the message has the cause and the fix.
        """
        raise NotImplementedError

    def reload(self, *, dry_run: bool, force: bool) -> str | Awaitable[str]:
        """Reload the subject and return one sentence that says what was done.

        Without this method, ``POST /health/{probe}/reload`` is answered with 405.

        Args:
            dry_run: Change nothing, and return what a reload would do.
            force: Override the refusals that may be overridden.

        Raises:
            ReloadRefused: The probe refuses, with the reason.
        """
        raise NotImplementedError

    def routes(self) -> Sequence[Route]:
        """Return the probe's own HTTP routes; called when the probe has been made."""
        return ()

    def close(self) -> Awaitable[None] | None:
        """Release the probe's resources. The daemon calls it once, after the last check."""


def type_argument(probe: type[Probe[Any]]) -> type[Options] | None:
    """Return ``DoorOptions`` of a class ``Door(Probe[DoorOptions])``, or None without a type argument."""
    for base in probe.__dict__.get("__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, Probe):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Options):
                    return argument
    return None


def make_probe(probe: type[Probe[OptionsT]], options: OptionsT, context: Context) -> Probe[OptionsT]:
    """Return a probe of the class *probe*.

    Raises:
        TypeError: Its constructor does not call the one of `Probe`.
    """
    made = probe(options, context)
    if not isinstance(made, probe):
        fix = "remove its __new__, or return an instance from it"
        raise TypeError(f"{probe.__name__}(options, context) is of the type {type(made).__name__}; {fix}")
    if not (hasattr(made, "options") and hasattr(made, "context")):
        fix = "call super().__init__(options, context) in it"
        raise TypeError(f"{probe.__name__}.__init__ leaves out the constructor of Probe; {fix}")
    return made


def can_reload(probe: type[Probe[Any]]) -> bool:
    """Return whether *probe* defines `Probe.reload`."""
    return probe.reload is not Probe.reload


def has_routes(probe: type[Probe[Any]]) -> bool:
    """Return whether *probe* defines `Probe.routes`."""
    return probe.routes is not Probe.routes


def declared_routes(probe: Probe[Any]) -> tuple[Route, ...]:
    """Return the routes of *probe*.

    Raises:
        TypeError: `Probe.routes` returns something else.
        ValueError: Two routes match the same requests.
    """
    found = probe.routes()
    routes = tuple(found) if isinstance(found, Iterable) else (found,)
    known: dict[tuple[str, str], Route] = {}
    for route in routes:
        if not isinstance(route, Route):
            wrong = f"{type(route).__name__} {route!r:.60}"
            raise TypeError(f"routes() returned {wrong}; return a list of mlopsd.probe.Route(…)")
        if (other := known.get(route.shape)) is not None:
            both = f"{other.method} {other.path} and {route.method} {route.path}"
            raise ValueError(f"two routes match the same requests: {both}; change or remove one")
        known[route.shape] = route
    return routes
