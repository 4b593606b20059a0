"""``mlopsd config`` and ``mlopsd probes``: what is in force, what is installed, and every mistake."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlopsd.cli.probes import describe_type
from mlopsd.cli.terminal.toml import format_value
from mlopsd.config.api_keys import digest_of
from mlopsd.config.schema import Api
from tests.cli.command import mlopsd, on_a_terminal
from tests.keys import KEY, line_of


def test_a_good_configuration_is_one_line_with_its_path_and_probes(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text("[probes.fine]\n[probes.other]\nuse = 'open'\n[probes.hangs]\nenabled = false\n")
    done = mlopsd("config", "check", "--config", config, env=odd)
    assert (done.returncode, done.stdout) == (0, f"OK: {config}; probes: fine, other\n")


def test_a_configuration_without_a_probe_is_warned_of(config: Path) -> None:
    config.write_text("")
    done = mlopsd("config", "check", "--config", config)
    assert (done.returncode, done.stdout) == (0, f"OK: {config}; probes: none\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlopsd: warning: no probe is configured")
    assert "[probes.system]" in line


def test_the_places_in_use_are_shown_although_nobody_set_them(config: Path, tmp_path: Path) -> None:
    config.write_text("[probes.system]\n")
    env = {"STATE_DIRECTORY": f"{tmp_path}/state", "RUNTIME_DIRECTORY": f"{tmp_path}/run"}
    shown = mlopsd("config", "show", "--config", config, env=env).stdout
    assert f'# state_dir has no value; run from here it is "{tmp_path}/state"  # default' in shown
    assert f'# socket has no value; run from here it is "{tmp_path}/run/mlopsd.sock"  # default' in shown
    config.write_text("socket = '/s'\n")
    assert f'socket = "/s"  # {config}' in mlopsd("config", "show", "--config", config).stdout


def test_every_mistake_is_a_line(odd: Mapping[str, str], config: Path) -> None:
    config.write_text("[probes.fine]\nlimt = 1\n[probes.fin]\n[probes.broken]\n")
    done = mlopsd("config", "check", "--config", config, env=odd)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line.startswith("mlopsd: ") for line in lines] == [True, True, True]
    assert "did you mean 'limit'?" in lines[0]
    assert "did you mean 'fine'?" in lines[1]
    assert "odd_that_is_not_there" in lines[2]


@pytest.mark.parametrize("command", [("config", "check"), ("probes",)])
def test_a_mistake_in_one_table_hides_none_in_another(
    odd: Mapping[str, str], config: Path, command: tuple[str, ...]
) -> None:
    config.write_text("[api]\nport = 70000\n[probes.fine]\nlimt = 1\n")
    done = mlopsd(*command, "--config", config, env=odd)
    assert done.returncode == 1
    port, limit = done.stderr.splitlines()
    assert "api.port" in port
    assert "did you mean 'limit'?" in limit


def test_what_is_in_force_is_shown_with_where_it_came_from(odd: Mapping[str, str], config: Path) -> None:
    config.write_text("[api]\nport = 1234\n[probes.fine]\ninterval = '1m'\nlimit = 3\n")
    env = {**odd, "MLOPSD_API__HOST": "127.0.0.2"}
    shown = mlopsd("config", "show", "--config", config, env=env).stdout
    assert f"port = 1234  # {config}" in shown
    assert 'host = "127.0.0.2"  # MLOPSD_API__HOST' in shown
    assert 'predictions = "key"  # default' in shown
    assert f"interval = 60.0  # {config}" in shown
    assert f"limit = 3.0  # {config}" in shown
    assert "timeout = 10.0  # default" in shown


def test_what_is_shown_is_a_configuration_that_means_the_same(
    odd: Mapping[str, str], config: Path, tmp_path: Path
) -> None:
    config.write_text("[probes.system]\npaths = ['/', '/tmp']\n[probes.fine]\nlimit = 2.5\nenabled = true\n")
    shown = mlopsd("config", "show", "--config", config, env=odd).stdout
    again = tmp_path / "again.toml"
    again.write_text(shown)
    shown_again = mlopsd("config", "show", "--config", again, env=odd).stdout
    assert tomllib.loads(shown_again) == tomllib.loads(shown)
    assert tomllib.loads(shown)["probes"]["system"]["paths"] == ["/", "/tmp"]


def test_no_secret_is_shown(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(
        f'[api]\napi_keys = ["{line_of()}", "{line_of("s3cret-two", "two")}"]\n'
        '[probes.fine]\npassword = "s3cret-three"\nservers = ["https://me:s3cret-four@host/"]\n'
    )
    done = mlopsd("config", "show", "--config", config, env=odd)
    assert done.returncode == 0
    assert "s3cret" not in done.stdout
    assert digest_of(KEY) not in done.stdout
    assert tomllib.loads(done.stdout)["probes"]["fine"]["password"] == "********"
    assert "https://********@host/" in done.stdout


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (7, "7"),
        (0.5, "0.5"),
        ('a "b"\n\x7f', '"a \\"b\\"\\n\\u007f"'),
        (("a", "b"), '["a", "b"]'),
        ({"a b": {"min": 1, "max": None}}, '{ "a b" = { min = 1 } }'),
    ],
)
def test_values_are_written_as_toml(value: object, text: str) -> None:
    assert format_value("name", value) == text
    tomllib.loads(f"name = {text}")


def test_every_installed_probe_is_listed_with_its_options_or_why_it_cannot_load(
    odd: Mapping[str, str],
) -> None:
    done = mlopsd("probes", env=odd)
    assert done.returncode == 0, "a broken probe that is not configured hurts nobody"
    assert re.search(
        r"^system  mlopsd [0-9.]+  mlopsd_probes\.system\.probe:SystemProbe$", done.stdout, re.MULTILINE
    )
    fine = done.stdout.partition("\nfine  odd 1.0  odd:Fine\n")[2].partition("\n\n")[0]
    assert "  All is well here." in fine
    assert re.search(r"servers +=? ?\[\] +\(list of text\)", fine)
    assert re.search(r"limit +no value +\(number\)", fine)
    broken = done.stdout.partition("\nbroken  ")[2] or done.stdout.partition("broken  ")[2]
    assert "cannot load probe 'broken': no module 'odd_that_is_not_there'" in broken.splitlines()[1]


def test_on_a_terminal_no_probes_line_is_wider_than_it_and_elsewhere_none_is_cut() -> None:
    _, text = on_a_terminal("probes", columns=70)
    narrow, wide = text.replace("\r", "").splitlines(), mlopsd("probes").stdout.splitlines()
    assert max(map(len, narrow)) <= 70
    assert max(map(len, wide)) > 80
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(wide).split())


def test_a_configured_probe_that_cannot_load_is_a_failure(odd: Mapping[str, str], config: Path) -> None:
    config.write_text("[probes.broken]\n")
    done = mlopsd("probes", "--config", config, env=odd)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "cannot load probe 'broken'" in line
    assert "fine  odd 1.0" in done.stdout, "the others are listed all the same"


def test_types_are_words() -> None:
    assert describe_type(float | None) == "number"
    assert describe_type(tuple[Path, ...]) == "list of path"
    assert describe_type(dict[str, float]) == describe_type(Api) == "table"
    assert describe_type(tuple[Api, ...]) == "list of table"
