"""Thresholds: what a version must have scored before anything of it is fetched."""

import math
from datetime import UTC, datetime

import pytest

from mlopsd_probes.model.options import Range
from mlopsd_probes.model.rollout.thresholds import judge
from mlopsd_probes.registry.version import LoggedMetric

ACCURACY = {"accuracy": Range(min=0.9, max=1)}


def logged(**values: float) -> dict[str, LoggedMetric]:
    return {name: LoggedMetric(value, "run 1", datetime.now(UTC)) for name, value in values.items()}


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (0.9, ()),
        (1.0, ()),
        (0.89, ("metric accuracy is 0.89, below 0.9",)),
        (1.5, ("metric accuracy is 1.5, above 1",)),
        (math.nan, ("metric accuracy is not a finite number",)),
        (math.inf, ("metric accuracy is not a finite number",)),
        (1.7976931348623157e308, ("metric accuracy is not a finite number",)),  # MLflow's infinity
    ],
)
def test_a_metric_is_held_against_both_bounds(value: float, output: tuple[str, ...]) -> None:
    assert judge(logged(accuracy=value, loss=3), ACCURACY, "reject").failed == output


def test_infinity_fails_where_bigger_is_better() -> None:
    assert judge(logged(score=math.inf), {"score": Range(min=1)}, "warn").failed


def test_a_metric_that_was_never_logged_fails_or_warns_as_configured() -> None:
    warned, failed = (judge({}, ACCURACY, how) for how in ("warn", "reject"))
    assert (warned.failed, warned.missing) == ((), ("accuracy",))
    assert failed.failed == ("metric accuracy was never logged",)


def test_only_metrics_with_a_threshold_are_kept_for_the_facts() -> None:
    assert set(judge(logged(accuracy=0.95, loss=3), ACCURACY, "reject").judged) == {"accuracy"}
