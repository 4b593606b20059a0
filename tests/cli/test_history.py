"""``mlopsd history``: what changed and who acted, with a daemon and without one."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlopsd.cli.terminal.history_table import format_history
from tests.cli.command import mlopsd
from tests.keys import line_of
from tests.running import Running

KEY = "a-key-that-is-long-enough"
CONFIG = f'[api]\napi_keys = ["{line_of(KEY)}"]\n[probes.open]\n'


@pytest.fixture
def daemon(odd: Mapping[str, str], tmp_path: Path) -> Running:
    return Running(tmp_path, CONFIG, environment=odd)


def test_it_tells_changes_and_who_acted_also_after_the_daemons_end(daemon: Running) -> None:
    own = {"MLOPSD_CONFIG": str(daemon.config)}
    with daemon:
        daemon.until("/health/open", lambda reading: reading["status"] == "degraded")
        assert daemon.ask("POST", "/health/open/check", {"X-API-Key": KEY}).status == 200
        assert daemon.ask("POST", "/health/open/check", {"X-API-Key": "wrong"}).status == 401
        running = mlopsd("history", env=own)
        long = [mlopsd("history", since, env=own) for since in ("30d", "1000000.5", "9" * 400 + "d")]
        public = daemon.get("/health/history?since=1h").json
        trusted = daemon.ask("GET", "/health/history", {"X-API-Key": KEY}).json
        daemon.stop()
    for text in (running.stdout, mlopsd("history", "1h", env=own).stdout):
        assert "finding appeared" in text
        assert "health changed unknown to degraded" in text
        assert "open POST /health/{probe}/check: 200, by key tests from 127.0.0.1" in " ".join(text.split())
        assert "401" not in text, "a caller who may not act is no history"
    assert (running.returncode, running.stderr) == (0, "")
    assert [(one.returncode, one.stderr) for one in long] == [(0, "")] * 3
    assert [event["fields"]["by"] for event in trusted["events"] if event["event"] == "request"] == [
        "key tests from 127.0.0.1"
    ]
    assert not any("by" in event["fields"] for event in public["events"])
    assert [event["event"] for event in public["events"]].count("request") == 1
    stopped = mlopsd("history", "--json", env=own)
    assert json.loads(stopped.stdout)["events"][-1]["event"] == "stopping"
    assert "this is the history in" in stopped.stderr


def test_without_a_daemon_and_a_file_it_fails_in_two_lines(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}/nowhere"\n[api]\nport = 1\n', "utf-8")
    done = mlopsd("history", env={"MLOPSD_CONFIG": str(config)})
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("mlopsd: cannot ask the daemon: ")
    assert second == "mlopsd: cannot read its file in place of it: No such file or directory"


@pytest.mark.parametrize("since", ["soon", "5 parsecs", "-1h"])
def test_a_time_that_is_none_is_one_line(since: str) -> None:
    done = mlopsd("history", "--", since)
    assert done.returncode == 1
    complaint = f"cannot understand SINCE {since!r}: not a duration; write it like 2h or 7d"
    assert done.stderr == f"mlopsd: {complaint}\n"


@pytest.mark.parametrize("event", ["", "  ", "fan\udcff", "x" * 2_000])
@pytest.mark.parametrize("probe", ["door", "", 7, "p" * 300, ["a"], None])
@pytest.mark.parametrize("status", ["", "healthy", 5, None, ["x"]])
def test_odd_events_are_lines_of_the_width(event: str, probe: object, status: object) -> None:
    odd = {"time": "2026-12-01T04:00:00.000Z", "event": event, "fields": {"probe": probe, "status": status}}
    lines = format_history([odd], width=80, coloured=False).splitlines()
    assert lines
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def test_a_status_that_stays_is_named_once() -> None:
    fields = {"probe": "gpu", "before": "unknown", "status": "unknown", "advice": "reboot"}
    event = {"time": "2026-12-01T04:00:00.000Z", "event": "probe status changed", "fields": fields}
    line = format_history([event], width=80, coloured=False)
    assert line.endswith("gpu  probe status changed unknown (advice: reboot)")
