"""The history: it survives restarts, bad bytes and a full file, and it is bounded."""

import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlopsd import history as histories
from mlopsd import log as logs
from mlopsd.history import (
    DAY,
    FILE,
    FILE_BEFORE,
    LONGEST_TEXT,
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_EVENTS,
    MOST_OF_PROBE,
    History,
    read_history,
)
from mlopsd.worker.mask import MASKED, SecretMask
from tests.fakes import Clock

log = logging.getLogger("mlopsd.test_history")
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
MARKED: dict[str, object] = {"history": True}


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    own = logging.getLogger("mlopsd")
    before = own.level
    own.setLevel(logging.INFO)
    yield
    own.setLevel(before)


@contextmanager
def run(folder: Path) -> Iterator[History]:
    """Run one life of the history."""
    history = History(folder)
    history.start()
    try:
        yield history
    finally:
        history.end()


def names(history: History, since: datetime = ALWAYS) -> list[str]:
    return [event["event"] for event in history.since(since)]


def test_marked_records_are_kept_with_their_fields_over_a_restart(tmp_path: Path) -> None:
    with run(tmp_path) as history:
        log.info("rolled out", extra={"version": "3", "seconds": 0.5, "where": "90 °C"} | MARKED)
        log.warning("not marked")
        log.debug("below its level", extra=MARKED)
        assert names(history) == ["rolled out"]
    with run(tmp_path) as history:
        log.info("again", extra=MARKED)
        first, second = history.since(ALWAYS)
    assert (first["version"], first["seconds"], first["where"], second["event"]) == (
        "3",
        0.5,
        "90 °C",
        "again",
    )
    assert "history" not in first
    assert [event["event"] for event in read_history(tmp_path, ALWAYS)] == ["rolled out", "again"]
    log.info("after its end", extra=MARKED)
    assert names(history) == ["rolled out", "again"]


def test_the_level_of_the_log_is_not_that_of_the_history(tmp_path: Path) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    handlers = root.handlers
    drain = logs.start("ERROR", "text", stream=stream)
    try:
        with run(tmp_path) as history:
            log.info("kept", extra=MARKED)
            assert names(history) == ["kept"]
    finally:
        drain.end()
        root.handlers = handlers
    assert stream.getvalue() == ""


def test_only_events_since_a_moment_are_returned(tmp_path: Path) -> None:
    with run(tmp_path) as history:
        log.info("now", extra=MARKED)
        assert names(history, datetime.now(UTC) - timedelta(hours=1)) == ["now"]
        assert names(history, datetime.now(UTC) + timedelta(hours=1)) == []


