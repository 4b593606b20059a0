"""``mlopsd run``: one line where it cannot start, and a new start at each change in development."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue

import pytest

from tests.cli.command import environment, mlopsd
from tests.running import GIVE_UP

SECONDS = GIVE_UP


def start(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return mlopsd("run", "--config", config, *arguments)


def test_every_mistake_in_the_configuration_is_a_line_and_the_exit_status_is_1(config: Path) -> None:
    config.write_text("[api]\nport = 'x'\nhots = ''\n")
    done = start(config)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"mlopsd: {config}: api.") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "key"), [(["--port", "x"], "api.port = 'x'"), (["--port", "99999"], "api.port")]
)
def test_an_option_is_judged_as_its_key_is(
    config: Path, tmp_path: Path, arguments: list[str], key: str
) -> None:
    config.write_text(f"state_dir = '{tmp_path}/state'\n")
    done = start(config, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mlopsd: command line: {key}")


def test_a_port_that_is_taken_is_one_line(config: Path, tmp_path: Path) -> None:
    config.write_text(f"state_dir = '{tmp_path}/state'\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start(config, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert re.match(r"mlopsd: cannot listen on .*; ", lines[0])


def test_a_state_folder_that_cannot_be_made_is_one_line(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config.write_text(f"state_dir = '{tmp_path}/file/state'\n")
    done = start(config, "--port", "0")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mlopsd: cannot use the state folder {tmp_path}/file/state: ")


def test_restarting_on_changes_is_for_development_alone(config: Path) -> None:
    config.write_text("")
    done = start(config, "--reload")
    assert done.returncode == 1
    assert "add --debug" in done.stderr


def test_without_watchfiles_it_says_what_to_install(config: Path, tmp_path: Path) -> None:
    config.write_text("")
    hide = tmp_path / "sitecustomize.py"
    hide.write_text("import sys\nsys.modules['watchfiles'] = None\n")
    done = mlopsd("run", "--debug", "--reload", "--config", config, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert (
        done.stderr == "mlopsd: cannot watch for changes: no module 'watchfiles'; pip install 'mlopsd[dev]'\n"
    )


class Talk:
    """The standard error of a process, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: Queue[str] = Queue()
        self.heard: list[str] = []
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.put(line)

    def until(self, wanted: Callable[[str], bool], seconds: float = SECONDS) -> str:
        """The next line that is *wanted*."""
        while True:
            try:
                line = self.lines.get(timeout=seconds)
            except Empty:
                raise AssertionError(f"not said: {self.heard}") from None
            self.heard.append(line)
            if wanted(line):
                return line


def change(path: Path, text: str, talk: Talk) -> None:
    """Write *text* to *path* until it is seen: the watching may begin after the daemon has started."""
    deadline = time.monotonic() + 2 * SECONDS
    while True:
        path.write_text(text)
        try:
            talk.until(lambda line: f"{path.name} changed, restarting" in line, 1)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def end(process: subprocess.Popen[str]) -> None:
    """Have it end itself and its daemon; after a test that failed, it still runs."""
    if process.poll() is None:
        process.terminate()


def test_a_change_of_code_or_configuration_starts_it_anew(
    odd: Mapping[str, str], config: Path, tmp_path: Path
) -> None:
    config.write_text(f"state_dir = '{tmp_path}/state'\n[probes.fine]\n")
    command = [
        sys.executable,
        "-m",
        "mlopsd",
        "run",
        "--debug",
        "--reload",
        "--port",
        "0",
        "--config",
        str(config),
    ]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(odd)) as process,
        ExitStack() as stack,
    ):
        stack.callback(end, process)
        talk = Talk(process)
        talk.until(lambda line: " started " in line)
        change(config, config.read_text() + "interval = 9\n", talk)
        talk.until(lambda line: " started " in line)
        code = Path(odd["PYTHONPATH"], "odd.py")
        change(code, code.read_text() + "\n", talk)
        talk.until(lambda line: " started " in line)
        os.kill(process.pid, signal.SIGTERM)
        talk.until(lambda line: " stopped" in line)
        assert process.wait(SECONDS) == 0
