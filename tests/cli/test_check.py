"""``mlopsd check``: one look, whatever the probes do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tests import processes
from tests.cli.command import environment, mlopsd, on_a_terminal
from tests.running import GIVE_UP


def tables(*names: str) -> str:
    return "".join(f"[probes.{name}]\n" for name in names)


@pytest.mark.parametrize(
    ("probe", "exit_status", "status"),
    [
        ("fine", 0, "healthy"),
        ("open", 1, "degraded"),
        ("gone", 2, "unhealthy"),
        ("raises", 3, "unknown"),
        ("dies", 3, "unknown"),
        ("hangs", 3, "unknown"),
        ("hangs_in_process", 3, "unknown"),
    ],
)
def test_the_exit_status_is_the_verdict(
    odd: Mapping[str, str], config: Path, probe: str, exit_status: int, status: str
) -> None:
    config.write_text(tables(probe))
    done = mlopsd("check", "--json", "--config", config, env=odd)
    health = json.loads(done.stdout)
    assert (done.returncode, health["status"], done.stderr) == (exit_status, status, "")
    assert health["probes"][probe]["status"] == status
    assert health["probes"][probe]["findings"]


def test_the_built_in_defaults_look_at_this_host() -> None:
    done = mlopsd("check", "--json", "system")
    assert done.returncode in (0, 1, 2), "a verdict, whatever this host is like now"
    facts = json.loads(done.stdout)["probes"]["system"]["facts"]
    assert facts["memory_total_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_coroutine_that_blocks_does_not_hang_the_command(odd: Mapping[str, str], config: Path) -> None:
    config.write_text("[probes.blocks]\n[probes.fine]\ntimeout = 1\n")
    done = mlopsd("check", "--json", "--config", config, env=odd)
    probes = json.loads(done.stdout)["probes"]
    assert probes["fine"]["status"] == "healthy"
    assert "blocked the event loop for 6 s" in probes["blocks"]["summary"]
    assert done.returncode == 3


def test_a_coroutine_that_ignores_its_cancellation_does_not_hang_the_command(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text("[probes.ignores]\n")
    done = mlopsd("check", "--json", "--config", config, env=odd)
    why = "its last check was cancelled and has not ended; a coroutine must let CancelledError pass"
    assert json.loads(done.stdout)["probes"]["ignores"]["summary"] == f"no answer within 0.3 s; {why}"
    assert (done.returncode, done.stderr) == (3, "")


def test_only_the_named_probes_are_asked(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("fine", "hangs"))
    done = mlopsd("check", "fine", "--config", config, env=odd)
    assert done.returncode == 0
    assert "hangs" not in done.stdout


def test_a_probe_that_is_not_configured_is_named_with_the_nearest(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text(tables("fine"))
    done = mlopsd("check", "fin", "--config", config, env=odd)
    assert done.returncode == 3
    assert done.stderr == ("mlopsd: cannot check 'fin': no such probe is configured; did you mean 'fine'?\n")


def test_a_configuration_that_cannot_be_used_is_unknown_and_no_verdict(config: Path) -> None:
    config.write_text("[probes.system]\ninterval = 'soon'\n")
    done = mlopsd("check", "--config", config)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"mlopsd: .*mlopsd\.toml: probes\.system\.interval = 'soon': .*\n", done.stderr)


def test_its_state_folder_and_its_processes_are_gone_afterwards(
    odd: Mapping[str, str], config: Path, tmp_path: Path
) -> None:
    config.write_text(tables("hangs_in_process", "fine"))
    mlopsd("check", "--config", config, env={**odd, "TMPDIR": str(tmp_path)})
    assert list(tmp_path.glob("mlopsd-check-*")) == []
    assert not [pid for pid in psutil.pids() if f"TMPDIR={tmp_path}".encode() in processes.environment(pid)]


def test_each_probe_is_closed_afterwards(odd: Mapping[str, str], config: Path, tmp_path: Path) -> None:
    config.write_text(f"[probes.closes]\npath = '{tmp_path}/closed'\n")
    assert mlopsd("check", "--config", config, env=odd).returncode == 0
    assert (tmp_path / "closed").exists()


def test_a_terminal_sees_the_progress_and_then_the_table_in_colour(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text(tables("hangs", "open"))
    status, text = on_a_terminal("check", "--config", config, env=odd)
    assert status == 3
    assert "checking hangs" in text
    assert "\x1b[33mdegraded\x1b[0m" in text
    assert text.index("checking") < text.index("PROBE")


def test_a_terminal_whose_user_wants_no_colour_gets_none(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("open"))
    _, text = on_a_terminal("check", "--config", config, env={**odd, "NO_COLOR": "1"})
    assert "degraded" in text
    assert "\x1b[33m" not in text


@pytest.mark.parametrize("place", ["thread", "process"])
def test_the_author_of_a_probe_is_shown_where_it_went_wrong(
    odd: Mapping[str, str], config: Path, place: str
) -> None:
    config.write_text(f"[probes.raises]\nisolation = '{place}'\n")
    quiet = mlopsd("check", "--config", config, env=odd)
    hint = "mlopsd: probe 'raises' failed in its own code; add --traceback to see where\n"
    assert (quiet.returncode, quiet.stderr) == (3, hint)
    traced = mlopsd("check", "--traceback", "--config", config, env=odd)
    assert traced.returncode == 3
    table, again = (re.sub(r"\b\d+ s\b *", "AGE ", done.stdout) for done in (quiet, traced))
    assert again.splitlines()[1:] == table.splitlines()[1:]
    lines = traced.stderr.splitlines()
    assert re.match(r"[0-9:.]+ ERROR .*probe=raises", lines[0])
    frames = [line for line in lines if re.match(r' +File "', line)]
    assert len(frames) == 1, "the author's own"
    assert re.match(r' +File ".*odd\.py", line \d+, in check$', frames[0])
    assert lines[-1] == "    ZeroDivisionError: one over nought"


def test_a_sample_that_was_not_declared_is_named(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("undeclared"))
    done = mlopsd("check", "--config", config, env=odd)
    assert done.returncode == 1, "the host is healthy, and the probe is not right"
    walls, windows = done.stderr.splitlines()
    assert walls.startswith("mlopsd: cannot use the sample walls of probe 'undeclared': it is not declared; ")
    assert windows.startswith("mlopsd: cannot use the sample windows of probe 'undeclared': ")


def test_nothing_is_said_twice(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("gone", "open", "raises"))
    out = mlopsd("check", "--config", config, env=odd).stdout
    assert out.count("the wall is gone") == 1
    assert out.count("one over nought") == 1
    assert out.count("the door | is open") == 2, "two probes say so, each once"


def test_ctrl_c_ends_it_without_a_word(odd: Mapping[str, str], config: Path) -> None:
    config.write_text("[probes.hangs]\ntimeout = 60\n[probes.hangs_in_process]\ntimeout = 60\n")
    command = [sys.executable, "-m", "mlopsd", "check", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(odd)
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + GIVE_UP
        while not children.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=GIVE_UP)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("probe", ["measures", "measures_in_process"])
def test_the_samples_are_those_of_a_scrape(odd: Mapping[str, str], config: Path, probe: str) -> None:
    config.write_text(tables(probe, "fine"))
    done = mlopsd("check", "--samples", "--times", "2", "--config", config, env=odd)
    name = f"mlopsd_{probe}"
    label = f'probe="{probe}"'
    assert done.stdout.partition("\n\nsamples of ")[2].splitlines() == [
        f"{probe}:",
        f'  {name}_turns_total{{{label},hand="left"}} 4',
        f'  {name}_heat_celsius{{{label},side="the \\"warm\\" one"}} 21.5  # celsius',
        f'  {name}_pull_seconds_bucket{{{label},le="1.0"}} 2',
        f'  {name}_pull_seconds_bucket{{{label},le="+Inf"}} 2',
        f"  {name}_pull_seconds_count{{{label}}} 2",
        f"  {name}_pull_seconds_sum{{{label}}} 1  # seconds",
        "",
        "samples of fine: none",
    ]


def test_the_samples_are_in_the_json_too(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("measures"))
    done = mlopsd("check", "--samples", "--json", "--config", config, env=odd)
    turns, heat, *pulls = json.loads(done.stdout)["probes"]["measures"]["samples"]
    assert heat == {
        "name": "mlopsd_measures_heat_celsius",
        "labels": {"probe": "measures", "side": 'the "warm" one'},
        "value": 21.5,
        "kind": "gauge",
        "unit": "celsius",
    }
    assert (turns["value"], turns["kind"], len(pulls)) == (2, "counter", 4)


def test_a_number_of_checks_is_a_number_from_one_up(config: Path) -> None:
    done = mlopsd("check", "--times", "0", "--config", config)
    assert done.returncode == 3
    assert "'0' is not a whole number from 1 up" in done.stderr


def test_a_debugger_works_in_this_process_and_beyond_the_timeout(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text(tables("debugged"))
    typed = b"import time; time.sleep(0.6)\np answer\ncontinue\n"
    arguments = ("check", "debugged", "--debug", "--config", config)
    status, text = on_a_terminal(*arguments, env=odd, typed=typed)
    assert status == 0
    assert re.search(r"\(Pdb\)[^4]*42\r\n", text)
    assert "1 finding, healthy" in text


def test_a_debugger_needs_a_terminal_and_one_probe(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("debugged", "fine"))
    alone = mlopsd("check", "debugged", "--debug", "--config", config, env=odd)
    assert (alone.returncode, alone.stdout) == (3, "")
    assert alone.stderr == (
        "mlopsd: cannot debug 'debugged': standard input or output is not a terminal, "
        "which a debugger needs; run it on a terminal\n"
    )
    both = mlopsd("check", "--debug", "--config", config, env=odd)
    assert "one probe is needed, not debugged, fine; name it" in both.stderr


def test_a_breakpoint_in_an_ordinary_check_names_the_way_to_debug(
    odd: Mapping[str, str], config: Path
) -> None:
    config.write_text("[probes.debugged]\ntimeout = 60\n")
    done = mlopsd("check", "--config", config, env=odd)
    assert done.returncode == 3
    assert "use check debugged --debug" in done.stderr


def test_ctrl_c_ends_a_debugger(odd: Mapping[str, str], config: Path) -> None:
    config.write_text(tables("debugged"))
    arguments = ("check", "debugged", "--debug", "--config", config)
    status, text = on_a_terminal(*arguments, env=odd, typed=b"\x03", after="(Pdb)")
    assert status == 130, text
    assert "Traceback" not in text
