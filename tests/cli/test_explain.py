"""``mlopsd explain``: the section of what is wrong, with this host's names, with a daemon and without."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.runbook import Section, parse, read_runbook
from mlopsd.cli.terminal import explanation
from mlopsd.cli.terminal.explanation import Explanation, format_explanation
from mlopsd_probes.fake_nvml import build
from tests.alerts.test_rules import documented
from tests.cli.command import mlopsd
from tests.gpu.driving import host_of_cards, scenario
from tests.running import Running

TABLES = """
[probes.cards]
use = "gpu"
interval = 0.5
timeout = 60
sysfs_path = "/nonexistent"
"""


@pytest.fixture
def host(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return host_of_cards(tmp_path, tmp_path_factory, monkeypatch)


@pytest.mark.parametrize("plugin", ["model", "gpu", "system"])
def test_every_finding_has_a_section(plugin: str) -> None:
    runbook = read_runbook()
    without = {name for name in documented(plugin) if runbook.find(plugin, name) is None}
    assert not {name for name in without if re.fullmatch(r"[a-z_]+", name)}


def test_a_section_of_the_runbook_is_taken_apart() -> None:
    xid = read_runbook().sections["MlopsdGpuXid"]
    assert xid.means.startswith("The driver reported an error number that is judged.")
    assert xid.look[-1] == "curl -sS http://HOST:9178/health/PROBE"
    assert xid.act[0] == "The GPU's page has each number and its advice."
    assert xid.ends.startswith("with the reset or the reboot.")
    assert ("gpu", "xid") in xid.findings


def test_a_fault_is_explained_with_the_cards_own_numbers(host: Path, tmp_path: Path) -> None:
    with Running(tmp_path, TABLES) as daemon:
        own = {"MLOPSD_CONFIG": str(daemon.config)}
        daemon.until("/health/cards", lambda reading: reading["status"] == "healthy")
        well = mlopsd("explain", env=own)
        assert well.stdout.startswith("nothing is wrong; this can be explained: ")
        assert "cards.xid" in well.stdout
        build.steer(host, scenario("xid 48 gpu 1"))
        daemon.until("/health/cards", lambda reading: reading["status"] == "unhealthy")
        told = mlopsd("explain", env=own).stdout
        named = [mlopsd("explain", name, env=own).stdout for name in ("cards", "gpu", "xid", "gpu.xid")]
        named.append(mlopsd("explain", "cards.xid", "gpu", "1", env=own).stdout)
        listed = json.loads(mlopsd("explain", "--json", env=own).stdout)
        build.steer(host, scenario("xid 48 gpu 1", "xid 48 gpu 0"))
        daemon.until("/health/cards", lambda reading: ill(reading) == 2)
        both = mlopsd("explain", env=own).stdout
        healthy = mlopsd("explain", "temperature", env=own).stdout
        section = mlopsd("explain", "mlopsdgpuxid", env=own).stdout
    assert told.startswith("cards.xid gpu 1  unhealthy  advice: reset_gpu\n")
    assert "`nvidia-smi --gpu-reset -i 1`" in ageless(told)
    assert "- `restart_app`" not in told
    assert f"http://127.0.0.1:{daemon.port}/health/cards" in told or "http://localhost/health/cards" in told
    assert "`mlopsd reload cards`" in ageless(told)
    assert [ageless(one) for one in named] == [ageless(told)] * 5
    assert [one["name"] for one in listed[0]["findings"]] == ["xid"]
    assert (listed[0]["section"], len(listed)) == ("MlopsdGpuXid", 1)
    assert re.search("--gpu-reset -i (0,1|1,0)`", ageless(both))
    assert healthy.startswith("cards.temperature gpu 0  healthy\n")
    assert ageless(section) == ageless(both)


def ill(reading: dict[str, Any]) -> int:
    return sum(finding["status"] == "unhealthy" for finding in reading["findings"])


def ageless(text: str) -> str:
    return re.sub(r"\d+ s ago", "ago", " ".join(text.split()))


def test_without_a_daemon_the_words_in_capitals_stay(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_dir = "{tmp_path}/nowhere"\n[api]\nport = 1\n', "utf-8")
    own = {"MLOPSD_CONFIG": str(config)}
    done = mlopsd("explain", "xid", env=own)
    assert done.returncode == 0
    assert "-i N" in done.stdout
    assert "words in capitals stay as they are in the runbook" in done.stderr
    assert mlopsd("explain", "stuck", env=own).stdout.endswith("MlopsdProbeHung\n")
    wrong = mlopsd("explain", "xit", env=own)
    assert wrong.returncode == 1
    assert "cannot explain 'xit': nothing has that name; did you mean xid?" in wrong.stderr
    nothing = mlopsd("explain", env=own)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "or name a finding or an alert" in nothing.stderr


def shown(section: Section, *advice: str, **words: str) -> str:
    values = {word: [value] for word, value in words.items()}
    return format_explanation(Explanation([], section, values, frozenset(advice)), 80, coloured=False)


def test_only_the_act_for_the_advice_is_shown() -> None:
    section = Section("A", act=("First this.", "- `reboot`: reboot.", "- `watch`: wait."))
    assert "- `reboot`" not in shown(section, "watch")
    assert "First this." in shown(section, "watch")
    assert "- `" not in shown(section, "fix_config"), "an act for other advice could be wrong"
    assert "- `reboot`" in shown(section)


def test_a_program_that_this_host_lacks_is_not_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    section = Section(
        "A", look=("cat /x; no-such-program -v", "systemctl status x", "count by (a) (up == 0)")
    )
    monkeypatch.setattr(explanation, "has_systemd", lambda: False)
    told = shown(section)
    assert "Confirm   cat /x\n" in told
    assert "          count by (a) (up == 0)\n" in told
    assert "(not on this host: no-such-program, systemctl)" in told


def test_a_value_controls_neither_the_terminal_nor_other_words() -> None:
    section = Section("A", look=("cat PATH", "cat MYPATH"))
    told = shown(section, PATH="/a\x1b[31m\\1")
    assert "cat '/a?[31m\\1'\n" in told
    assert "cat MYPATH" in told


def test_without_systemd_the_act_names_no_systemctl(monkeypatch: pytest.MonkeyPatch) -> None:
    section = Section("A", act=("Run `systemctl stop mlopsd`, then reset.",))
    monkeypatch.setattr(explanation, "has_systemd", lambda: False)
    assert "Run stop mlopsd, then reset." in shown(section)
    monkeypatch.setattr(explanation, "has_systemd", lambda: True)
    assert "`systemctl stop mlopsd`" in shown(section)


def test_another_host_may_have_what_this_one_lacks() -> None:
    section = Section("A", look=("no-such-program -v",), act=("Run `systemctl stop mlopsd`.",))
    told = format_explanation(Explanation([], section, {}, frozenset(), is_here=False), 80, coloured=False)
    assert "Confirm   no-such-program -v\n" in told
    assert "`systemctl stop mlopsd`" in told


def test_several_paths_have_a_command_each() -> None:
    section = Section("A", look=("df PATH",))
    told = format_explanation(
        Explanation([], section, {"PATH": ["/a b", "/c"]}, frozenset()), 80, coloured=False
    )
    assert "Confirm   df '/a b'\n          df /c\n" in told


RUNBOOK = """
## Doors
### DoorOpen
`ticket`. **Means** A door is open.

**Look**
~~~
cat /proc/doors
~~~
**Do** Shut it.

**Ends** when it is shut.

**Findings** `door.lock`.
"""


def test_a_package_of_probes_brings_a_runbook_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "site/door"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('explain imports no probe')")
    (package / "runbook.md").write_text(RUNBOOK)
    about = tmp_path / "site/door-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: door\nVersion: 1.0\n", "ascii")
    (about / "entry_points.txt").write_text("[mlopsd.probes]\ndoor = door:Door\n", "ascii")
    config = tmp_path / "config.toml"
    config.write_text("[api]\nport = 1\n", "utf-8")
    own = {"MLOPSD_CONFIG": str(config), "PYTHONPATH": str(tmp_path / "site")}
    done = mlopsd("explain", "door.lock", env=own)
    assert done.returncode == 0, done.stderr
    assert "Means     A door is open.\nConfirm   cat /proc/doors\nDo        Shut it.\n" in done.stdout


def test_a_runbook_without_parts_is_a_section_without_words() -> None:
    (section,) = parse("### Odd\nnothing here\n")
    assert section == Section("Odd")
