"""``mlopsd status`` and ``mlopsd reload`` against a real daemon, and against things that are none."""

import json
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.command import SECONDS, Done, environment, mlopsd, on_a_terminal
from tests.keys import line_of
from tests.running import GIVE_UP, Running, free_port

KEY = "a-key-that-is-long-enough"
PROBES = "[probes.open]\n[probes.fine]\n"


def a_daemon(folder: Path, odd: Mapping[str, str]) -> Running:
    """One degraded and one healthy probe; it knows one API key."""
    return Running(folder, f'[api]\napi_keys = ["{line_of(KEY)}"]\n{PROBES}', environment=odd)


@pytest.fixture(scope="module")
def daemon(odd: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A daemon for the tests that leave it as it is."""
    with a_daemon(tmp_path_factory.mktemp("status"), odd) as running:
        yield running


@pytest.fixture
def own_daemon(odd: Mapping[str, str], tmp_path: Path) -> Iterator[Running]:
    """A daemon for one test, which changes its configuration or its socket."""
    with a_daemon(tmp_path, odd) as running:
        yield running


def asked(daemon: Running, *arguments: str | Path) -> Done:
    """The command line as a user of this daemon's configuration runs it."""
    return mlopsd(*arguments, env={"MLOPSD_CONFIG": str(daemon.config)})


def url(daemon: Running) -> str:
    return f"http://127.0.0.1:{daemon.port}"


def test_people_get_a_table_of_at_most_80_columns_without_colour(daemon: Running) -> None:
    done = asked(daemon, "status")
    assert (done.returncode, done.stderr) == (1, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("degraded  for ")
    assert "advice: watch" in lines[0]
    rows = {line.split()[0]: line.split() for line in lines if line[:1].isalpha()}
    assert rows["fine"][1] == "healthy"
    assert rows["open"][1] == "degraded"
    assert any("degraded door front" in line and "advice: watch" in line for line in lines)


def test_a_terminal_gets_colour(daemon: Running) -> None:
    status, text = on_a_terminal("status", "--url", url(daemon))
    assert status == 1
    assert "\x1b[33mdegraded\x1b[0m" in text


def test_programs_get_the_answer_of_the_daemon(daemon: Running) -> None:
    done = asked(daemon, "status", "--json")
    health = json.loads(done.stdout)
    assert (done.returncode, health["status"]) == (1, "degraded")
    assert health["probes"]["open"]["findings"][1]["subject"] == "front"


def test_monitoring_plugins_get_one_line_that_the_summary_cannot_break(daemon: Running) -> None:
    done = asked(daemon, "status", "--nagios")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    text, numbers = line.split("|")
    assert text == "MLOPSD WARNING - open degraded: the door / is open; advice: watch "
    assert numbers == " healthy=1 degraded=1 unhealthy=0 unknown=0"


def test_the_unix_socket_is_asked_first_and_the_port_where_there_is_none(own_daemon: Running) -> None:
    own_daemon.socket.unlink()
    env = {"MLOPSD_CONFIG": str(own_daemon.config), "MLOPSD_API__PORT": str(own_daemon.port)}
    assert mlopsd("status", env=env).returncode == 1


def test_a_reload_that_changed_nothing_is_shown_with_its_reason(own_daemon: Running) -> None:
    own_daemon.config.write_text(own_daemon.framed("[probes.open]\nintervall = 3\n"))
    done = asked_over_socket(own_daemon, "reload")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: cannot reload the configuration: ")
    assert "intervall" in line
    shown = asked_over_socket(own_daemon, "status").stdout
    assert "the last reload of the configuration failed:" in shown
    assert "intervall" in shown


def asked_over_socket(daemon: Running, *arguments: str) -> Done:
    """As `asked`, where the file itself cannot be read for the mistakes in it."""
    return mlopsd(*arguments, env={"MLOPSD_SOCKET": str(daemon.socket)})


def test_a_good_reload_says_what_changed(own_daemon: Running) -> None:
    own_daemon.config.write_text(own_daemon.framed("[probes.open]\ninterval = 77\n[probes.fine]\n"))
    done = asked(own_daemon, "reload")
    assert done.returncode == 0
    assert "probe open is" in done.stdout
    assert asked(own_daemon, "reload").stdout == "nothing changed\n"


def test_a_daemon_elsewhere_wants_its_key(daemon: Running, tmp_path: Path) -> None:
    done = mlopsd("reload", "--url", url(daemon))
    assert done.returncode == 1
    assert "an API key is needed" in done.stderr
    keys = tmp_path / "keys"
    keys.write_text(f"  # ours\n{KEY}\n")
    assert mlopsd("reload", "--url", url(daemon), "--key-file", keys).returncode == 0


def test_a_probe_that_has_nothing_to_reload_says_so(daemon: Running) -> None:
    done = asked(daemon, "reload", "fine")
    assert done.returncode == 1
    assert done.stderr.startswith("mlopsd: cannot reload probe 'fine': ")


def test_an_unknown_probe_is_named_with_the_nearest(daemon: Running) -> None:
    done = asked(daemon, "reload", "fin")
    assert done.returncode == 1
    assert "did you mean 'fine'?" in done.stderr


def test_a_reload_of_a_probe_is_waited_for_with_progress(odd: Mapping[str, str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Running(tmp_path, f'[probes.reloads]\npath = "{gate}"\n', environment=odd) as running:
        env = {"MLOPSD_CONFIG": str(running.config)}
        status, text = reload_until("fetching", gate.touch, env)
        assert status == 0
        assert "reloading reloads: fetching" in text
        assert text.endswith("went to version 4\r\n")
        refused = mlopsd("reload", "reloads", env=env)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert (
            refused.stderr == "mlopsd: cannot reload probe 'reloads': refused: once is enough; start anew\n"
        )


def reload_until(shown: str, then: Callable[[], None], env: Mapping[str, str]) -> tuple[int, str]:
    """As `on_a_terminal`, for a reload of ``reloads``; *then* is called as soon as *shown* is seen there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "mlopsd", "reload", "reloads"]
    seen = b""
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(env)
        ) as process,
    ):
        os.close(theirs)
        with suppress(OSError):  # EIO: the other side has closed the terminal
            while part := terminal.read(65536):
                seen += part
                if shown.encode() in seen:
                    then()
        return process.wait(SECONDS), seen.decode()


def test_no_daemon_is_unknown_with_the_cure(tmp_path: Path) -> None:
    env = {"MLOPSD_STATE_DIR": str(tmp_path), "MLOPSD_API__PORT": str(free_port())}
    done = mlopsd("status", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: cannot ask the daemon: http://127.0.0.1:")
    assert line.endswith("Connection refused; is it running? systemctl status mlopsd")
    plugin = mlopsd("status", "--nagios", env=env)
    assert (plugin.returncode, plugin.stderr) == (3, "")
    assert plugin.stdout.startswith("MLOPSD UNKNOWN - cannot ask the daemon: ")
    assert mlopsd("reload", env=env).returncode == 1


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """The address of a server that accepts, and then says *answer* or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(connection)
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(GIVE_UP)
            for connection in held:
                connection.close()


def test_a_daemon_that_accepts_and_never_answers_costs_five_seconds() -> None:
    with server(b"") as address:
        done = mlopsd("status", "--url", address)
    assert done.returncode == 3
    assert "no answer within 5 s" in done.stderr


def test_a_daemon_that_drips_costs_no_more() -> None:
    """A byte now and then keeps every socket's timeout from running out."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            while not over.wait(0.5):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=lambda: drip(listening.accept()[0]))
        thread.start()
        try:
            done = mlopsd("status", "--url", address)
        finally:
            over.set()
            thread.join()
    assert done.returncode == 3
    assert (
        done.stderr
        == f"mlopsd: cannot ask the daemon: {address}: no answer within 5 s; is the address right?\n"
    )


def test_a_configuration_that_cannot_be_used_is_told_before_the_default_address_is_asked(
    daemon: Running,
) -> None:
    env = {"MLOPSD_CONFIG": "/nowhere.toml", "MLOPSD_API__PORT": "1"}
    done = mlopsd("status", env=env)
    line, _ = done.stderr.splitlines()
    assert line == (
        "mlopsd: cannot use the configuration, so the default address is used: /nowhere.toml: "
        "cannot read the configuration: No such file or directory; or set it with --url"
    )
    assert asked(daemon, "status").stderr == ""


def test_a_socket_that_accepts_and_never_answers_costs_no_more(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        env = {"MLOPSD_SOCKET": str(path), "MLOPSD_API__PORT": str(free_port())}
        done = mlopsd("status", env=env)
    assert done.returncode == 3
    assert f"unix:{path}: no answer within 5 s" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 404 No\r\nContent-Length: 16\r\n\r\n{"detail": "no!"}'[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_whatever_else_answers_there_is_one_line_and_no_traceback(answer: bytes) -> None:
    with server(answer) as address:
        done = mlopsd("status", "--url", address)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert address in line


@pytest.mark.parametrize("address", ["localhost:9178", "ftp://x", "http://", "http://x:99999", "http://[x"])
def test_an_address_that_cannot_be_asked_is_a_mistake(address: str) -> None:
    done = mlopsd("status", "--url", address)
    assert done.returncode == 3
    assert done.stderr.startswith(f"mlopsd: cannot ask {address!r}: ")


def test_a_path_in_the_address_is_a_proxys_and_said_to_be_where_nothing_answers(daemon: Running) -> None:
    done = mlopsd("status", "--url", f"{url(daemon)}/")
    assert done.returncode == 1
    done = mlopsd("status", "--url", f"{url(daemon)}/health/detailed")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "no endpoint at /health/detailed/health/detailed" in line
    assert line.endswith("went to paths below /health/detailed, as for a proxy; omit it otherwise")


@pytest.mark.parametrize("more", ["?a=b", "#top", "user:s3cret@"])
def test_what_means_nothing_in_an_address_is_a_mistake(more: str) -> None:
    address = f"http://{more}host:9178" if more.endswith("@") else f"http://host:9178/{more}"
    done = mlopsd("status", "--url", address)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: cannot ask more than 'http://host:9178")
    assert "s3cret" not in line


@pytest.mark.parametrize("content", [None, "", "# only a comment\n"])
def test_a_key_file_that_holds_no_key_is_a_mistake(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    done = mlopsd("status", "--url", "http://127.0.0.1:1", "--key-file", file)
    assert done.returncode == 3
    assert str(file) in done.stderr


def test_what_a_host_far_away_says_cannot_write_on_this_terminal() -> None:
    body = json.dumps(
        {
            "status": "healthy",
            "summary": "well\x1b]0;owned\x07",
            "probes": {"a\x1b[2J": {"status": "healthy", "summary": "\x9b31mred"}},
        }
    ).encode()
    with server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as address:
        done = mlopsd("status", "--url", address)
    assert done.returncode == 0
    assert not set("\x1b\x07\x9b") & set(done.stdout)
