"""Each command of the runbook, run beside a real daemon whose tables have names of their own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.runbook import QUERY, Section, read_runbook
from mlopsd.format import format_count
from mlopsd_probes.fake_nvml import build
from tests.alerts.metrics import mistakes
from tests.gpu.driving import library, scenario
from tests.model.models.saved import troubled
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.running import CALM_SYSTEM, Running

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("promtool")]
NOT_HERE = {  # programs that need hardware, another host or a package that the runbook's reader has
    "nvidia-smi": "the driver of a GPU",
    "ipmitool": "a management controller",
    "sensors": "sensors",
    "lspci": "a package",
    "iostat": "a package",
    "lsmod": "a kernel with modules",
    "chronyc": "a time service",
    "timedatectl": "systemd",
    "systemd-cgtop": "systemd",
    "ping": "another host",
    "ssh": "another host",
}
OF_SYSTEMD = ("systemctl", "systemd-cgtop")  # tests/systemd runs these
ABSENT_FILES = (
    "/etc/prometheus",
    "/proc/mdstat",
    "/proc/driver/nvidia",
    "/dev/nvidia",
    "/sys/bus/pci/drivers/nvidia",
)
KERNEL = """\
NVRM: Xid (PCI:0000:02:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
INFO: task nvidia-smi:4711 blocked for more than 120 seconds.
python3[815]: segfault at 0 ip 00007f0e8a6c1f2a sp 00007ffd3f0b6f10 error 4 in libm.so.6
Out of memory: Killed process 4242 (python3) total-vm:81920000kB, anon-rss:7340032kB
EXT4-fs error (device nvme0n1p1): ext4_find_entry:1463: inode #2: comm mlopsd: reading directory lblock 0
EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0
"""  # as the kernel and NVIDIA's driver write them
SHIMS = {
    "dmesg": '#!/bin/sh\nexec cat "$KERNEL"\n',
}  # the kernel's log has none of these lines here
LOG = Path(__file__).parents[2] / "docs/reference/log.md"


@pytest.fixture(scope="module")
def daemon(newest: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A daemon with a model in ``wine``, two GPUs in ``cards``, one with an XID, and the host in ``box``."""
    folder = tmp_path_factory.mktemp("host")
    model = Registrar(newest.uri, f"runbook {time.time_ns()}")
    model.register(troubled(folder / "version"))
    model.point("1")
    (folder / "canary.json").write_text(
        json.dumps({"dataframe_split": {"columns": ["do", "x"], "data": [["", 1.0]]}}), "utf-8"
    )
    (folder / "host.scenario").write_text(scenario())
    text = f"""
[probes.wine]
use = "model"
model = "{model.name}"
registries = [{{ uri = "{model.uri}" }}]
interval = "1s"
canary = {{ input = "{folder}/canary.json" }}
[probes.cards]
use = "gpu"
interval = 0.5
timeout = 60
sysfs_path = "/nonexistent"
{CALM_SYSTEM.replace("[probes.system]", f'[probes.box]{chr(10)}use = "system"{chr(10)}paths = ["{folder}"]')}
"""
    environment = {
        "LD_LIBRARY_PATH": str(library(tmp_path_factory)),
        "FAKE_NVML_SCENARIO": str(folder / "host.scenario"),
    }
    (folder / "run").mkdir()
    with Running(folder / "run", text, environment=environment) as running:
        running.until("/health/wine", lambda reading: bool(reading["facts"].get("served")), 180)
        for probe in ("box", "cards"):
            running.until(f"/health/{probe}", lambda reading: reading["status"] == "healthy")
        build.steer(folder / "host.scenario", scenario("xid 48 gpu 1"))
        running.until("/health/cards", lambda reading: reading["status"] == "unhealthy")
        ask = json.dumps({"dataframe_split": {"columns": ["do", "x"], "data": [["", 1.0]]}}).encode()
        running.ask("POST", "/invocations", {"Content-Type": "application/json"}, body=ask)
        yield running


PLUGINS = {"model": "wine", "gpu": "cards", "system": "box"}
SECTIONS = list(read_runbook().sections.values())


def probe_of(section: Section) -> str:
    plugins = {plugin for plugin, _ in section.findings if plugin}
    return PLUGINS[plugins.pop()] if len(plugins) == 1 else "wine"


def words(section: Section, daemon: Running) -> dict[str, str]:
    facts: dict[str, Any] = daemon.get("/health/wine").json["facts"]
    return {
        "http://HOST:9178": f"http://127.0.0.1:{daemon.port}",
        "/var/lib/mlopsd": str(daemon.folder / "state"),
        "PROBE": probe_of(section),
        "PATH": "/",
        "MODEL": facts["model"],
        "VERSION": facts["served"]["version"],
        "REGISTRY": facts["served"]["registry"],
    }


def filled(command: str, values: dict[str, str]) -> str:
    for word, value in values.items():
        command = command.replace(word, value)
    return command


@pytest.fixture(scope="module")
def surroundings(daemon: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands: this mlopsd, and what stands for the kernel's log and the journal."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in SHIMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "mlopsd").write_text(f'#!/bin/sh\nexec {sys.executable} -m mlopsd "$@"\n')
    (folder / "mlopsd").chmod(0o755)
    (folder / "kernel").write_text(KERNEL)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPSD_")}
    return {
        **kept,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "MLOPSD_CONFIG": str(daemon.config),
        "KERNEL": str(folder / "kernel"),
    }


def commands() -> Iterator[tuple[Section, str]]:
    """Each command that can run here; several on a line are run each."""
    for section in SECTIONS:
        for line in section.look:
            if not line.startswith("#") and not QUERY.match(line):
                yield from ((section, part) for part in line.split("; "))


def runs_here(command: str) -> bool:
    program = command.split(maxsplit=1)[0]
    absent = any(name in command for name in ABSENT_FILES)
    return program not in NOT_HERE and program not in OF_SYSTEMD and not absent


HERE = [(section, command) for section, command in commands() if runs_here(command)]


def test_most_commands_run_here() -> None:
    told = format_count(len(list(commands())) - len(HERE), "command")
    assert len(HERE) > 2 * len(list(commands())) / 3, f"{told} cannot run here"


@pytest.mark.parametrize(
    ("section", "command"), HERE, ids=[f"{section.name}-{number}" for number, (section, _) in enumerate(HERE)]
)
def test_a_command_of_the_runbook_prints_something(
    section: Section, command: str, daemon: Running, surroundings: dict[str, str]
) -> None:
    if command.startswith("journalctl"):
        assert_finds_an_event(command, probe_of(section), daemon)
        return
    command = command.replace(" D'", "'")  # no process hangs here
    run = filled(command, words(section, daemon))
    ended = subprocess.run(
        ["bash", "-c", run],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=surroundings,
    )
    assert ended.stdout.strip(), f"{run}: rc {ended.returncode}, {ended.stderr}"
    errors = re.sub(r"du: cannot .*\n", "", ended.stderr)  # what others removed meanwhile
    assert not re.search(r"not found|No such file|HOST|PROBE|usage:", errors), errors


def assert_finds_an_event(command: str, probe: str, daemon: Running) -> None:
    """The pattern finds lines of the daemon's log, or an event of its reference."""
    pattern = re.search(r"-g '?([^']*?)'?(?: -|$)", command)
    if pattern is None:
        return
    wanted = pattern[1].replace("PROBE", probe)
    logged = any(re.search(wanted, json.dumps(line)) for line in daemon.log)
    assert logged or wanted in LOG.read_text("utf-8"), f"no event of the log has {wanted!r}"


QUERIES = [line for section in SECTIONS for line in section.look if QUERY.match(line)]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_runbook_names_what_there_is(query: str, tmp_path: Path) -> None:
    assert mistakes(query) == []
    rules = {"groups": [{"name": "runbook", "rules": [{"record": "found", "expr": query}]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(rules))  # JSON is YAML
    checked = ["promtool", "check", "rules", str(tmp_path / "rules.yml")]
    subprocess.run(checked, check=True, timeout=60, capture_output=True)
