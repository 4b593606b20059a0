"""The life of the daemon as its operator sees it: a real process, its signals, its doors and its log."""

import contextlib
import http.client
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig
from mlopsd.config.schema import Settings
from mlopsd.daemon.daemon import Daemon
from mlopsd.history import History
from mlopsd.log import Drain, MaskingHandler
from mlopsd.state_dir import Places, StateFolder
from tests.cli.command import mlopsd
from tests.installed import installed
from tests.keys import KEY, line_of
from tests.running import CALM_SYSTEM, GIVE_UP, Answer, Running, free_port

HUNG = """
[probes.in_a_process]
use = "troubled"
trouble = "hangs"
timeout = 0.5
isolation = "process"
[probes.without_the_gil]
use = "troubled"
trouble = "holds_the_gil"
timeout = 0.5
isolation = "process"
[probes.deaf]
use = "troubled"
trouble = "ignores_sigterm"
timeout = 0.5
isolation = "process"
[probes.in_a_thread]
use = "troubled"
trouble = "hangs"
timeout = 0.5
isolation = "thread"
[probes.on_the_loop]
use = "async_troubled"
trouble = "will_not_be_cancelled"
timeout = 0.5
"""
FINE = '[probes.door]\nuse = "troubled"\nisolation = "thread"\n'
CANNOT_BE_HAD = {
    "probe": "cannot declare mlopsd_probe_status of plugin 'probe': it has ",
    "picky": "cannot validate its options (PermissionError: [Errno 13] Permission denied: '/nowhere/key')",
    "leaving": "leaving.py:3 (SystemExit: 3); repair or upgrade",
    "blocked": "File exists; move the file at that path away",
}  # probes that are not there for a reason that shows late: name, what is said of it


@pytest.fixture
def strange(strange_path: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which the misbehaving probes are installed."""
    points = {
        "troubled": "troubled:Troubled",
        "pointed": "troubled:Pointed",
        "async_troubled": "troubled:AsyncTroubled",
        "blocked": "troubled:Troubled",
        "probe": "awkward:Clash",
        "picky": "awkward:Picky",
        "leaving": "leaving:Leaving",
    }
    return installed(tmp_path, points, strange_path)


Start = Callable[..., Running]


@pytest.fixture
def start(strange: dict[str, str], tmp_path: Path) -> Start:
    def begin(text: str, *arguments: str, until: str = "started", **more: str) -> Running:
        return Running(tmp_path, text, *arguments, environment={**strange, **more}, until=until)

    return begin


class Manager:
    """A service manager that writes down what it is told."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.settimeout(10)

    def hears(self, wanted: str) -> str:
        while wanted not in (reported := self.socket.recv(4096).decode()):
            pass
        return reported

    def heard(self) -> list[str]:
        """What was told and not listened to."""
        reported = []
        while select.select([self.socket], [], [], 0)[0]:
            reported.append(self.socket.recv(4096).decode())
        return reported


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=GIVE_UP)
    return not alive


def test_with_every_probe_hung_health_answers_and_the_end_waits_for_none(start: Start) -> None:
    with start(HUNG) as daemon:
        health = daemon.until(
            "/health/", lambda reported: "timeout" in str(reported) or "no answer" in str(reported)
        )
        assert set(health["probes"].values()) == {"unknown"}
        assert daemon.get("/health/").status == 503
        assert daemon.get("/livez").status == 200
        children = family(daemon.pid)
        daemon.stop()  # the hung calls take an hour
        assert daemon.process.returncode == 0
        assert gone(children)
        assert "on_the_loop" in str(daemon.event("tasks left running")["tasks"])


def test_killed_outright_it_leaves_no_process_behind(start: Start) -> None:
    with start(HUNG + '[probes.alive]\nuse = "troubled"\nisolation = "process"\n') as daemon:
        daemon.until("/health/alive", lambda reported: reported["status"] == "healthy")
        children = family(daemon.pid)
        assert children
        daemon.stop(signal.SIGKILL)
        assert gone(children)


