"""The JSON of each answer as a type; the API's description and its test are made from these.

A key that has no value is left out, never null.
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
    "fix_registry",
    "reset_gpu",
    "reboot",
    "replace_hardware",
]
PROBLEM_TYPE = "application/problem+json"  # of RFC 9457
ReloadWord = Literal["running", "done", "refused", "failed"]
Time = Annotated[str, Field(description="RFC 3339, UTC", json_schema_extra={"format": "date-time"})]
Seconds = Annotated[float, Field(ge=0, description="seconds")]
Count = Annotated[int, Field(ge=0)]


class FindingAnswer(TypedDict):
    """One judged fact inside a reading; `observed` and `limit` are in `unit`.

    `lasting` is true where it holds until somebody acts, and left out elsewhere.
    """

    name: str
    subject: NotRequired[str]
    status: StatusWord
    observed: NotRequired[int | float | str]
    unit: NotRequired[str]
    limit: NotRequired[int | float]
    summary: str
    advice: AdviceWord
    lasting: NotRequired[bool]


class ReloadState(TypedDict):
    """State of the last reload of a probe; `detail` is what it said, or why it did not go well."""

    state: ReloadWord
    started_at: Time
    detail: NotRequired[str]


class ReadingAnswer(TypedDict):
    """Result of the last check of one probe.

    `status` is damped: `raw_status` is the last reading's own, the last `raw_count` readings had it.
    Before the first check the keys that only a check can fill are not there. `before_reload` is true
    while the status is by the probe's table before the last reload, and left out after that. `findings`
    may hold `lasting` ones of an earlier reading; the summary says them after "before that".
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
    """A reload that ended well, or one that is still running; then the probe's reading tells its end."""

    probe: str
    state: Literal["running", "done"]
    started_at: Time
    dry_run: bool
    detail: NotRequired[str]


class ConfigurationAnswer(TypedDict):
    """Changes by a reload of the configuration, in sentences."""

    changes: list[str]


class ConfigurationInfo(TypedDict):
    """Source of the configuration, the time of its last reload, and why that changed nothing."""

    file: NotRequired[str]
    reloaded_at: NotRequired[Time]
    error: NotRequired[str]


class SocketInfo(TypedDict):
    """Path of the Unix socket, and why it does not lead to the daemon while it does not."""

    path: str
    error: NotRequired[str]


class ProbeInfo(TypedDict):
    """A configured probe and the distribution that brings it."""

    name: str
    plugin: str
    distribution: str
    isolation: Literal["loop", "thread", "process"]
    critical: bool
    interval_seconds: Seconds
    timeout_seconds: Seconds
    can_reload: bool


class EndpointInfo(TypedDict):
    """One thing that can be asked."""

    method: str
    path: str
    summary: str


class InfoAnswer(TypedDict):
    """The daemon about itself."""

    name: Literal["mlopsd"]
    version: str
    started: Time
    mode: Literal["production", "development"]
    configuration: ConfigurationInfo
    socket: SocketInfo
    probes: list[ProbeInfo]
    endpoints: list[EndpointInfo]


class LiveAnswer(TypedDict):
    """Answer that the server lives, in the words of the Open Inference Protocol."""

    live: bool


class ReadyAnswer(TypedDict):
    """Readiness of every model, in the words of the Open Inference Protocol."""

    ready: bool


class ModelReadyAnswer(TypedDict):
    """Readiness of the registered model `name`, in the words of the Open Inference Protocol."""

    name: str
    ready: bool


class ProblemAnswer(TypedDict):
    """Error as RFC 9457 has it: `detail` says the cause and the cure."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    mistakes: NotRequired[list[str]]
