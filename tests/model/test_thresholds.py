"""Thresholds: what a version must have scored before anything of it is fetched."""

import math

import pytest

from mlopsd_probes.model.options import Range
from mlopsd_probes.model.rollout.thresholds import judge

ACCURACY = {"accuracy": Range(min=0.9, max=1)}


@pytest.mark.parametrize(
    ("value", "said"),
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
def test_a_metric_is_held_against_both_bounds(value: float, said: tuple[str, ...]) -> None:
    assert judge({"accuracy": value, "loss": 3}, ACCURACY, "reject").failed == said


def test_infinity_fails_where_bigger_is_better() -> None:
    assert judge({"score": math.inf}, {"score": Range(min=1)}, "warn").failed


def test_a_metric_that_was_never_logged_fails_or_warns_as_configured() -> None:
    warned, failed = (judge({}, ACCURACY, how) for how in ("warn", "reject"))
    assert (warned.failed, warned.missing) == ((), ("accuracy",))
    assert failed.failed == ("metric accuracy was never logged",)
