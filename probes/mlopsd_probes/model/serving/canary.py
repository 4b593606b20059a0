"""The result of a canary prediction, as the daemon has it."""

from dataclasses import dataclass
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
        verified: False where there was nothing to predict for, so that passing says little.
        source: whose input it was.
        reason: why it did not pass, or why it is not verified.
        rows: how many predictions the input asked for; None where nobody can tell.
        seconds: how long the model took.
        minimum: the least number in the answer.
        maximum: the greatest.
        kind: why it did not pass, where the version is not at fault; see `mlopsd_probes.causes`.
    """

    passed: bool
    verified: bool
    source: CanarySource
    reason: str = ""
    rows: Count | None = None
    seconds: Seconds = 0.0
    minimum: float | None = None
    maximum: float | None = None
    kind: CanaryKind = ""

    @property
    def was_asked(self) -> bool:
        """Return whether the model got its input; the daemon may be unable to read the configured one."""
        is_of_daemon = self.source == "none" and self.kind in ("scarce", "io_error")
        return self.kind != "input" and not is_of_daemon


def failed_canary(reason: str, seconds: float = 0.0, kind: CanaryKind = "") -> CanaryResult:
    """One that did not come to an answer, and why."""
    return CanaryResult(passed=False, verified=True, source="none", reason=reason, seconds=seconds, kind=kind)
