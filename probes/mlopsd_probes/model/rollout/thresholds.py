"""The judgement of a version by its metrics, before its files are fetched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlopsd_probes.model.options import Range
from mlopsd_probes.registry.version import LoggedMetric

MLFLOW_INFINITY = 1.79e308  # the tracking store writes infinity as the largest double


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict of the thresholds on a version.

    Attributes:
        failed: a sentence for each threshold that it does not reach.
        missing: the metrics that were never logged.
        judged: the metrics that have a threshold, by name.
    """

    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    judged: Mapping[str, LoggedMetric] = field(default_factory=dict)


def judge(
    metrics: Mapping[str, LoggedMetric],
    thresholds: Mapping[str, Range],
    on_missing: Literal["warn", "reject"],
) -> Judgement:
    """Compare *metrics*, the last values of the version, with *thresholds*.

    A value that is not finite fails: broken training logs NaN or infinity.
    """
    failed: list[str] = []
    missing: list[str] = []
    for name, limits in thresholds.items():
        if name not in metrics:
            missing.append(name)
        elif sentence := _fault(name, metrics[name].value, limits):
            failed.append(sentence)
    if on_missing == "reject":
        failed += [f"metric {name} was never logged" for name in missing]
    judged = {name: metrics[name] for name in thresholds if name in metrics}
    return Judgement(tuple(failed), tuple(missing), judged)


def _fault(name: str, value: float, limits: Range) -> str:
    if not math.isfinite(value) or abs(value) >= MLFLOW_INFINITY:
        return f"metric {name} is not a finite number"
    if limits.min is not None and value < limits.min:
        return f"metric {name} is {value:.6g}, below {limits.min:g}"
    if limits.max is not None and value > limits.max:
        return f"metric {name} is {value:.6g}, above {limits.max:g}"
    return ""
