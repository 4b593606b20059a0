"""Whatever the code of a probe prints or logs is a record that names the probe and tells no secret."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlopsd import log as logs
from mlopsd.log_limit import LogLimiter
from mlopsd.printed import logging_prints
from mlopsd.process.child import LINES_PER_HOUR, LONGEST_LINE
from mlopsd.worker.mask import MASKED
from tests.cli.command import mlopsd
from tests.installed import installed
from tests.running import Running

STRANGE = Path(__file__).parents[1] / "strange"
POINTS = {"talker": "talking:Talker", "async_talker": "talking:AsyncTalker", "helped": "talking:Helped"}
SECRET = "open-sesame\n-second-line-\n"
TABLES = """
[probes.in_a_thread]
use = "talker"

[probes.on_the_loop]
use = "async_talker"

[probes.in_a_process]
use = "talker"
isolation = "process"
"""
PROBES = ("in_a_thread", "on_the_loop", "in_a_process")


def tables(token: str) -> str:
    return TABLES.replace("use = ", f"token = {json.dumps(token)}\ninterval = 3600\nuse = ")


def talk(folder: Path, token: str) -> Iterator[Running]:
    """Yield a daemon after a check and a reload of each probe, with its whole log."""
    with Running(folder, tables(token), environment=installed(folder, POINTS, STRANGE)) as daemon:
        for probe in PROBES:
            daemon.ask("POST", f"/health/{probe}/reload?wait=10", local=True)
        while not all("reloading" in records(daemon, probe) for probe in PROBES):
            daemon.wait_for(lambda record: record.get("line") == "reloading")
        daemon.stop()
        yield daemon


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from talk(tmp_path_factory.mktemp("talking"), "")


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from talk(tmp_path_factory.mktemp("telling"), SECRET)


def records(daemon: Running, probe: str) -> dict[str, dict[str, Any]]:
    """The records of *probe* by event, or by the printed line."""
    own = [record for record in daemon.log if record.get("probe") == probe]
    return {record.get("line") or record["event"]: record for record in own}


@pytest.mark.parametrize("probe", PROBES)
def test_a_printed_line_is_a_record_of_its_probe(talking: Running, probe: str) -> None:
    found = records(talking, probe)
    lines = ("printed", "to standard error", "as bytes", "in two parts", "reloading")
    for line in lines:
        assert (found[line]["event"], found[line]["level"]) == ("probe printed", "info")
    assert not [record for record in talking.log if record["event"] == "no json"]


@pytest.mark.parametrize("probe", PROBES)
def test_a_record_keeps_its_logger_level_and_values_and_has_the_probe(talking: Running, probe: str) -> None:
    found = records(talking, probe)
    kept = {name: (found[name]["logger"], found[name]["level"]) for name in ("looked", "asked ", "retried ")}
    assert kept == {
        "looked": (f"mlopsd.probe.{probe}", "info"),
        "asked ": (f"mlopsd.probe.{probe}.net", "warning"),
        "retried ": ("acme.client", "warning"),
    }
    assert (found["looked"]["door"], found["looked"]["steps"]) == ("shut ", 7)
    assert "too quiet to be heard" not in found


@pytest.mark.parametrize("probe", PROBES)
def test_a_logged_exception_keeps_its_traceback(talking: Running, probe: str) -> None:
    record = records(talking, probe)["login failed"]
    assert (record["logger"], record["level"]) == ("acme.client", "error")
    assert "in log_failure" in record["traceback"]
    assert "RuntimeError: login failed with" in record["traceback"]


@pytest.mark.parametrize("probe", PROBES)
def test_a_wrong_log_call_is_a_record_and_no_failure_of_the_check(talking: Running, probe: str) -> None:
    found = records(talking, probe)
    assert found["log call failed"]["reason"].startswith("TypeError: %d format: a ")
    assert found["log call failed"]["where"].startswith("talking.py:")
    assert found["probe check failed"]["reason"] == "LookupError: no door for "


@pytest.mark.parametrize("probe", PROBES)
def test_no_secret_is_in_any_record(telling: Running, probe: str) -> None:
    found = records(telling, probe)
    for line in ("printed", "to standard error", "as bytes", "in two parts"):
        assert f"{line} {MASKED}" in found
    assert found["looked"]["door"] == f"shut {MASKED}"
    assert f"asked {MASKED}" in found
    assert f"retried {MASKED}" in found
    assert f"with {MASKED}" in found["login failed"]["traceback"]
    assert MASKED in found["probe check failed"]["reason"]
    assert f"no door for {MASKED}" in found["probe check failed"]["traceback"]
    for record in telling.log:
        for part in SECRET.split():
            assert part not in str(record)


def test_tasks_helpers_and_routes_are_the_probes_and_a_thread_of_its_own_is_nobodys(tmp_path: Path) -> None:
    environment = installed(tmp_path, POINTS, STRANGE)
    with Running(tmp_path, "[probes.helped]\n", environment=environment) as daemon:
        assert daemon.get("/probes/helped/door").status == 200
        daemon.stop()
    printed = {record["line"]: record for record in daemon.log if "line" in record}
    own = {line for line, record in printed.items() if record.get("probe") == "helped"}
    assert own == {"from a task", "from a helper", "from a route"}
    assert printed["from nobody known"]["event"] == "line printed"
    assert "probe" not in printed["from nobody known"]
    assert daemon.event("logged by a thread")["probe"] == "helped"


def test_the_json_of_a_check_is_not_mixed_with_what_a_probe_prints(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[probes.helped]\n", "utf-8")
    done = mlopsd("check", "--json", "--config", config, env=installed(tmp_path, POINTS, STRANGE))
    assert json.loads(done.stdout)["probes"]["helped"]["status"] == "healthy"
    assert "from a task" in done.stderr.splitlines()


# The stream itself


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that are logged in place of standard output."""
    caplog.set_level(logging.INFO, "mlopsd")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    lines: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        lines.append(getattr(record, "line", ""))
        return True

    caplog.handler.addFilter(note)
    return lines


