"""Commands of a probe: what they write, why they fail, and that nothing of them is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd.commands import MOST_OUTPUT, CommandFailed, CommandOutput, run, run_async
from mlopsd.probe import ProbeError
from tests import fakes, processes
from tests.running import GIVE_UP
from tests.worker.watching import lose_patience, watching

LONG = 600.0  # seconds, more than any test waits
FAMILY = "setsid sleep 777 & (sleep 777 & sleep 777) & "  # of three, with a session and an orphan among them


@pytest.fixture
def mark() -> Iterator[str]:
    """A value of MARK in the environment of everything that a test starts; in the end nothing has it."""
    value = uuid.uuid4().hex
    yield value
    wait_until(lambda: not marked(value))


def marked(mark: str) -> list[int]:
    return [
        pid for pid in psutil.pids() if f"MARK={mark}".encode() in processes.environment(pid).split(b"\0")
    ]


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def environment(mark: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "MARK": mark}


def shell(script: str, mark: str, timeout: float = LONG, **options: Any) -> CommandOutput:
    return run(["sh", "-c", script], timeout=timeout, environment=environment(mark), **options)


def test_a_command_gives_its_status_and_both_streams(mark: str) -> None:
    output = shell("cat; echo out; echo err >&2; exit 3", mark)
    assert output == CommandOutput(3, "out\n", "err\n")


def test_a_signal_is_a_negative_status(mark: str) -> None:
    assert shell("kill -9 $$", mark).status == -signal.SIGKILL


def test_a_command_ends_with_its_first_process_and_the_others_are_killed(mark: str) -> None:
    assert shell(FAMILY + "echo begun", mark) == CommandOutput(0, "begun\n", "")
    assert not marked(mark)


@pytest.mark.parametrize(
    "script", [FAMILY + "wait", "exec >&- 2>&-; sleep 777", "trap '' TERM HUP; sleep 777", "yes"]
)
def test_a_late_command_is_killed_with_everything_that_it_started(script: str, mark: str) -> None:
    with pytest.raises(ProbeError, match=r"cannot run sh -c .*: no end within 0.5 s; give it more time"):
        shell(script, mark, timeout=0.5)
    assert not marked(mark)


def test_the_output_is_bounded_and_says_so(mark: str) -> None:
    whole = shell(f"head -c {MOST_OUTPUT} /dev/zero", mark)
    assert (len(whole.stdout), whole.is_cut) == (MOST_OUTPUT, False)
    for redirection in ("", ">&2"):
        cut = shell(f"head -c {20 * MOST_OUTPUT + 1} /dev/zero {redirection}", mark)
        assert (len(cut.stdout + cut.stderr), cut.is_cut) == (MOST_OUTPUT, True)


def test_output_that_is_no_text_is_no_error(mark: str) -> None:
    assert shell(r"printf '\377'", mark).stdout == "\ufffd"


@pytest.mark.parametrize(
    ("argv", "cwd", "reason"),
    [
        (
            ["no-such-program", "-x"],
            "/",
            "cannot run no-such-program -x: there is no such program; install it",
        ),
        (["/etc/passwd"], "/", "cannot run /etc/passwd: permission denied; let the user of mlopsd run it"),
        (["true"], "/nowhere", "cannot run true: cannot enter the folder /nowhere .*; correct cwd"),
        (["a\0b"], "/", "embedded null byte; correct its arguments"),
    ],
)
def test_a_command_that_cannot_start_says_why(argv: list[str], cwd: str, reason: str) -> None:
    with pytest.raises(CommandFailed, match=reason):
        run(argv, timeout=LONG, cwd=cwd)


def test_a_file_that_is_no_program_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no program", "ascii")
    file.chmod(0o700)
    with pytest.raises(CommandFailed, match="it is not a program; start it with its interpreter"):
        run([file], timeout=LONG)


def test_a_bad_status_is_an_error_where_it_is_asked_for(mark: str) -> None:
    assert shell("exit 0", mark, check=True).status == 0
    with pytest.raises(
        CommandFailed, match=r"cannot use sh -c .*: it ended with exit status 2: no disk"
    ) as failed:
        shell("echo some; echo no disk >&2; exit 2", mark, check=True)
    assert failed.value.output == CommandOutput(2, "some\n", "no disk\n")
    with pytest.raises(CommandFailed, match="it was killed by SIGTERM: no message"):
        shell("kill $$", mark, check=True)


@pytest.mark.parametrize("argv", ["ls -l", b"ls", []])
def test_a_command_is_a_list(argv: Any) -> None:
    with pytest.raises(TypeError, match="it is no list of texts; write"):
        run(argv, timeout=LONG)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_finite(timeout: float) -> None:
    with pytest.raises(ValueError, match="give it a finite timeout above 0"):
        run(["true"], timeout=timeout)


def test_the_environment_is_the_given_one_and_nothing_else(mark: str) -> None:
    output = run(["/usr/bin/env"], timeout=LONG, environment={"MARK": mark})
    assert output.stdout == f"MARK={mark}\n"


def test_the_secrets_of_the_daemon_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLOPSD_API__KEY", "NOTIFY_SOCKET", "LISTEN_FDS", "OF_THE_HOST"):
        monkeypatch.setenv(name, "value")
    names = {line.partition("=")[0] for line in run(["env"], timeout=LONG).stdout.splitlines()}
    assert "OF_THE_HOST" in names
    assert not names & {"MLOPSD_API__KEY", "NOTIFY_SOCKET", "LISTEN_FDS"}


def test_a_command_does_not_inherit_that_python_ignores_sigpipe(mark: str) -> None:
    ignored = int(shell("grep SigIgn /proc/self/status", mark).stdout.split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


async def test_a_coroutine_runs_a_command_too(mark: str) -> None:
    output = await run_async(["sh", "-c", "echo out"], timeout=LONG, environment=environment(mark))
    assert output == CommandOutput(0, "out\n", "")
    with pytest.raises(CommandFailed, match="exit status 1"):
        await run_async(["false"], timeout=LONG, environment=environment(mark), check=True)
    with pytest.raises(TypeError, match="write"):
        await run_async("false", timeout=LONG)


async def test_a_cancelled_caller_ends_its_command(mark: str) -> None:
    command = ["sh", "-c", FAMILY + "wait"]
    calling = asyncio.create_task(run_async(command, timeout=LONG, environment=environment(mark)))
    while len(marked(mark)) < 5:  # the supervisor and the shells among them
        await asyncio.sleep(0.02)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    while marked(mark):
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_dies_with_its_caller(number: signal.Signals, mark: str) -> None:
    code = "import sys; from mlopsd.commands import run; run(['sh', '-c', sys.argv[1]], timeout=600)"
    caller = subprocess.Popen([sys.executable, "-c", code, FAMILY + "wait"], env={**os.environ, "MARK": mark})
    wait_until(lambda: len(marked(mark)) >= 6)
    caller.send_signal(number)
    caller.wait(GIVE_UP)
    wait_until(lambda: not marked(mark))


@pytest.mark.parametrize(
    ("probe", "isolation"),
    [
        ("Commander", "thread"),
        ("Commander", "process"),
        ("AsyncCommander", "loop"),
        ("AsyncCommander", "process"),
    ],
)
async def test_a_probe_runs_commands_wherever_it_is(
    probe: str, isolation: str, mark: str, strange_path: Path, tmp_path: Path
) -> None:
    import commanding

    kind = getattr(commanding, probe)
    account = fakes.Account()
    table = {"script": FAMILY + "echo $MARK", "mark": mark}
    async with watching(kind, isolation, tmp_path, account, patience=GIVE_UP, **table) as watch:
        for _ in range(2):
            entry = await watch.check()
            assert entry.reading.summary == "1 finding, healthy", entry.reading
            assert entry.reading.findings[0].summary == mark
            assert not marked(mark)


@pytest.mark.parametrize(
    ("probe", "isolation"),
    [("Commander", "process"), ("AsyncCommander", "loop"), ("AsyncCommander", "process")],
)
async def test_a_late_check_leaves_no_command_behind(
    probe: str, isolation: str, mark: str, strange_path: Path, tmp_path: Path
) -> None:
    import commanding

    table = {
        "script": f"[ -e {tmp_path}/twice ] && {{ {FAMILY} wait; }}; touch {tmp_path}/twice",
        "mark": mark,
    }
    async with watching(
        getattr(commanding, probe), isolation, tmp_path, fakes.Account(), patience=GIVE_UP, **table
    ) as watch:
        await watch.check()
        lose_patience(watch, 0.5)
        assert "no answer within 0.5 s" in (await watch.check()).reading.summary
        while marked(mark):
            await asyncio.sleep(0.02)
