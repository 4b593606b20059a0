"""Several callers' rows at once: nothing of one gets into another's answer; canaries that prove nothing."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.model.served import Rule, Served

Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    ours, theirs = socket.socketpair()

    def served(rule: Rule, columns: dict[str, str], **options: Any) -> Served:
        return Served(ours, tmp_path, rule, columns, **options)

    with ours, theirs:
        yield served


X = {"x": "double"}


def test_what_waits_is_predicted_in_one_go(serve: Serve) -> None:
    served = serve(lambda data: (data["x"] * 2).tolist(), X)
    assert served.prove([1.0], [2.0])[1].startswith("up to ")
    for asked in (1 + 3, 1):  # the first group is a sample: its three rows are predicted alone as well
        served.model.asked = 0
        assert served.answers(served.rows([1.0]), served.rows([5.0], [6.0])) == [[2.0], [10.0, 12.0]]
        assert served.model.asked == asked


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_gap_is_never_filled_with_what_another_caller_sent(serve: Serve, missing: float | None) -> None:
    served = serve(lambda data: data["x"].fillna(data["x"].mean()).fillna(0.0).tolist(), X)
    assert served.prove([1.0], [2.0])[0] == ""
    assert served.answers(served.rows([missing]), served.rows([1000.0])) == [[0.0], [1000.0]]


def test_a_column_that_is_the_same_in_every_row_of_the_example_is_tried_with_others(serve: Serve) -> None:
    served = serve(
        lambda data: (data["x"] + data["day"] - data["day"].min()).tolist(), {**X, "day": "double"}
    )
    assert served.prove([1.0, 7.0], [2.0, 7.0]) == (
        "",
        "off: it answers 2 rows at once otherwise than each alone",
    )


@pytest.mark.parametrize("words", [["a"], ["a", "a"], ["a", "b"]])
def test_texts_that_differ_only_beside_others_are_never_joined(serve: Serve, words: list[str]) -> None:
    served = serve(lambda data: pd.Categorical(data["word"]).codes * 1.0, {"word": "string", **X})
    assert served.prove(*([word, float(at)] for at, word in enumerate(words)))[1].startswith("off: ")
    assert served.answers(served.rows(["b", 1.0]), served.rows(["a", 1.0])) == [[0.0], [0.0]]


def test_a_model_whose_answers_are_arrays_is_proven_and_joined(serve: Serve) -> None:
    served = serve(lambda data: [np.array([x, -x]) for x in data["x"]], X)
    reason, together = served.prove([1.0], [2.0])
    assert reason == ""
    assert together.startswith("up to ")
    assert served.answers(served.rows([3.0]), served.rows([4.0])) == [[[3.0, -3.0]], [[4.0, -4.0]]]


def test_one_bad_request_among_many_costs_the_others_nothing(serve: Serve) -> None:
    def picky(data: pd.DataFrame) -> list[float]:
        if (data["x"] == 13.0).any():
            raise ValueError("13")
        return list(data["x"])

    served = serve(picky, X)
    assert served.prove([1.0], [2.0])[1].startswith("up to ")
    bodies = [served.rows([float(number)]) for number in range(20)]
    assert served.answers(*bodies) == [500 if number == 13 else [float(number)] for number in range(20)]


def test_a_sample_that_fails_by_itself_is_no_mismatch_and_each_request_is_answered_alone(
    serve: Serve,
) -> None:
    """A failure as from a short lack of GPU memory."""
    troubles = [MemoryError("CUDA out of memory")]
    is_trial = True

    def rule(data: pd.DataFrame) -> list[float]:
        if not is_trial and len(data) == 1 and troubles:
            raise troubles.pop()
        return (data["x"] * 2).tolist()  # type: ignore[no-any-return]

    served = serve(rule, X)
    assert served.prove([1.0], [2.0])[1].startswith("up to ")
    is_trial = False
    for asked in (1 + 1 + 2, 1 + 2, 1):  # a joined try, a failed sample, each alone; the next one is a sample
        served.model.asked = 0
        assert served.answers(served.rows([1.0]), served.rows([5.0])) == [[2.0], [10.0]]
        assert served.model.asked == asked
    assert served.mismatches == 0


class Clock:
    """The steady clock, which stands still unless it is set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_what_nobody_waits_for_any_more_is_not_predicted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in ("mlopsd_probes.model.mlopsd_host.serving", "tests.model.served"):
        monkeypatch.setattr(f"{module}.time", clock)

    def slow(data: pd.DataFrame) -> list[float]:
        clock.now += 0.2
        return list(data["x"].fillna(0.0))

    served = serve(slow, X)
    served.prove([1.0])
    served.model.asked = 0
    bodies = [served.rows([float(number)], [None]) for number in range(5)]  # gaps, so none is joined
    assert served.answers(*bodies, within=0.3) == [[0.0, 0.0], [1.0, 0.0], 504, 504, 504]
    assert served.model.asked == 2
    assert served.answers(*bodies, within=-1) == [504] * 5
    assert served.model.asked == 2


ACCEPT_EMPTY = '; if this is right, set […canary] empty = "accept"'
NOTHING = "it answered nothing but nulls" + ACCEPT_EMPTY


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, NOTHING),
        ([None, None], NOTHING),
        (pd.DataFrame({"a": [None, None]}), NOTHING),
        ({"a": [None, None], "b": [None, None]}, NOTHING),
        (pd.Series(pd.to_datetime(["2000-01-01", "2000-01-02"])), ""),
        (["a", None], ""),
        ([], "it answered no row" + ACCEPT_EMPTY),
        ([1.0], ""),
    ],
)
def test_a_canary_that_comes_back_empty_has_not_passed(serve: Serve, answer: Any, reason: str) -> None:
    assert serve(lambda _: answer, X).prove([1.0], [2.0])[0] == reason


def test_a_canary_of_no_rows_has_proven_nothing(serve: Serve) -> None:
    assert serve(lambda data: data["x"], X).prove()[0] == "its input has no rows"


def test_text_is_in_no_range_of_numbers(serve: Serve) -> None:
    output = "it predicted no number, and a minimum or maximum is configured"
    assert serve(lambda data: ["a"] * len(data), X, min=0.0).prove([1.0])[0] == output
    assert serve(lambda data: ["a"] * len(data), X).prove([1.0])[0] == ""


def test_what_nobody_foresaw_in_an_answer_fails_the_canary_and_not_the_process(serve: Serve) -> None:
    class Odd(list[float]):
        def __len__(self) -> int:
            raise ZeroDivisionError

    assert serve(lambda _: Odd([1.0]), X).prove([1.0])[0] == "the model failed: ZeroDivisionError"
