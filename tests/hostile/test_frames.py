"""What the processes of probes and models may write: any bytes are a frame or a clean failure."""

import asyncio
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlopsd.board import Board
from mlopsd.metrics.registry import Metrics
from mlopsd.predictor import Prediction, PredictionError
from mlopsd.probe import Finding, Metric, ProbeError, Reading, ReloadRefused, Sample, Status
from mlopsd.process import frames
from mlopsd.process.channel import read_frame
from mlopsd.worker.codec import LIMITS, Incoming, Outgoing, decode_options
from mlopsd.worker.process import InitMessage, ProcessWorker
from mlopsd.worker.worker import InvalidReading, ProbeRaised
from mlopsd_probes.model.serving import replies

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def keyed(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Tables that have some of *keys*, with anything in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, JSON))


COUNTED = Metric("looks_total", "Times that it looked.", "counter", labels=("side",))
TIMED = Metric("look_seconds", "How long it looked.", "histogram", "seconds")
COUNTS = st.lists(st.tuples(st.sampled_from([COUNTED.name, TIMED.name]), JSON, JSON), max_size=2)
READINGS = keyed("status", "summary", "findings", "samples", "facts")
ANSWERS = keyed("reading", "summary", "log", "counts", "observations", "children", "error") | st.builds(
    lambda reading: {"reading": reading}, READINGS
)
ANSWERS |= st.fixed_dictionaries({}, optional={"counts": COUNTS, "observations": COUNTS})


@BOUNDED
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(body=b"[" * 100_000)
@example(body=b'{"a": ' + b"9" * 5000 + b"}")
def test_any_bytes_are_a_frame_or_no_frame(body: bytes) -> None:
    try:
        assert isinstance(frames.decode(body), dict)
    except frames.BadFrame as error:
        assert str(error)


@BOUNDED
@given(st.text(max_size=200) | JSON.map(json.dumps))
@example(text='{"mlopsd.time": 5}')
@example(text='{"mlopsd.time": ["date", 5]}')
@example(text='{"mlopsd.time": ["eval", "x"]}')
@example(text="[" * 100_000)
def test_any_text_is_a_table_of_options_or_none(text: str) -> None:
    try:
        assert isinstance(decode_options(text), dict)
    except frames.BadFrame as error:
        assert str(error)


@pytest.mark.parametrize("sizes", [(LIMITS.header + 1, 0), (2**32 - 1, 0), (2, 1)])
def test_a_frame_that_says_it_is_too_long_is_none(sizes: tuple[int, int]) -> None:
    with pytest.raises(frames.BadFrame):
        frames.unpack_sizes(frames.HEAD.pack(*sizes), LIMITS)