def test_a_change_of_status_is_one_line_and_a_failing_probe_does_not_fill_the_journal(start: Start) -> None:
    with start('[probes.door]\nuse = "troubled"\ntrouble = "raises"\nisolation = "thread"\n') as daemon:
        daemon.until("/health/door", lambda reported: reported["raw_count"] >= 10)
        assert len(daemon.events("probe check failed")) == 1
        assert "ZeroDivisionError" in daemon.event("probe check failed")["traceback"]
        (first,) = daemon.events("probe status changed")
        assert (first["level"], first["status"]) == ("warning", "unknown")
        (error,) = daemon.events("finding appeared")
        assert (error["probe"], error["finding"], error["status"]) == ("door", "error", "unknown")


def test_a_good_probe_is_reported_once_and_its_checks_are_no_news(start: Start) -> None:
    with start(FINE) as daemon:
        daemon.until("/health/door", lambda reported: reported["raw_count"] >= 10)
        (change,) = daemon.events("probe status changed")
        assert (change["probe"], change["before"], change["status"]) == ("door", "unknown", "healthy")
        assert len(daemon.events("health changed")) == 1
        assert daemon.events("probe checked") == []
        assert daemon.events("request") == [], "polls are not news"


def test_a_good_file_changes_only_what_differs(start: Start) -> None:
    with start(CALM_SYSTEM + '[probes.door]\nuse = "troubled"\n') as daemon:
        daemon.until("/health/", lambda reported: reported["status"] == "healthy")
        since = daemon.get("/health/system").json["since"]
        worker = next(child.pid for child in family(daemon.pid))
        text = f'[log]\nlevel = "DEBUG"\n{CALM_SYSTEM}[probes.gate]\nuse = "troubled"\n'
        daemon.config.write_text(daemon.framed(text), "utf-8")
        answer = daemon.ask("POST", "/reload", local=True)
        assert answer.status == 200
        assert answer.json["changes"] == [
            "table log changed",
            "probe door is no longer watched",
            "probe gate is now watched",
        ]
        daemon.until(
            "/health/", lambda reported: reported["probes"] == {"system": "healthy", "gate": "healthy"}
        )
        assert daemon.get("/health/system").json["since"] == since
        assert worker in [child.pid for child in family(daemon.pid)], "the system probe's process is the same"
        assert daemon.get("/health/door").status == 404
        assert 'probe="door"' not in daemon.get("/metrics").body.decode()
        daemon.wait_for(lambda line: line["event"] == "probe checked")


def test_a_bad_file_changes_nothing_and_is_reported_to_everybody(start: Start) -> None:
    with start(FINE) as daemon:
        daemon.config.write_text(daemon.framed("[api]\nprot = 1\n"), "utf-8")
        refused = daemon.ask("POST", "/reload", local=True)
        assert refused.status == 409
        assert "api.prot: no such key; did you mean 'port'?" in refused.json["detail"]
        assert "api.prot" in daemon.get("/info").json["configuration"]["error"]
        assert "api.prot" in str(daemon.wait_for(lambda line: line["event"] == "configuration not reloaded"))
        assert daemon.get("/health/door").status == 200


