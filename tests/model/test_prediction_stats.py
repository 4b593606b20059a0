"""The counted values of an answer; no number in an answer makes it fail."""

import math
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.model.serving.replies import ReplyValidator
from tests.model.served import JSON, Served, answered

GREATEST = sys.float_info.max
BUCKETS = 2  # of the one bound that `Served` has, 0


@pytest.mark.parametrize(
    ("answer", "counts", "total"),
    [
        ([1.5, -1.5, 2], (1, 2), 2.0),
        ([GREATEST, GREATEST], (0, 2), GREATEST),
        ([-GREATEST, -GREATEST], (2, 0), -GREATEST),
        ([math.nan, math.inf, 1.0], (0, 1), 1.0),
        ([2**64 - 1], (0, 1), 2.0**64),
        ([2**70, -(2**70), 1], (1, 2), 1.0),
        ([10**400, 1], (0, 1), 1.0),
        ([[2**70], [1]], (0, 2), 2.0**70),
    ],
)
def test_numbers_of_any_size_are_answered_and_counted(
    answer: list[Any], counts: tuple[int, ...], total: float, tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        served = Served(ours, tmp_path, lambda _: answer, {"x": "double"})
        asked = {"id": 1, "do": "predict", "type": JSON, "until": math.inf}
        (((header, body),),) = answered(served._serving, [(asked, served.rows([1.0]))])
    prediction, seen = ReplyValidator(BUCKETS).prediction(header, body, 0.0)
    assert prediction.body.startswith(b'{"predictions": [')
    assert (seen.counts, seen.total) == (counts, total)
