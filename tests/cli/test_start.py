"""The command line before it does anything: fast, and clear about wrong usage."""

import subprocess
import sys

import pytest

from tests.cli.command import environment, mlopsd
from tests.running import GIVE_UP

HEAVY = ("aiohttp", "aioprometheus", "pydantic", "mlopsd_probes", "mlopsd.config", "mlopsd.daemon")
SCRIPT = """
import sys
from mlopsd.cli import main
sys.argv = ["mlopsd", *{arguments}]
try:
    main()
except SystemExit:
    pass
print("LOADED", *sorted(sys.modules))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["status", "--help"], ["reload", "--help"], []]
)
def test_asking_for_help_imports_neither_http_nor_settings_nor_any_probe(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(arguments=arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=True,
    )
    loaded = done.stdout.rpartition("LOADED ")[2].split()
    assert "mlopsd.cli" in loaded
    assert not [name for name in loaded if name.startswith(HEAVY)]


@pytest.mark.parametrize("command", ["run", "check", "status", "reload", "probes", "config", "install"])
def test_every_command_has_help_that_names_its_exit_statuses(command: str) -> None:
    done = mlopsd(command, "--help")
    assert done.returncode == 0
    assert "exit status: 0" in done.stdout
    assert command in mlopsd("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["check", "--nonsense"], 3),
        (["status", "--nonsense"], 3),
        (["status", "--json", "--nagios"], 3),
        (["run", "--nonsense"], 2),
        (["config", "mend"], 2),
        (["reload", "a", "b"], 2),
        (["chek"], 2),
    ],
)
def test_wrong_usage_is_one_line_and_never_looks_like_a_verdict(arguments: list[str], status: int) -> None:
    done = mlopsd(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: cannot understand the command line: ")
    assert "--help" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["status", "--jsn"],
            "unrecognized arguments: --jsn (did you mean --json?); see mlopsd status --help",
        ),
        (["run", "--confg=x"], "unrecognized arguments: --confg=x (did you mean --config?); see mlopsd run"),
        (["--versoin"], "unrecognized arguments: --versoin (did you mean --version?); see mlopsd --help"),
        (["check", "--quiet"], "unrecognized arguments: --quiet; see mlopsd check --help"),
        (["statsu"], "no command 'statsu'; did you mean 'status'?; see mlopsd --help"),
        (["sing"], "no command 'sing'; the commands are run, check, status, "),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(arguments: list[str], said: str) -> None:
    assert said in mlopsd(*arguments).stderr


def test_no_command_at_all_shows_what_there_is() -> None:
    done = mlopsd()
    assert done.returncode == 2
    assert "check this host once" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m mlopsd probes | true"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=GIVE_UP,
        check=False,
    )
    assert done.stderr == ""
