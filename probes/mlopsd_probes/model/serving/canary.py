"""The result of a canary prediction, on the daemon's side."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

CanarySource = Literal["configured", "example", "synthesised", "none"]
CanaryKind = Literal[
    "", "import_error", "input", "out_of_memory", "killed", "signal", "scarce", "io_error", "gpu"
]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The result of a canary prediction.

    Attributes:
        verified: False if there was no input to predict, so that passing proves little.
        source: the origin of the input.
        reason: the reason why it did not pass, or is not verified.
        rows: the number of predictions that the input asked for; None if unknown.
        answered: the number of rows in the answer; None if unknown.
        left_out: the fields of the model's example without which it passed.
        seconds: the time that the model took.
        minimum: the least number in the answer.
        maximum: the greatest number in the answer.
        kind: the kind of failure if the version is not at fault; see `mlopsd_probes.causes`.
        is_by_caller: True if an answer to a caller has passed its rules since, so that it was not repeated.
        is_silent: True if it had its turn and no answer came in time.
    """

    passed: bool
    verified: bool
    source: CanarySource
    reason: str = ""
    rows: Count | None = None
    answered: Count | None = None
    left_out: tuple[str, ...] = ()
    seconds: Seconds = 0.0
    minimum: float | None = None
    maximum: float | None = None
    kind: CanaryKind = ""
    is_by_caller: bool = False
    is_silent: bool = False

    @property
    def was_asked(self) -> bool:
        """Return whether the model got its input; the daemon may fail to read the configured file."""
        is_of_daemon = self.source == "none" and self.kind in ("scarce", "io_error")
        return self.kind != "input" and not is_of_daemon


def failed_canary(reason: str, seconds: float = 0.0, kind: CanaryKind = "") -> CanaryResult:
    """Return the result of a canary without an answer."""
    return CanaryResult(passed=False, verified=True, source="none", reason=reason, seconds=seconds, kind=kind)


def silent_canary(seconds: float) -> CanaryResult:
    """Return the result of a canary that had its turn and got no answer within *seconds*."""
    return replace(failed_canary(f"no answer within {seconds:g} s", seconds), is_silent=True)