@BOUNDED
@given(st.text(), st.floats(allow_nan=False), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_a_reading_comes_out_of_its_frame_as_it_went_in(
    text: str, number: float, labels: list[tuple[str, str]]
) -> None:
    reading = Reading(
        findings=(Finding(text, Status.DEGRADED, text, text, number, text, number),),
        samples=(Sample(text, number, tuple(labels)),),
        facts={text: [text, number]},
        summary=text or "a summary",
    )
    encoded = frames.pack(Outgoing().frame(reading))[frames.HEAD.size :]
    assert Incoming().reading(frames.decode(encoded)) == reading


class Liar:
    """A probe's process that answers *said*."""

    pid, ended = 0, True

    def __init__(self, output: Any) -> None:
        self.output = output
        self.child = self

    async def ask(self, _request: Any) -> Any:
        return self.output

    async def end(self) -> None:
        return

    async def kill(self) -> None:
        return


async def ask(output: Any, what: str) -> Any:
    """What the daemon makes of an answer *said* to a check or a reload."""
    opening = InitMessage("door", "x:y", {}, Path(), logging.INFO, 5)
    declared = [COUNTED, TIMED]
    instruments = Metrics(Board(), "0").probes.instruments("door", "door", declared)
    worker = ProcessWorker(opening, declared, instruments, lambda: None, logging.getLogger("mlopsd.test"))
    starting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    starting.set_result(Liar(output))
    worker._starting = starting  # type: ignore[assignment]  # as good as the task that spawns
    if what == "reload":
        return await worker.reload(dry_run=False, force=False)
    return await worker.check()


@settings(BOUNDED, max_examples=120)
@given(ANSWERS, st.sampled_from(["check", "reload"]))
@example({"reading": {"status": 0, "summary": "well", "findings": [], "samples": [], "facts": {}}}, "check")
@example({"reading": {"status": 0, "summary": 5, "findings": [], "samples": [], "facts": 5}}, "check")
@example({"log": 5}, "check")
@example({"log": [["loud", "x", {}]]}, "check")
@example({"log": [[20, "x", {"message": "mine"}]]}, "check")
@example({"error": {}}, "reload")
@example({"children": "many"}, "reload")
@example({"counts": [["x", 5, 5]]}, "reload")
@example({"counts": [["looks_total", 5, 5]]}, "reload")
@example({"counts": [["looks_total", [["side", "left"]], [5]]]}, "reload")
@example({"counts": [["looks_total", [["amount", 5]], 5]]}, "reload")
@example({"observations": [["look_seconds", [], [[1], "x"]]]}, "check")
@example({"observations": [["look_seconds", [], [1, 2, 3]]]}, "check")
def test_whatever_a_probes_process_answers_is_a_sound_reading_or_a_failure_of_that_probe(
    output: dict[str, Any], what: str
) -> None:
    try:
        answer = asyncio.run(ask(output, what))
    except (InvalidReading, ProbeError, ReloadRefused, ProbeRaised):
        return
    assert isinstance(answer, str | Reading)
    if isinstance(answer, Reading):
        assert answer.findings or answer.status >= Status.UNKNOWN
        json.dumps(answer.facts)


@settings(BOUNDED, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
@example(frames.HEAD.pack(2**32 - 1, 0))
@example(frames.HEAD.pack(2, 2**63) + b"{}")
@example(frames.HEAD.pack(2, 0) + b"[]")
@example(frames.HEAD.pack(9_999, 0) + b"[" * 9_999)
def test_any_bytes_from_a_models_process_are_a_frame_or_a_clean_failure(sent: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        while True:
            header, body = await read_frame(reader)
            assert isinstance(header, dict)
            assert isinstance(body, bytes)

    with pytest.raises((asyncio.IncompleteReadError, frames.BadFrame)):
        asyncio.run(read())


OUTPUT = keyed("code", "type", "detail", "rows", "counts", "total", "classes") | st.builds(
    lambda given: {"code": 200, "type": "application/json", "rows": 1, **given},
    keyed("counts", "total", "classes", "rows"),
)


@settings(BOUNDED, max_examples=120)
@given(OUTPUT)
@example({"code": 200, "type": "text/html\r\nSet-Cookie: a=b", "rows": 1})
@example({"code": 302, "detail": "elsewhere"})
@example({"code": 500, "detail": "x" * 10_000})
@example({"code": 200, "type": "application/json", "rows": 1, "counts": [1] * 1000, "total": math.inf})
def test_whatever_a_model_says_of_its_answer_is_an_answer_a_refusal_or_nonsense(
    output: dict[str, Any],
) -> None:
    try:
        answer, seen = replies.ReplyValidator(3).prediction(output, b"{}", 0.1)
    except PredictionError as error:
        assert error.code in (400, 413, 415, 500)
        assert len(error.detail) <= replies.LONGEST_DETAIL
    except frames.BadFrame as error:
        assert "invalid fields" in str(error) or "buckets" in str(error)
    else:
        assert isinstance(answer, Prediction)
        assert answer.content_type.isprintable()
        assert math.isfinite(seen.total)
        assert min(seen.counts, default=0) >= 0


@BOUNDED
@given(JSON)
def test_whatever_a_model_says_of_its_load_and_its_canary_is_that_or_nonsense(output: Any) -> None:
    table = (
        output
        if isinstance(output, dict)
        else {"phase": output, "seconds": output, "failed": output, "reason": output}
    )
    for read, found in (
        (replies.phase, table),
        (replies.failure, table),
        (replies.facts, output),
        (replies.canary, output),
    ):
        try:
            read(found)
        except frames.BadFrame as error:
            assert str(error)


def test_a_model_names_no_more_classes_than_the_metrics_can_hold() -> None:
    witness = replies.ReplyValidator(3)
    named: set[str] = set()
    for number in range(100):
        output = {"code": 200, "type": "a/b", "rows": 1, "classes": {f"class {number}": 1, "x" * 300: 2}}
        named |= set(witness.prediction(output, b"", 0.1)[1].classes)
    assert len(named) == replies.MOST_CLASSES + 1
    assert replies.OTHER in named
