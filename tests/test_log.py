"""The log: JSON or text, an event and fields, and never a reason for the daemon to wait."""

import io
import json
import logging
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlopsd import log as logs
from mlopsd.journal import is_journal
from mlopsd.log_limit import LogLimiter, fingerprint
from tests.fakes import Clock
from tests.running import GIVE_UP

log = logging.getLogger("mlopsd.test_log")


@pytest.fixture(autouse=True)
def root_logger_as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("mlopsd")
    before = (root.handlers, root.level, own.level)
    yield
    root.handlers, root.level = before[0], before[1]
    own.setLevel(before[2])


def lines(form: logs.Form, level: str = "INFO", *, debug: bool = False) -> list[str]:
    """What three records become."""
    stream = io.StringIO()
    drain = logs.start(level, form, debug=debug, stream=stream)
    log.debug("looked")
    log.info("changed", extra={"probe": "gpu", "seconds": 0.25, "summary": "all is well"})
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("broke", extra={"probe": "gpu"})
    drain.end()
    return stream.getvalue().splitlines()


def test_json_is_an_object_a_line_with_event_and_fields() -> None:
    changed, broke = map(json.loads, lines("json"))
    assert changed.pop("time").endswith("Z")
    assert changed == {
        "level": "info",
        "logger": "mlopsd.test_log",
        "event": "changed",
        "probe": "gpu",
        "seconds": 0.25,
        "summary": "all is well",
    }
    assert "ZeroDivisionError: division by zero" in broke["traceback"]


def test_a_probe_logs_under_its_own_name_whatever_its_fields_are() -> None:
    stream = io.StringIO()
    drain = logs.start("INFO", "json", stream=stream)
    extra = {"probe": "other", "time": 5, "event": {"a": 1}, "level": None, "logger": "x"}
    logging.getLogger("mlopsd.probe.fan").info("turned", extra=extra)
    drain.end()
    line = json.loads(stream.getvalue())
    assert [line[name] for name in ("probe", "event", "level", "logger")] == [
        "fan",
        "turned",
        "info",
        "mlopsd.probe.fan",
    ]
    assert (line["time_"], line["event_"]) == (5, {"a": 1})


def test_text_is_for_people() -> None:
    changed, broke, *traceback = lines("text")
    assert changed[12:] == " INFO    changed  probe=gpu seconds=0.25 summary='all is well'"
    assert broke[12:] == " ERROR   broke  probe=gpu"
    assert traceback[-1] == "    ZeroDivisionError: division by zero"


def text_of(event: str, **fields: object) -> list[str]:
    """What a person reads of one record, without its time."""
    stream = io.StringIO()
    drain = logs.start("INFO", "text", stream=stream)
    log.info(event, extra=fields)
    drain.end()
    return [line[13:] for line in stream.getvalue().split("\n")[:-1]]


@pytest.mark.parametrize("evil", ["a\nb", "a\rb", "\x1b[2Jb", "a\x00b", "a\x9bb", "a\u2028b", "a\ud800b"])
def test_in_text_any_message_is_one_line_without_control_characters(evil: str) -> None:
    (field,) = text_of("printed", line=evil)
    (event,) = text_of(evil)
    (listed,) = text_of("mistaken", mistakes=[evil, "c"])
    for line in (field, event, listed):
        assert line.isprintable()
        assert repr(evil)[1:-1] in line


def forge() -> None:
    raise ValueError("no\n12:00:00.000 INFO    all is well\x1b[2J")


def test_in_text_no_exception_can_pass_for_a_record() -> None:
    stream = io.StringIO()
    drain = logs.start("INFO", "text", stream=stream)
    try:
        forge()
    except ValueError:
        log.exception("broke")
    drain.end()
    record, *traceback = stream.getvalue().splitlines()
    assert record.endswith(" ERROR   broke")
    assert [line for line in traceback if not line.startswith("    ")] == []
    assert traceback[-1] == "    12:00:00.000 INFO    all is well\\x1b[2J"


def test_in_text_the_traceback_of_another_process_is_below_the_line_too() -> None:
    lines = text_of("broke", traceback="Traceback:\n  File x\nValueError: no\n", probe="gpu")
    assert lines[0] == "INFO    broke  probe=gpu"
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a", "b c"], "'a, b c'"),
        (("a",), "a"),
        ([0.25, 3], "'0.25, 3'"),
        (frozenset({"a"}), "a"),
    ],
)
def test_in_text_a_list_is_its_items_with_commas(value: object, text: str) -> None:
    assert text_of("changed", names=value) == [f"INFO    changed  names={text}"]


def test_in_text_an_empty_list_is_not_reported() -> None:
    assert text_of("changed", probe="gpu", findings=[]) == ["INFO    changed  probe=gpu"]