def test_a_line_and_the_number_of_lines_are_bounded(printed: list[str]) -> None:
    with logging_prints():
        print("x" * 10 * LONGEST_LINE)
        for number in range(10 * LINES_PER_HOUR):
            print("line", number)
            print("line 1")
        print("y" * 10 * LONGEST_LINE, end="")
    assert printed[0] == "x" * LONGEST_LINE
    assert printed[1:] == [f"line {number}" for number in [0, 1, *range(2, LINES_PER_HOUR - 1)]]


def test_the_end_logs_an_unfinished_line_and_gives_the_stream_back(printed: list[str]) -> None:
    before = sys.stdout
    with logging_prints():
        sys.stdout.write("unfin")
        assert printed == []
        sys.stdout.write("ished \ud800")
    assert printed == ["unfinished \\ud800"]
    assert sys.stdout is before


def test_a_log_that_fails_and_prints_why_ends(printed: list[str]) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("cannot log", record.getMessage())
            print("cannot log")

    handler = Failing()
    logging.getLogger("mlopsd.printed").addHandler(handler)
    try:
        with logging_prints():
            print("hello")
    finally:
        logging.getLogger("mlopsd.printed").removeHandler(handler)
    assert printed.count("cannot log") == 1


def test_a_terminal_stays_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    main, side = os.openpty()
    with os.fdopen(main), os.fdopen(side, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with logging_prints():
            assert sys.stdout is terminal
            assert not sys.stderr.isatty()


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[logs.Drain]:
    """A log to standard error, a pipe that nobody reads."""
    read_end, write_end = os.pipe()
    root, own = logging.getLogger(), logging.getLogger("mlopsd")
    before = root.handlers, root.level, own.level
    pipe = os.fdopen(write_end, "w")
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr(logs, "MOST_WAITING", 10)
    drain = logs.start("INFO", "json")
    yield drain
    os.close(read_end)  # the thread goes on, since nobody can read any more
    root.handlers, root.level = before[0], before[1]
    own.setLevel(before[2])
    drain.records.put(None)
    drain.join()
    with suppress(BrokenPipeError):
        pipe.close()


def test_no_caller_waits_for_a_log_that_is_stalled(
    stalled: logs.Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogLimiter, "allow", lambda _self, _key: 0)
    lost: list[bool] = []
    stalled.on_loss = lambda: lost.append(True)
    with logging_prints():
        while not lost:  # until the pipe and the queue are full
            print("x" * LONGEST_LINE, file=sys.stderr)