BAD = (
    b"\xff\xfe\x00\n",
    b"not json\n",
    b"[]\n",
    b'"text"\n',
    b"{}\n",
    b'{"event": 1, "time": "2026-12-01T00:00:00Z"}\n',
    b'{"event": "x", "time": "yesterday"}\n',
    b'{"event": "x", "time": 5}\n',
    b'{"event": "no zone", "time": "2026-12-01T00:00:00"}\n',
    b"[" * 100_000 + b"\n",
    b"\n",
    b'{"event": "torn", "time": "2026-12-01T0',
)


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_bytes_cost_their_line_alone(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    with run(tmp_path):
        log.info("before", extra=MARKED)
    with (tmp_path / FILE).open("ab") as file:
        file.write(BAD[number])
    with run(tmp_path) as history:
        log.info("after", extra=MARKED)
        assert names(history) == ["before", "after"]
    with run(tmp_path) as history:
        assert names(history) == ["before", "after"], "a torn line does not spoil the next"
    skipped = [record for record in caplog.records if record.message == "history lines skipped"]
    assert bool(skipped) == (BAD[number] != b"\n")


def test_the_files_and_the_memory_are_bounded(tmp_path: Path) -> None:
    number = 4 * MOST_BYTES // 500
    with run(tmp_path) as history:
        for at in range(number):
            log.info("long", extra={"at": at, "text": "x" * 500} | MARKED)
            while history._waiting.qsize() > 100:  # the test is faster than a disk
                pass
        assert len(history.since(ALWAYS)) == MOST_EVENTS
    sizes = [(tmp_path / name).stat().st_size for name in (FILE, FILE_BEFORE)]
    assert max(sizes) <= MOST_BYTES + MOST_CHARACTERS
    with run(tmp_path) as history:
        ats = [event["at"] for event in history.since(ALWAYS)]
    assert ats == list(range(number - len(ats), number)), "the newest, without a gap"


def test_a_huge_event_is_shortened(tmp_path: Path) -> None:
    with run(tmp_path) as history:
        log.info("huge", extra={"probe": "gpu", "text": "x" * 2 * MOST_CHARACTERS} | MARKED)
        (event,) = history.since(ALWAYS)
    assert (event["event"], event["probe"]) == ("huge", "gpu")
    assert event["text"] == "x" * LONGEST_TEXT


def test_a_huge_event_still_names_who_acted(tmp_path: Path) -> None:
    many: dict[str, object] = {f"field {number}": "x" * 500 for number in range(100)}
    with run(tmp_path) as history:
        log.info("request" * 1_000, extra={"by": "uid 0", **many} | MARKED)
        (event,) = history.since(ALWAYS)
    assert event["by"] == "uid 0"
    assert len(json.dumps(event)) <= MOST_CHARACTERS


def test_secrets_are_masked(tmp_path: Path) -> None:
    with run(tmp_path) as history:
        history.mask = SecretMask(["hunter22"]).plain
        log.info(
            "asked hunter22", extra={"reason": "with hunter22", "more": {"hunter22": ["hunter22"]}} | MARKED
        )
        (event,) = history.since(ALWAYS)
    assert (event["event"], event["reason"]) == (f"asked {MASKED}", f"with {MASKED}")
    assert "hunter22" not in (tmp_path / FILE).read_text("utf-8")


@pytest.mark.parametrize(
    "secret", [datetime.now(UTC).strftime("%Y"), "1234", "true", "time", "event", "info"]
)
def test_a_short_secret_costs_no_event(tmp_path: Path, secret: str) -> None:
    with run(tmp_path) as history:
        history.mask = SecretMask([secret]).plain
        log.info("opened", extra={"number": 81234.5, "is_open": True} | MARKED)
        assert names(history) == ["opened"]
    assert len(read_history(tmp_path, ALWAYS)) == 1


@pytest.mark.parametrize("name", ["time", "level", "event", "logger"])
def test_a_field_of_a_probe_replaces_none_of_the_line(tmp_path: Path, name: str) -> None:
    with run(tmp_path) as history:
        log.info("opened", extra={name: 5} | MARKED)
        (event,) = history.since(ALWAYS)
    assert (event["event"], event["level"], event["logger"]) == ("opened", "info", "mlopsd.test_history")
    assert event[f"{name}_"] == 5


def test_a_probe_that_logs_without_end_leaves_room_for_the_host(tmp_path: Path) -> None:
    clock = Clock()
    history = History(tmp_path, clock)
    history.start()
    try:
        log.info("started", extra=MARKED)
        for _ in range(3 * MOST_EVENTS):
            logging.getLogger("mlopsd.probe.fan").info("turned", extra=MARKED)
            logging.getLogger("mlopsd.probe.fan.blade").info("turned", extra=MARKED)
        logging.getLogger("mlopsd.probe.door").info("opened", extra=MARKED)
        found = names(history)
        assert found[0] == "started"
        assert found.count("turned") == MOST_OF_PROBE
        assert found[-2:] == ["history limit reached", "opened"]
        assert history.since(ALWAYS)[-2]["probe"] == "fan"
        clock.now += DAY
        logging.getLogger("mlopsd.probe.fan").info("turned", extra=MARKED)
        assert names(history)[-1] == "turned"
    finally:
        history.end()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [fifo, folder, link])
def test_what_is_no_file_stops_nothing(
    tmp_path: Path, make: object, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / FILE)  # type: ignore[operator]
    with run(tmp_path) as history:
        for _ in range(3):
            log.info("kept in memory", extra=MARKED)
        assert names(history) == ["kept in memory"] * 3
    assert [record.message for record in caplog.records].count("history not written") == 1


def test_a_lost_folder_is_reported_once_and_again_after_it_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "state"

    def reported() -> int:
        return [record.message for record in caplog.records].count("history not written")

    with run(place):
        log.info("one", extra=MARKED)
        log.info("two", extra=MARKED)
    assert reported() == 1
    place.mkdir()
    with run(place):
        log.info("three", extra=MARKED)
    assert [event["event"] for event in read_history(place, ALWAYS)] == ["three"]


def test_a_file_that_was_just_filled_is_read(tmp_path: Path) -> None:
    with run(tmp_path):
        log.info("kept", extra=MARKED)
    (tmp_path / FILE).rename(tmp_path / FILE_BEFORE)
    assert [event["event"] for event in read_history(tmp_path, ALWAYS)] == ["kept"]


def test_the_folder_of_a_daemon_that_never_ran_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_history(tmp_path, ALWAYS)


def test_a_stalled_disk_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MOST_WAITING", 10)
    history = History(tmp_path)  # its writer does not run
    logging.getLogger("mlopsd").addHandler(history)
    try:
        for _ in range(50):
            log.info("many", extra=MARKED)
    finally:
        logging.getLogger("mlopsd").removeHandler(history)
    assert len(names(history)) == 50
    assert all(json.loads(line)["event"] == "many" for line in history._events)