def journal_lines(monkeypatch: pytest.MonkeyPatch, folder: Path, form: logs.Form) -> list[str]:
    """Return the lines of four records to a stream that systemd says is the journal's."""
    with (folder / "journal").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        drain = logs.start("DEBUG", form, stream=stream)
        log.debug("checked")
        log.info("changed", extra={"at": "90 °C"})
        log.warning("short")
        try:
            forge()
        except ValueError:
            log.exception("broke")
        drain.end()
        stream.seek(0)
        return stream.read().splitlines()


def test_each_line_in_the_journal_has_its_priority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    debug, info, warning, *error = journal_lines(monkeypatch, tmp_path, "auto")
    assert debug == "<7>DEBUG   checked"
    assert info == "<6>INFO    changed  at='90 °C'"
    assert warning == "<4>WARNING short"
    assert error[0] == "<3>ERROR   broke"
    assert all(line.startswith("<3>    ") for line in error[1:]), "a traceback has the priority of its record"


def test_json_in_the_journal_has_its_priority_and_utf8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = journal_lines(monkeypatch, tmp_path, "json")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert '"at": "90 °C"' in lines[1]
    assert json.loads(lines[1][3:])["event"] == "changed"


@pytest.mark.parametrize("stream", [None, "", "1", "1:2:3", "x:y"])
def test_a_stream_that_systemd_does_not_name_is_no_journal(stream: str | None, tmp_path: Path) -> None:
    variables = {} if stream is None else {"JOURNAL_STREAM": stream}
    with (tmp_path / "log").open("w") as file:
        assert not is_journal(file, variables)
    assert not is_journal(file, variables), "a closed stream"
    assert not is_journal(io.StringIO(), variables), "a stream without a descriptor"


def test_auto_is_json_unless_in_debug_mode() -> None:
    assert lines("auto")[0].startswith("{")
    assert not lines("auto", debug=True)[0].startswith("{")


def test_the_level_is_configured() -> None:
    assert [json.loads(line)["event"] for line in lines("json", "DEBUG")] == ["looked", "changed", "broke"]
    assert [json.loads(line)["event"] for line in lines("json", "ERROR")] == ["broke"]


def test_what_cannot_be_json_is_written_as_text() -> None:
    stream = io.StringIO()
    drain = logs.start("INFO", "json", stream=stream)
    log.info("odd", extra={"thing": object(), "number": float("nan"), "bytes": b"\xff"})
    drain.end()
    assert json.loads(stream.getvalue())["thing"].startswith("<object")


def test_a_journal_that_takes_nothing_costs_records_and_not_the_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 10)
    reading, writing = os.pipe()
    lost = []
    with os.fdopen(writing, "w") as stalled:
        drain = logs.start("INFO", "json", stream=stalled)
        drain.on_loss = lambda: lost.append(1)
        done = threading.Event()

        def speak() -> None:
            for _ in range(100):
                log.info("long", extra={"text": "x" * 70_000})
            done.set()

        threading.Thread(target=speak, daemon=True).start()
        assert done.wait(GIVE_UP), "logging waited for the journal"
        assert len(lost) >= 80
        drain.end()
        threading.Thread(target=drain.records.put, args=(None,), daemon=True).start()  # it found no room
        written = b""
        while drain.is_alive():
            if select.select([reading], [], [], 0.01)[0]:  # it may end with nothing more to read
                written += os.read(reading, 1 << 20)
        while select.select([reading], [], [], 0)[0]:
            written += os.read(reading, 1 << 20)
    os.close(reading)
    (about,) = [line for line in map(json.loads, written.splitlines()) if line["event"] == "log lines lost"]
    assert (about["level"], about["count"]) == ("warning", len(lost))


def test_what_repeats_itself_is_logged_once_in_a_window_and_counted() -> None:
    clock = Clock()
    repeats = LogLimiter(clock=clock, window=3600)
    assert repeats.allow("no answer") == 0
    assert [repeats.allow("no answer") for _ in range(5)] == [None] * 5
    assert repeats.allow("something else") == 0
    clock.now += 3600
    assert repeats.allow("no answer") == 5
    assert repeats.allow("no answer") is None
    assert repeats.forget() == 1
    assert repeats.allow("no answer") == 0


def test_the_gist_of_a_failure_is_the_same_whatever_its_numbers_are() -> None:
    output = {
        fingerprint(f"its process {pid} ended after {pid / 7:.3f} s at 0x7f{pid:x}a0") for pid in range(99)
    }
    assert output == {"its process # ended after # s at #"}
    assert fingerprint("no answer") == "no answer"


def test_ever_new_failures_are_bounded_too() -> None:
    clock = Clock()
    repeats = LogLimiter(clock=clock, most=3)
    assert [repeats.allow(number) for number in range(5)] == [0, 0, 0, None, None]
    clock.now += 3600
    assert repeats.allow(9) == 0
