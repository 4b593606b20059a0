"""``mlopsd reload model`` against a daemon that plays the long way of a version into service."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override

from mlopsd.cli.reload import _show_progress
from mlopsd.cli.terminal.progress import ProgressLine, RolloutMeter, draw_bar, format_log_line
from mlopsd.predictor import Progress
from tests.cli.command import environment, mlopsd, on_a_terminal
from tests.running import GIVE_UP

STARTED_AT = "2026-11-23T00:00:00.000Z"
FETCH = {"step": "fetch", "version": "7", "total_bytes": 2_000_000_000, "since": STARTED_AT}
WAY: Sequence[Mapping[str, Any] | str | None] = (
    None,
    {"step": "resolve", "since": STARTED_AT},
    {**FETCH, "bytes": 0},
    {**FETCH, "bytes": 500_000_000},
    {"step": "load", "version": "7", "since": STARTED_AT},
    {"step": "canary", "version": "7", "since": STARTED_AT},
)


class Played(ThreadingHTTPServer):
    """Answers the reload with 202, and then each question about it with the next of *way*.

    Attributes:
        asked: the paths that were posted to.
        ended: how the reload ends after the last of *way*; None: it never does.
    """

    daemon_threads = True

    def __init__(
        self, way: Sequence[Mapping[str, Any] | str | None], ended: Mapping[str, str] | None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.way = list(way)
        self.ended = ended
        self.asked: list[str] = []
        self.waited_for = threading.Event()

    def reading(self) -> dict[str, Any]:
        """What the model says now."""
        running = {"state": "running", "started_at": STARTED_AT}
        facts = {}
        if self.way:
            if (progress := self.way.pop(0)) is not None:
                facts["progress"] = progress
        elif self.ended is not None:
            running |= self.ended
        else:
            self.waited_for.set()
        return {"probe": "model", "summary": "serving version 6", "facts": facts, "reload": running}


class Answering(BaseHTTPRequestHandler):
    server: Played

    def do_GET(self) -> None:
        health = {"status": "healthy", "summary": "", "probes": {}}
        self._answer(200, health if self.path == "/health/detailed" else self.server.reading())

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        if "dry_run=true" in self.path:
            done = {"state": "done", "detail": "would go to version 7", "started_at": STARTED_AT}
            self._answer(200, done)
        else:
            self._answer(202, {"state": "running", "started_at": STARTED_AT})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def played(
    way: Sequence[Mapping[str, Any] | str | None] = WAY, ended: Mapping[str, str] | None = None
) -> Iterator[tuple[Played, str]]:
    with Played(way, ended) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(GIVE_UP)


DONE = {"state": "done", "detail": "went to version 7"}


def test_a_terminal_sees_a_bar_with_the_share_the_size_and_the_rate() -> None:
    with played(ended=DONE) as (_, address):
        status, text = on_a_terminal("reload", "model", "--url", address)
    assert status == 0
    drawn = text.split("\r\x1b[K")
    assert drawn[1] == "reloading model: serving version 6"
    assert drawn[2] == "| asking the registry … 0 s"
    assert drawn[3] == "fetching version 7 [--------------] 0 % of 2 GB"
    assert drawn[4].startswith("fetching version 7 [####----------] 25 % of 2 GB, ")
    assert drawn[4].endswith(" s left")
    assert "B/s" in drawn[4]
    assert drawn[5] == "| loading version 7 … 0 s"
    assert drawn[6] == "| proving version 7 … 0 s"
    assert drawn[-1] == "went to version 7\r\n", "the line is gone, and the outcome stays"
    assert max(map(len, drawn)) < 80


def test_a_log_gets_a_line_a_step() -> None:
    with played(ended=DONE) as (_, address):
        done = mlopsd("reload", "model", "--url", address)
    assert (done.returncode, done.stdout) == (0, "went to version 7\n")
    assert done.stderr.splitlines() == [
        "asking the registry",
        "fetching version 7, 2 GB",
        "loading version 7",
        "proving version 7",
    ]


def test_a_refusal_after_a_long_way_is_the_exit_status_and_one_line() -> None:
    refused = {"state": "refused", "detail": "version 7: r2 0.1 is below 0.2"}
    with played([WAY[1]], refused) as (_, address):
        done = mlopsd("reload", "model", "--url", address)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last == "mlopsd: cannot reload probe 'model': refused: version 7: r2 0.1 is below 0.2"


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ([], ""),
        (["--force"], "?force=true"),
        (["--dry-run"], "?dry_run=true"),
        (["--dry-run", "--force"], "?dry_run=true&force=true"),
    ],
)
def test_the_options_are_those_of_the_request(options: list[str], query: str) -> None:
    with played([], DONE) as (server, address):
        done = mlopsd("reload", "model", *options, "--url", address)
    assert done.returncode == 0, done.stderr
    assert server.asked == [f"/health/model/reload{query}"]
    assert done.stdout == ("would go to version 7\n" if "--dry-run" in options else "went to version 7\n")


@pytest.mark.parametrize("option", ["--dry-run", "--force"])
def test_the_options_of_a_probe_want_a_probe(option: str) -> None:
    done = mlopsd("reload", option)
    assert done.returncode == 1
    assert done.stderr == "mlopsd: cannot reload: --dry-run and --force need a probe; name one\n"


def test_ctrl_c_ends_the_waiting_and_says_that_the_reload_goes_on() -> None:
    command = [sys.executable, "-m", "mlopsd", "reload", "model", "--url"]
    ours, theirs = pty.openpty()
    with (
        played([]) as (server, address),
        subprocess.Popen(
            [*command, address], stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
        ) as process,
    ):
        os.close(theirs)
        assert server.waited_for.wait(GIVE_UP)
        process.send_signal(signal.SIGINT)
        assert process.wait(GIVE_UP) == 130
    text = os.read(ours, 65536).decode()
    os.close(ours)
    goes_on = "mlopsd: the reload of probe 'model' continues in the daemon; see its result"
    assert text.rpartition("\r\x1b[K")[2] == f"{goes_on} with mlopsd status\r\n"


def test_the_rate_is_that_of_the_last_looks() -> None:
    clock = iter(range(100)).__next__
    meter = RolloutMeter(clock)
    fetch = Progress("fetch", "7", total_bytes=2_000_000_000)
    meter.format_live(replace(fetch, bytes=0))
    looked = replace(fetch, bytes=100_000_000)
    assert meter.format_live(looked).endswith(" 5 % of 2 GB, 100 MB/s, 19 s left")
    for _ in range(10):
        stuck = meter.format_live(looked)
    assert stuck.endswith(" 5 % of 2 GB"), "no rate, and no end in sight"
    unsized = Progress("fetch", "7", bytes=200_000_000)
    assert meter.format_live(unsized) == "fetching version 7 200 MB, 11.1 MB/s"


def test_what_is_no_step_of_ours_is_named_all_the_same() -> None:
    assert RolloutMeter(lambda: 0.0).format_live(Progress("warm-up", "7")) == "| warm-up version 7 … 0 s"
    assert format_log_line(Progress("reloading")) == "reloading version ?"


@pytest.mark.parametrize("fact", [{}, {"version": "7"}, [], 7, ""])
def test_a_progress_of_another_form_is_left_out(fact: object) -> None:
    reading = {"summary": "serving version 6", "facts": {"progress": fact}}
    shown: list[object] = []

    class Line(ProgressLine):
        def show(self, text: object, plain: str = "") -> None:
            shown.append(text)

    _show_progress("model", reading, RolloutMeter(), Line(sys.stderr))
    assert shown == ["reloading model: serving version 6"]


def test_a_bar_stays_within_itself() -> None:
    assert [draw_bar(ratio, 4) for ratio in (-1, 0, 0.5, 1, 7)] == [
        "[----]",
        "[----]",
        "[##--]",
        "[####]",
        "[####]",
    ]
