"""The JSON of each response as a type, the source of the API's description and of its test.

A key without a value is left out, never null.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

StatusWord = Literal["healthy", "degraded", "unknown", "unhealthy"]
AdviceWord = Literal[
    "none",
    "watch",
    "restart_app",
    "free_resources",
    "fix_config",
    "fix_model",
    "fix_registry",
    "reset_gpu",
    "reboot",
    "check_hardware",
    "replace_hardware",
]
PROBLEM_TYPE = "application/problem+json"  # of RFC 9457
ReloadWord = Literal["running", "done", "refused", "failed"]
Time = Annotated[str, Field(description="RFC 3339, UTC", json_schema_extra={"format": "date-time"})]
Seconds = Annotated[float, Field(ge=0, description="seconds")]
Count = Annotated[int, Field(ge=0)]


class FindingAnswer(TypedDict):
    """One judged fact of a reading; `observed` and `limit` are in `unit`.

    `since` is the time when it appeared with this status. A restart of the daemon starts it over.
    `lasting` is true if the finding stays until somebody acts; otherwise it is left out.
    """

    name: str
    subject: NotRequired[str]
    status: StatusWord
    since: Time
    observed: NotRequired[int | float | str]
    unit: NotRequired[str]
    limit: NotRequired[int | float]
    summary: str
    advice: AdviceWord
    lasting: NotRequired[bool]


class ReloadState(TypedDict):
    """State of the last reload of a probe. `detail` is its own sentence, or the reason of a failure."""

    state: ReloadWord
    started_at: Time
    detail: NotRequired[str]


class NumberAnswer(TypedDict):
    """A number for one line: over all rows of a probe's table, or of its predictions.

    Of temperatures it is the highest, of ratios the mean, of others the sum.
    """

    title: str
    value: int | float
    unit: str
    limit: NotRequired[int | float]


class ReadingAnswer(TypedDict):
    """Result of the last check of one probe.

    - `status` is damped; `raw_status` is the last reading's own status, which the last `raw_count`
      readings had.
    - Keys that only a check can fill are missing before the first check.
    - `before_reload` is true while the status comes from the probe's table before the last reload.
      Otherwise it is left out.
    - `findings` may include `lasting` ones of an earlier reading. The summary has them after "before that".
    """

    probe: str
    status: StatusWord
    summary: str
    since: Time
    before_reload: NotRequired[bool]
    checked_at: NotRequired[Time]
    age_seconds: NotRequired[Seconds]
    duration_seconds: NotRequired[Seconds]
    interval_seconds: Seconds
    raw_status: NotRequired[StatusWord]
    raw_count: NotRequired[Count]
    findings: list[FindingAnswer]
    numbers: NotRequired[list[NumberAnswer]]
    facts: dict[str, Any]
    reload: NotRequired[ReloadState]


class VerdictAnswer(TypedDict):
    """The host's status over all its probes."""

    status: StatusWord
    since: Time
    summary: str
    advice: AdviceWord
    probes: dict[str, StatusWord]


class DetailedAnswer(TypedDict):
    """The host's status and the full reading of each probe."""

    status: StatusWord
    since: Time
    summary: str
    advice: AdviceWord
    host: str
    version: str
    probes: dict[str, ReadingAnswer]


class ReloadAnswer(TypedDict):
    """A reload that succeeded, or one that is running; then the probe's reading will have its result."""

    probe: str
    state: Literal["running", "done"]
    started_at: Time
    dry_run: bool
    detail: NotRequired[str]


class ConfigurationAnswer(TypedDict):
    """Changes by a reload of the configuration, one sentence each."""

    changes: list[str]


class EventAnswer(TypedDict):
    """One event of the history. `fields` depend on the event; `by` is there for callers who may act."""

    time: Time
    level: str
    event: str
    fields: dict[str, Any]


class HistoryAnswer(TypedDict):
    """Events since a time, oldest first."""

    since: Time
    events: list[EventAnswer]


class ConfigurationInfo(TypedDict):
    """File of the configuration, the time and the error of its last reload, and outdated code."""

    file: NotRequired[str]
    reloaded_at: NotRequired[Time]
    error: NotRequired[str]
    outdated: NotRequired[list[str]]


class SocketInfo(TypedDict):
    """Path of the Unix socket, and the reason if it does not lead to the daemon."""

    path: str
    error: NotRequired[str]


class TlsInfo(TypedDict):
    """File of the certificate, and the reason if its present content is not in use."""

    certificate: str
    error: NotRequired[str]


class ProbeInfo(TypedDict):
    """A configured probe and the distribution that provides it."""

    name: str
    plugin: str
    distribution: str
    isolation: Literal["loop", "thread", "process"]
    critical: bool
    interval_seconds: Seconds
    timeout_seconds: Seconds
    can_reload: bool


class EndpointInfo(TypedDict):
    """One endpoint of the API."""

    method: str
    path: str
    summary: str


class InfoAnswer(TypedDict):
    """Facts about the daemon itself."""

    name: Literal["mlopsd"]
    version: str
    started: Time
    mode: Literal["production", "development"]
    configuration: ConfigurationInfo
    socket: SocketInfo
    listening: dict[str, str]
    tls: NotRequired[TlsInfo]
    probes: list[ProbeInfo]
    endpoints: list[EndpointInfo]


class LiveAnswer(TypedDict):
    """Liveness of the server, in the form of the Open Inference Protocol."""

    live: bool


class ReadyAnswer(TypedDict):
    """Readiness of every model, in the form of the Open Inference Protocol."""

    ready: bool


class ModelReadyAnswer(TypedDict):
    """Readiness of the registered model `name`, in the form of the Open Inference Protocol."""

    name: str
    ready: bool


class ProblemAnswer(TypedDict):
    """Error in the form of RFC 9457. `detail` says the cause and the fix."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    mistakes: NotRequired[list[str]]
