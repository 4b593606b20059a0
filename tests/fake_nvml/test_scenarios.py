"""How the fake is built, and what it says of a scenario's mistakes."""

import re
from pathlib import Path

import pytest

from mlopsd_probes.fake_nvml import build
from tests.fake_nvml.conftest import Host, Start

pytestmark = pytest.mark.needs("cc")

TEMPERATURE = "n.nvmlDeviceGetTemperature(h[{}], 0)"


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("tempurature.gpu 40", "no such setting"),
        ("temperature.gpu warm", "no such value"),
        ("temperature.gpu", "no such value"),
        ("gpu 16 lost", "no such card"),
        ("[cards 3]", "a section is [host], [card N] or [card *]"),
        ("at soon gpu 1 lost", "an event is: at 5s DIRECTIVE"),
        ("at 5s gpu 1 lots", "no such setting"),
        ("hang nvmlDeviceGetTemprature", "no such call"),
        ("error nvmlDeviceGetName WRONG", "an error is: error CALL CODE [times N] [gpu N]"),
        ("delay nvmlDeviceGetName", "a delay is: delay CALL 4s [gpu N]"),
        ("xid 79", "an XID is: xid NUMBER gpu N"),
        ("nvlink.99.state 0", "no such NVLink"),
        ("field.x 1", "a field is: field.ID[.SCOPE] VALUE [f64|u32|ulong|u64|i64|i32|u16]"),
        ("cards 17", "too many cards"),
        ("name " + "x" * 300, "the line is too long"),
    ],
)
def test_a_mistake_is_named_with_its_line(on_host: Start, line: str, output: str) -> None:
    host = on_host("", "cards 1", line)
    assert host.init() == {"error": "DRIVER_NOT_LOADED"}
    assert host.end() == f"fake NVML: cannot read the scenario: {host.scenario}:4: {output}\n"


def test_a_mistake_made_while_running_leaves_what_was(on_host: Start) -> None:
    host = on_host("h200")
    host.init()
    host.steer("temperature.gpu 99", "nonsense")
    assert host.ask(TEMPERATURE.format(0)) == 37
    host.unsay("nonsense")
    assert host.ask(TEMPERATURE.format(0)) == 99
    assert host.end().count("cannot read") == 1


def test_a_host_without_a_scenario_has_no_driver(fakes: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        environment = build.environment(path, fakes)
        host = Host(path, environment)
        assert host.init() == {"error": "DRIVER_NOT_LOADED"}
        host.end()


def test_the_library_is_compiled_once_and_again_when_its_source_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.library(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build.library(tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    sources = tmp_path / "c"
    sources.mkdir()
    for path in build.SOURCES.iterdir():
        (sources / path.name).write_bytes(path.read_bytes() + b"\n/* another */\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    assert build.library(tmp_path) != first
    assert [path.name for path in first.parent.iterdir()] == [build.LIBRARY]


def test_without_a_compiler_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NoFake) as caught:
        build.library(tmp_path)
    assert str(caught.value) == "cannot build the fake GPUs: no C compiler (cc, gcc, clang); install gcc"


def test_a_compiler_that_refuses_is_quoted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "c"
    sources.mkdir()
    (sources / "library.c").write_text("nonsense\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    with pytest.raises(build.NoFake, match=r"^cannot build the fake GPUs: .*cc: .*error.*$"):
        build.library(tmp_path)


def test_the_scenarios_are_listed_and_an_unknown_one_names_them() -> None:
    assert build.scenarios() == ["a100-mig", "dgx-a100-8", "h200", "rtx4090", "t4"]
    with pytest.raises(build.NoFake) as caught:
        build.scenario("dgx")
    assert str(caught.value) == (
        "cannot find the scenario 'dgx': there are a100-mig, dgx-a100-8, h200, rtx4090, t4; or name a file"
    )


def test_what_the_format_describes_is_what_it_has() -> None:
    page = (build.HERE / "SCENARIOS.md").read_text()
    source = "".join(file.read_text() for file in build.SOURCES.glob("*.c"))
    directives = set(re.findall(r'strcmp\((?:words\[0\]|line->words\[0\]|first), "(\w+)"\)', source))
    assert directives >= {"error", "delay", "process", "mig", "page", "lost", "xid"}
    assert [word for word in directives if not re.search(rf"\b{word}\b", page)] == []
