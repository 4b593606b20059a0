"""The context for unit tests of a probe."""

import math
from pathlib import Path

import pytest

from mlopsd.probe import Finding, Metric, Options, Probe, Reading, Status
from mlopsd.testing import RecordedContext, context

OPENED = Metric("opened_total", "Times that it was opened.", "counter", labels=("door",))
WIDTH = Metric("width_meters", "How wide it was.", "histogram", unit="meters", buckets=(1.0, 2.0))


class Door(Probe):
    metrics = (OPENED, WIDTH)

    def check(self) -> Reading:
        self.context.instruments.counter(OPENED).inc(door="front")
        self.context.instruments.histogram(WIDTH).observe(0.8)
        self.context.instruments.histogram(WIDTH).observe_counts([2, 0, 1], 4.5)
        self.context.show_facts({"step": "open"})
        self.context.request_check()
        (self.context.state_dir / "seen").touch()
        return Reading([Finding("door", Status.HEALTHY, f"within {self.context.timeout:g} s")])


def test_a_test_reads_back_what_the_probe_recorded() -> None:
    recorded: RecordedContext = context(name="hall", timeout=3)
    reading = Door(Options(), recorded).check()
    assert isinstance(reading, Reading)
    assert reading.findings[0].summary == "within 3 s"
    assert recorded.instruments.count(OPENED, door="front") == 1
    assert recorded.instruments.count(OPENED, door="back") == 0
    assert recorded.instruments.observed(WIDTH) == (0.8, 4.5)
    assert recorded.shown == [{"step": "open"}]
    assert recorded.requests == ["hall"]
    assert (recorded.state_dir / "seen").exists()


def test_a_test_chooses_the_folder_and_the_readings_of_others(tmp_path: Path) -> None:
    reading = Reading([Finding("card", Status.HEALTHY, "the card answers")])
    recorded = context(tmp_path, board={"gpu": reading})
    assert recorded.state_dir == tmp_path
    assert recorded.board == {"gpu": reading}


def test_two_contexts_share_nothing() -> None:
    one, other = context(), context()
    assert one.state_dir != other.state_dir
    Door(Options(), one).check()
    assert not other.shown
    assert math.isfinite(other.timeout)


def test_a_wrong_use_of_a_metric_is_an_error_as_in_the_daemon() -> None:
    instruments = context().instruments
    with pytest.raises(ValueError, match="is a histogram, not a counter"):
        instruments.counter(WIDTH)
    with pytest.raises(ValueError, match="has the labels"):
        instruments.counter(OPENED).inc()
    for amount in (-1, math.nan, math.inf, "3"):
        with pytest.raises(ValueError, match=r"cannot grow by .*; add a finite number from 0 up"):
            instruments.counter(OPENED).inc(amount, door="front")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs 3 counts"):
        instruments.histogram(WIDTH).observe_counts([1], 1)