def test_sighup_reloads_the_configuration(start: Start) -> None:
    with start(FINE) as daemon:
        daemon.config.write_text(daemon.framed(FINE + "[probes.system]\n"), "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        line = daemon.wait_for(lambda line: line["event"] == "configuration reloaded")
        assert line["changes"] == ["probe system is now watched"]
        daemon.config.write_text("[", "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda line: line["event"] == "configuration not reloaded")
        assert daemon.get("/livez").status == 200


@pytest.mark.parametrize("name", CANNOT_BE_HAD)
def test_a_probe_that_cannot_be_had_refuses_the_reload_and_nothing_else(start: Start, name: str) -> None:
    with start(FINE) as daemon:
        (daemon.folder / "state" / "probes" / "blocked").touch()
        text = f'[log]\nlevel = "DEBUG"\n[probes.gate]\nuse = "troubled"\n[probes.{name}]\n'
        daemon.config.write_text(daemon.framed(text), "utf-8")
        refused = daemon.ask("POST", "/reload", local=True)
        assert refused.status == 409
        (mistake,) = refused.json["mistakes"]
        assert f"probes.{name}: " in mistake
        assert CANNOT_BE_HAD[name] in mistake
        assert daemon.get("/info").json["configuration"]["error"] == mistake
        daemon.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            line = daemon.wait_for(lambda line: line["event"] == "configuration not reloaded")
            assert line["mistakes"] == [mistake]
        assert list(daemon.get("/health/").json["probes"]) == ["door"]
        assert daemon.events("probe checked") == [], "the log's level is as it was"
        assert daemon.ask("POST", "/health/door/check", local=True).status == 200


@pytest.mark.parametrize("name", CANNOT_BE_HAD)
def test_a_probe_that_cannot_be_had_ends_the_start_with_one_line(
    strange: dict[str, str], tmp_path: Path, name: str
) -> None:
    probes = tmp_path / "state" / "probes"
    probes.mkdir(parents=True)
    (probes / "blocked").touch()
    (tmp_path / "state" / "layout").write_text("1\n", "ascii")
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n[probes.{name}]\n', "utf-8")
    assert CANNOT_BE_HAD[name] in refuse("--config", str(config), "--port", "0", **strange)


async def test_a_reload_that_breaks_is_reported_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> tuple[LoadedConfig, tuple[ProbeConfig, ...]]:
        raise ZeroDivisionError("one over nought")

    loaded = LoadedConfig(Settings(), None, ())
    drain = Drain(MaskingHandler())
    places = Places(tmp_path, tmp_path / "s")
    daemon = Daemon(break_down, loaded, StateFolder(tmp_path), places, drain=drain, history=History(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"^reload: failed by a bug in mlopsd \(ZeroDivisionError: one over"
    ):
        await daemon.reloads.ask()
    (record,) = caplog.records
    assert record.getMessage() == "configuration not reloaded"
    assert record.exc_info, "a fault of ours has its traceback in the log"


async def test_a_reload_checks_folders_off_the_loop_and_before_it_changes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Places(tmp_path, tmp_path / "s")
    loaded = LoadedConfig(Settings(state_dir=where.state, socket=where.socket), None, ())
    logs: Any = {"drain": Drain(MaskingHandler()), "history": History(tmp_path)}
    daemon = Daemon(lambda: (loaded, ()), loaded, StateFolder(tmp_path), where, **logs)
    threads: list[str] = []

    def search(_where: Places) -> list[ConfigIssue]:
        threads.append(threading.current_thread().name)
        raise RuntimeError("far enough")

    monkeypatch.setattr("mlopsd.daemon.daemon.shared", search)
    with pytest.raises(ConfigurationError):
        await daemon.reloads.ask()
    assert threads == ["check configuration"]


async def test_a_fault_in_the_search_for_warnings_is_logged_and_ends_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    where = Places(tmp_path, tmp_path / "s")
    loaded = LoadedConfig(Settings(state_dir=where.state, socket=where.socket), None, ())
    logs: Any = {"drain": Drain(MaskingHandler()), "history": History(tmp_path)}
    daemon = Daemon(lambda: (loaded, ()), loaded, StateFolder(tmp_path), where, **logs)

    def search(_where: Places) -> list[ConfigIssue]:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("mlopsd.daemon.daemon.shared", search)
    await daemon._warn([])
    (record,) = caplog.records
    assert record.getMessage() == "configuration check failed"


def test_what_was_hardly_meant_is_a_line_in_the_log(start: Start) -> None:
    with start("") as daemon:
        assert "nothing is watched" in daemon.logged("configuration warning")["warning"]


def test_a_place_that_is_taken_at_the_start_does_not_move(start: Start) -> None:
    with start(FINE) as daemon:
        daemon.config.write_text(f'state_dir = "/nowhere/state"\nsocket = "{daemon.socket}"\n', "utf-8")
        refused = daemon.ask("POST", "/reload", local=True)
        assert refused.status == 409
        assert "cannot move from" in refused.json["detail"]


def test_keys_and_origins_apply_without_a_refused_connection(start: Start) -> None:
    with start(FINE) as daemon:
        assert daemon.ask("POST", "/health/door/check").status == 403
        stop, failures, asked = threading.Event(), [], []

        def ask_on_and_on() -> None:
            while not stop.is_set():
                try:
                    asked.append(daemon.get("/livez").status)
                except OSError as error:
                    failures.append(error)

        asking = threading.Thread(target=ask_on_and_on)
        asking.start()
        text = f'[api]\napi_keys = ["{line_of()}"]\ncors_origins = ["https://board.example"]\n' + FINE
        daemon.config.write_text(daemon.framed(text), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200
        key = {"X-API-Key": KEY}
        assert daemon.ask("POST", "/health/door/check", key).status == 200
        assert daemon.ask("POST", "/health/door/check").status == 401
        origin = {"Origin": "https://board.example"}
        assert "Access-Control-Allow-Origin" in daemon.ask("GET", "/health/", origin).headers
        stop.set()
        asking.join()
        assert failures == []
        assert set(asked) == {200}


def test_the_address_moves_with_the_configuration(strange: dict[str, str], tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    with Running(tmp_path, FINE, environment={**strange}) as daemon:
        daemon.config.write_text(daemon.framed(f"[metrics]\nport = {first}\n{FINE}"), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).json["changes"] == [
            f"metrics is now at 127.0.0.1:{first}",
            "table metrics changed",
        ]
        assert ask(first, "/metrics") == 200
        assert ask(first, "/health/") == 404
        with socket.create_server(("127.0.0.1", second)):
            daemon.config.write_text(daemon.framed(f"[metrics]\nport = {second}\n{FINE}"), "utf-8")
            refused = daemon.ask("POST", "/reload", local=True)
            assert refused.status == 409
            assert "address already in use" in refused.json["detail"]
            assert ask(first, "/metrics") == 200, "the old one stays"
        daemon.config.write_text(daemon.framed(FINE), "utf-8")
        assert "metrics is closed" in daemon.ask("POST", "/reload", local=True).json["changes"]


def test_draining_answers_no_and_keeps_serving(start: Start) -> None:
    with start(f"[api]\ndrain_delay = 60\n{FINE}") as daemon:
        assert daemon.get("/readyz").status == 200
        daemon.process.terminate()
        daemon.wait_for(lambda line: line["event"] == "stopping")
        assert daemon.get("/readyz").status == 503
        assert daemon.get("/health/").status == 503
        assert daemon.get("/livez").status == 200


def test_draining_ends_when_the_delay_is_over(start: Start) -> None:
    with start(f"[api]\ndrain_delay = 0.3\n{FINE}") as daemon:
        assert daemon.stop() >= 0.3
        assert daemon.process.returncode == 0


@pytest.mark.parametrize("by", ["signal", "request"])
def test_a_reload_that_cannot_read_its_file_does_not_keep_the_end_back(start: Start, by: str) -> None:
    with start(FINE) as daemon:
        answers: list[Answer] = []
        caller = threading.Thread(
            target=lambda: answers.append(daemon.ask("POST", "/reload", local=True)), daemon=True
        )
        daemon.config.unlink()
        os.mkfifo(daemon.config)
        if by == "signal":
            daemon.process.send_signal(signal.SIGHUP)
        else:
            caller.start()
        with writing_to(daemon.config):
            daemon.stop()  # while the file is still being read
        assert daemon.process.returncode == 0
        if by == "request":
            caller.join(GIVE_UP)
            assert "the daemon is stopping" in answers[0].json["detail"]
        assert daemon.events("tasks left running") == []


@contextlib.contextmanager
def writing_to(fifo: Path) -> Iterator[None]:
    """Hold the other end of *fifo* from the moment at which somebody reads, and write nothing."""
    ends: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):  # ENXIO: nobody reads
            ends.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    wait_until(is_read)
    try:
        yield
    finally:
        os.close(ends[0])


def test_while_it_drains_nothing_is_reloaded(start: Start, manager: Manager) -> None:
    with start(f"[api]\ndrain_delay = 60\n{FINE}", NOTIFY_SOCKET=manager.address) as daemon:
        manager.hears("READY=1")
        daemon.process.terminate()
        manager.hears("STOPPING=1")
        daemon.config.write_text(daemon.framed(FINE + "[probes.system]\n"), "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        refused = daemon.ask("POST", "/reload", local=True)
        assert refused.status == 409
        assert "the daemon is stopping" in refused.json["detail"]
        assert list(daemon.get("/health/").json["probes"]) == ["door"]
        assert not [
            reported for reported in manager.heard() if "READY" in reported or "RELOADING" in reported
        ]


def test_a_request_in_flight_is_answered_before_the_end(start: Start, tmp_path: Path) -> None:
    gate, seen = tmp_path / "gate", tmp_path / "gate.reached"
    slow = f'use = "troubled"\ntrouble = "looks_slowly"\npath = "{gate}"\nwell_first = true\ninterval = 60\n'
    with start(f"[probes.slow]\n{slow}") as daemon:
        answers: list[int] = []
        caller = threading.Thread(
            target=lambda: answers.append(daemon.ask("POST", "/health/slow/check", local=True).status)
        )
        caller.start()
        wait_until(seen.exists, 30)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for(lambda line: bool(line["event"] == "stopping"))
        gate.touch()
        caller.join()
        assert answers == [200]
        assert daemon.process.wait(GIVE_UP) == 0


@pytest.mark.parametrize("held", ["state", "port"])
def test_what_another_daemon_holds_is_one_line(start: Start, tmp_path: Path, held: str) -> None:
    with start(FINE) as daemon:
        config = tmp_path / "other.toml"
        state = daemon.folder / ("state" if held == "state" else "other")
        config.write_text(f'state_dir = "{state}"\n', "utf-8")
        port = str(daemon.port) if held == "port" else "0"
        output = refuse("--config", str(config), "--port", port)
        expected = {
            "state": f"cannot start: another mlopsd (pid {daemon.pid}) uses {state}; stop it, or",
            "port": f"cannot listen on 127.0.0.1:{port}: address already in use; stop what holds it or",
        }
        assert output.startswith(f"mlopsd: {expected[held]}")


def test_an_unusable_state_folder_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place, cause in ((file / "state", "Not a directory"), (Path("/proc/state"), "No such file")):
        config = tmp_path / "config.toml"
        config.write_text(f'state_dir = "{place}"\n', "utf-8")
        output = refuse("--config", str(config), "--port", "0")
        assert output.startswith(f"mlopsd: cannot use the state folder {place}: {cause}"), output


def refuse(*arguments: str, **environment: str) -> str:
    """What ``mlopsd run`` says when it cannot start: one line, exit 1."""
    command = [sys.executable, "-m", "mlopsd", "run", *arguments]
    output = subprocess.run(
        command, capture_output=True, text=True, timeout=GIVE_UP, env=os.environ | environment
    )
    assert output.returncode == 1, output.stderr
    assert output.stderr.count("\n") == 1, output.stderr
    assert "Traceback" not in output.stderr
    return output.stderr


def test_systemd_is_notified_how_it_goes(start: Start, manager: Manager) -> None:
    with start(FINE, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="1000000") as daemon:
        assert "STATUS=healthy: 1 of 1 probes healthy" in manager.hears("READY=1")
        manager.hears("WATCHDOG=1")
        daemon.config.write_text(daemon.framed("["), "utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        manager.hears("RELOADING=1")
        assert "last configuration reload failed" in manager.hears("READY=1")
        daemon.process.terminate()
        manager.hears("STOPPING=1")


def test_a_frozen_probe_does_not_keep_the_daemon_from_being_ready(start: Start, manager: Manager) -> None:
    with start(HUNG, NOTIFY_SOCKET=manager.address):
        assert "STATUS=unknown: " in manager.hears("READY=1")


FOR_AN_HOUR = """
[probes.slow]
use = "troubled"
trouble = "{trouble}"
path = "{path}"
isolation = "thread"
timeout = 3600
"""


def test_a_reload_before_the_first_reading_that_brings_a_probe_ends_nothing(
    start: Start, manager: Manager, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    slow = FOR_AN_HOUR.format(trouble="looks_slowly", path=gate)
    with start(slow, NOTIFY_SOCKET=manager.address, until="listening") as daemon:
        daemon.config.write_text(daemon.framed(slow + FINE), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).json["changes"] == ["probe door is now watched"]
        assert not [reported for reported in manager.heard() if "READY" in reported], (
            "the slow one has no reading yet"
        )
        gate.touch()
        daemon.wait_for(lambda line: line["event"] == "started")
        manager.hears("READY=1")
        assert sorted(daemon.get("/health/").json["probes"]) == ["door", "slow"]


def test_a_reload_before_the_first_reading_that_takes_the_probe_away_does_not_keep_ready_back(
    start: Start, manager: Manager
) -> None:
    hung = FOR_AN_HOUR.format(trouble="hangs", path="/dev/null")
    with start(hung, NOTIFY_SOCKET=manager.address, until="listening") as daemon:
        daemon.config.write_text(daemon.framed(FINE), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200
        daemon.wait_for(lambda line: line["event"] == "started")
        manager.hears("READY=1")
        assert list(daemon.get("/health/").json["probes"]) == ["door"]


def ask(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def wait_until(condition: Callable[[], Any], seconds: float = GIVE_UP) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_daemon_without_descriptors_answers_who_is_there_and_says_so_once(
    start: Start, tmp_path: Path
) -> None:
    with start(f"{FINE}interval = 3600\n") as daemon:  # whose checks take no descriptor in between
        known = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=GIVE_UP)
        assert asked(known) == 200
        taken = {int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        free = min(set(range(len(taken) + 1)) - taken)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        with socket.create_connection(("127.0.0.1", daemon.port)):
            line = daemon.wait_for(lambda line: bool(line["event"] == "cannot accept connections"))
            assert line["reason"].startswith("Too many open files; raise LimitNOFILE=")
            assert "exc_info" not in line
            assert asked(known) == 200
            time.sleep(1.2)  # asyncio tries again each second
        assert asked(known) == 200
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        assert daemon.get("/livez").status == 200
        known.close()
        assert len(daemon.events("cannot accept connections")) == 1


def asked(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Polled(threading.Thread):
    """Asks /readyz of *daemon* again and again until told to end."""

    def __init__(self, daemon: Running) -> None:
        super().__init__(daemon=True)
        self._running, self._enough = daemon, threading.Event()
        self.codes: list[int] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(30)

    def run(self) -> None:
        while not self._enough.is_set():
            self.codes.append(self._running.get("/readyz").status)


def is_of_now(reported: dict[str, Any]) -> bool:
    return "before_reload" not in reported


def test_a_limit_that_changes_does_not_take_the_host_out_of_rotation(start: Start) -> None:
    with start(CALM_SYSTEM) as daemon:
        before = daemon.until(
            "/health/system", lambda reported: reported["status"] in ("healthy", "degraded")
        )
        with Polled(daemon) as polled:
            for limit in ("2e6", "3e6", "4e6"):
                asked = len(polled.codes)
                changed = CALM_SYSTEM.replace("load_degraded = 1e6", f"load_degraded = {limit}")
                daemon.config.write_text(daemon.framed(changed), "utf-8")
                answer = daemon.ask("POST", "/reload", local=True)
                assert answer.json["changes"] == ["probe system is restarted with its new table"]
                reported = daemon.until("/health/system", is_of_now)
                assert reported["since"] == before["since"] or reported["status"] != before["status"]
                assert len(polled.codes) > asked
        assert set(polled.codes) == {200}
        assert [line for line in daemon.events("health changed") if line["status"] == "unknown"] == []


def test_a_shorter_interval_does_not_take_the_host_out_of_rotation(start: Start) -> None:
    with start(f"{FINE}timeout = 3\ninterval = 60\n") as daemon:
        daemon.until("/health/door", lambda reported: reported["status"] == "healthy")
        daemon.until("/health/door", lambda reported: reported["age_seconds"] > 4)  # too old by the new terms
        with Polled(daemon) as polled:
            daemon.config.write_text(daemon.framed(f"{FINE}timeout = 3\ninterval = 0.2\n"), "utf-8")
            answer = daemon.ask("POST", "/reload", local=True)
            assert answer.json["changes"] == ["probe door is kept, and its terms are updated"]
            daemon.until("/health/door", lambda reported: reported["raw_count"] > 5)
        assert set(polled.codes) == {200}
        assert [line for line in daemon.events("health changed") if line["status"] == "unknown"] == []


def test_other_paths_are_unknown_until_they_have_been_checked(start: Start, tmp_path: Path) -> None:
    table = f'[probes.door]\nuse = "pointed"\ninterval = 600\npath = "{tmp_path / "one"}"\n'
    with start(table) as daemon:
        daemon.until("/health/door", lambda reported: reported["status"] == "healthy")
        changed = table.replace("one", "two") + 'trouble = "looks_slowly"\n'
        daemon.config.write_text(daemon.framed(changed), "utf-8")
        daemon.ask("POST", "/reload", local=True)
        reported = daemon.get("/health/door")
        assert (reported.status, reported.json["summary"]) == (503, "not checked yet")
        (tmp_path / "two").touch()
        daemon.until("/health/door", lambda reported: reported["status"] == "healthy")


def test_a_probe_that_hangs_after_a_reload_is_marked_until_its_first_reading(start: Start) -> None:
    table = '[probes.door]\nuse = "pointed"\nisolation = "process"\ninterval = 600\ntimeout = 5\n'
    with start(table) as daemon:
        before = daemon.until("/health/door", lambda reported: reported["status"] == "healthy")
        daemon.config.write_text(daemon.framed(table + 'trouble = "hangs"\n'), "utf-8")
        daemon.ask("POST", "/reload", local=True)
        reported = daemon.get("/health/door")
        assert reported.status == 200
        assert reported.json["before_reload"] is True
        assert reported.json["summary"] == "1 finding, healthy, by the table before the reload"
        assert reported.json["since"] == before["since"]
        assert daemon.get("/readyz").status == 200
        page = daemon.get("/", Accept="text/html").body.decode()
        assert "By the table before the reload." in page
        shown = mlopsd("status", env={"MLOPSD_CONFIG": str(daemon.config)}).stdout
        assert "by the table before the reload" in " ".join(shown.split())
        reported = daemon.until("/health/door", is_of_now).copy()
        assert (reported["status"], reported["summary"]) == ("unknown", "no answer within 5 s")


TAKE_ITS_PLACE = """
import os, socket, sys
os.rename(sys.argv[1], sys.argv[1] + ".moved")
with socket.socket(socket.AF_UNIX) as impostor:
    impostor.bind(sys.argv[1])
    impostor.listen()
    print("there", flush=True)
    sys.stdin.readline()
"""


def test_a_process_that_takes_the_sockets_place_is_noticed_and_loses_it(tmp_path: Path) -> None:
    with Running(tmp_path, CALM_SYSTEM) as daemon:
        command = [sys.executable, "-c", TAKE_ITS_PLACE, str(daemon.socket)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as impostor:
            assert impostor.stdout is not None
            impostor.stdout.readline()
            daemon.wait_for(lambda line: line["event"] == "Unix socket bound again")
            assert daemon.ask("POST", "/reload", local=True).status == 200
            impostor.communicate("\n")
        (reported,) = daemon.events("Unix socket replaced")
        assert (reported["level"], reported["path"]) == ("error", str(daemon.socket))
        assert 'mlopsd_errors_total{component="socket"} 1\n' in daemon.get("/metrics").body.decode()
        assert daemon.get("/info").json["socket"] == {"path": str(daemon.socket)}
        daemon.socket.unlink()
        daemon.socket.mkdir()
        reason = daemon.wait_for(lambda line: line["event"] == "Unix socket lost")["reason"]
        assert daemon.get("/info").json["socket"] == {"path": str(daemon.socket), "error": reason}
        assert daemon.stop() < GIVE_UP
        assert daemon.socket.is_dir()
        assert daemon.process.returncode == 0
