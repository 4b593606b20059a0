"""Finding, loading and configuring probes: each way it can go wrong has a sentence with its cure."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import field_validator

from mlopsd.config import plugins, probes
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.config.plugins import Plugin, PluginError
from mlopsd.probe import Metric, Options, Probe, Reading, Schedule
from mlopsd_probes.gpu.probe import GpuProbe
from mlopsd_probes.model.probe import ModelProbe
from mlopsd_probes.system.probe import SystemProbe


class Fine(Probe):
    def check(self) -> Reading:
        return Reading()


class AsyncFine(Probe):
    async def check(self) -> Reading:
        return Reading()


class NoCheck(Probe):
    """Declares nothing to ask."""


class NoOptions(Fine):
    Options = dict  # type: ignore[assignment]


class NoMetrics(Fine):
    metrics = ("use_ratio",)  # type: ignore[assignment]


class OneMetric(Fine):
    metrics = Metric("open", "Open.")  # type: ignore[assignment]


class NoSchedule(Fine):
    schedule = 30  # type: ignore[assignment]


class NoInterval(Fine):
    schedule = Schedule(interval=0)


class TextInterval(Fine):
    schedule = Schedule(interval="30s")  # type: ignore[arg-type]


class TextCritical(Fine):
    schedule = Schedule(critical="very")  # type: ignore[arg-type]


class NoPlace(Fine):
    schedule = Schedule(isolation="moon")  # type: ignore[arg-type]


class DoorOptions(Options):
    path: str = "/dev/door"
    limit: float = 1.0


class OneColumn(Probe[Options]):
    """Its table is the name of a label."""

    table = "disk"  # type: ignore[assignment]  # the fault

    def check(self) -> Reading:
        return Reading()


class OneWord(Fine):
    Options = DoorOptions
    subject = "path"  # type: ignore[assignment]


class NoSuchKey(Fine):
    Options = DoorOptions
    subject = ("limit", "pth")


class NoName(Fine):
    Options = DoorOptions
    subject = (["path"],)  # type: ignore[assignment]


class PickyOptions(Options):
    """Validators that raise what pydantic does not take for a mistake."""

    raises: str = "none"

    @field_validator("raises")
    @classmethod
    def _raise(cls, raises: str) -> str:
        errors = {"denied": PermissionError(13, "Permission denied", "/nowhere/key"), "exit": SystemExit(3)}
        raise errors.get(raises, ZeroDivisionError("one over\nnought, http://me:secret@host"))


class Picky(Fine):
    Options = PickyOptions


class NoProbe:
    def check(self) -> Reading:
        return Reading()


def plugin(target: str, name: str = "door", distribution: str = "doors 1.0") -> Plugin:
    return Plugin(name, target, distribution, distribution.split(maxsplit=1)[0])


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [
        name for name, module in sys.modules.items() if str(tmp_path) in str(module.__dict__.get("__file__"))
    ]:
        del sys.modules[name]


def test_built_in_probes_come_through_the_door_of_strangers() -> None:
    found = {plugin.name: plugin for plugin in plugins.find()}
    assert found["system"].target == "mlopsd_probes.system.probe:SystemProbe"
    assert found["system"].distribution.startswith("mlopsd ")


def test_finding_imports_nothing() -> None:
    points = [EntryPoint("door", "no_such_module:Door", plugins.GROUP)]
    assert [plugin.name for plugin in plugins.find(points)] == ["door"]


def test_an_unknown_name_gets_the_nearest() -> None:
    installed = [plugin("a:B", "system"), plugin("a:C", "gpu")]
    with pytest.raises(PluginError, match="no installed package provides it; did you mean 'system'"):
        plugins.choose(installed, "sytem")
    with pytest.raises(PluginError, match="there is 'gpu', 'system'"):
        plugins.choose(installed, "zzz")


@pytest.mark.parametrize(
    "name", ["api_version", "check", "metrics", "schedule", "subject", "Options", "close"]
)
@pytest.mark.parametrize("raises", [RuntimeError("no door"), SystemExit("no door")])
def test_a_class_that_cannot_be_inspected_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, raises: BaseException
) -> None:
    class Strict(type):
        def __getattribute__(cls, asked: str) -> object:
            if asked == name:
                raise raises
            return super().__getattribute__(asked)

    made = Strict("Door", (Probe,), {"check": lambda self: Reading([])})
    monkeypatch.setattr("tests.fakes.StrictDoor", made, raising=False)
    with pytest.raises(PluginError, match=r"StrictDoor cannot be inspected at .*test_plugins.*no door"):
        plugin("tests.fakes:StrictDoor").load()


def test_two_owners_of_a_name_are_both_named() -> None:
    installed = [plugin("a:B", distribution="doors 1.0"), plugin("c:D", distribution="gates 2.0")]
    with pytest.raises(PluginError) as caught:
        plugins.choose(installed, "door")
    assert str(caught.value) == (
        "cannot load probe 'door': doors 1.0 (a:B) and gates 2.0 (c:D) both provide it; "
        "uninstall one of them, or rename the entry point of one"
    )


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (f"{__name__}:NoProbe", "not a subclass of mlopsd.probe.Probe"),
        (f"{__name__}:plugin", "not a subclass of mlopsd.probe.Probe"),
        (f"{__name__}:NoCheck", "has no check"),
        (f"{__name__}:NoOptions", "are not a subclass of mlopsd.probe.Options"),
        (f"{__name__}:NoMetrics", "are ('use_ratio',); write a tuple of Metric: metrics = (FREE,)"),
        (f"{__name__}:OneMetric", "are Metric(name='open'"),
        (f"{__name__}:NoSchedule", "is of the type int; write schedule = Schedule(…)"),
        (
            f"{__name__}:NoInterval",
            "NoInterval is 0; write a number above 0",
        ),
        (f"{__name__}:TextInterval", "is '30s'; write a number above 0"),
        (f"{__name__}:NoPlace", "is 'moon'; use loop, thread, process"),
        (f"{__name__}:TextCritical", "is 'very'; write True or False"),
        (f"{__name__}:OneColumn", "OneColumn is 'disk'; write table = SubjectTable"),
        (f"{__name__}:OneWord", "OneWord is 'path', not a tuple of names"),
        (f"{__name__}:NoSuchKey", "names 'pth', which is not a key of its Options; did you mean 'path'?"),
        (f"{__name__}:NoName", "names ['path'], which is not a key of its Options"),
        (f"{__name__}:Gone", "); repair its entry point, or upgrade doors 1.0"),
        ("mlopsd_door:Door", "no module 'mlopsd_door'; install doors again, or repair its entry point"),
        ("tests.no_such_part:Door", "no module 'tests.no_such_part'; install doors again, or repair"),
    ],
)
def test_what_is_no_probe_is_said_with_its_cure(target: str, complaint: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugin(target).load()
    assert str(caught.value).startswith("cannot load probe 'door': ")
    assert complaint in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "package", "complaint"),
    [
        (
            "import no_such_driver",
            "doors 1.0",
            "no module 'no_such_driver'; add what provides 'no_such_driver' to",
        ),
        ("import no_such_driver", "mlopsd 1.0", "install it with: pip install 'mlopsd[door]'"),
        (
            "import door_shelf.no_such_part",
            "doors 1.0",
            "'door_shelf.no_such_part'; install doors again",
        ),
        (
            "1/0",
            "doors 1.0",
            "door_shelf/__init__.py:1 (ZeroDivisionError: division by zero); repair or upgrade",
        ),
        (
            "class Wordless(Exception):\n    def __str__(self): 1/0\nraise Wordless",
            "doors 1.0",
            "door_shelf/__init__.py:3 (Wordless: (no message: ZeroDivisionError)); repair",
        ),
        ("raise SystemExit(3)", "doors 1.0", "door_shelf/__init__.py:1 (SystemExit: 3); repair or upgrade"),
        ("def __getattr__(name): 1/0", "doors 1.0", "door_shelf/__init__.py:1 (ZeroDivisionError: "),
        ("def (", "doors 1.0", "door_shelf/__init__.py:1 (SyntaxError: "),
        ("import os; os.no_such_name", "doors 1.0", "no_such_name"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_from_a_missing_package(
    shelf: Path, source: str, package: str, complaint: str
) -> None:
    (shelf / "door_shelf").mkdir()
    (shelf / "door_shelf" / "__init__.py").write_text(source, "utf-8")
    with pytest.raises(PluginError) as caught:
        plugin("door_shelf:Door", distribution=package).load()
    assert complaint in str(caught.value)


def configure(tmp_path: Path, text: str, target: str) -> Any:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    loaded: LoadedConfig = load(path, {}, {})
    return probes.configure(loaded, [plugin(f"{__name__}:{target}")])


@pytest.mark.parametrize(
    ("raises", "said"),
    [
        ("denied", "PermissionError: [Errno 13] Permission denied: '/nowhere/key'"),
        ("exit", "SystemExit: 3"),
        ("other", "ZeroDivisionError: one over nought, http://********@host"),
    ],
)
def test_a_validator_that_raises_anything_is_a_mistake(tmp_path: Path, raises: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path, f'[probes.door]\nraises = "{raises}"\n', "Picky")
    cure = "correct the options, or repair or upgrade doors 1.0"
    path = tmp_path / "config.toml"
    assert str(caught.value) == f"{path}: probes.door: cannot validate its options ({said}); {cure}"


def test_one_plugin_serves_several_tables(tmp_path: Path) -> None:
    text = '[probes.front]\nuse = "door"\ninterval = 1\n[probes.back]\nuse = "door"\ncritical = true\n'
    front, back = configure(tmp_path, text, "Fine")
    assert (front.name, back.name) == ("front", "back")
    assert (front.terms.interval, back.terms.interval) == (1, 30)
    assert (front.terms.critical, back.terms.critical) == (False, True)


class Weighty(Fine):
    schedule = Schedule(critical=True)


@pytest.mark.parametrize(
    ("target", "table", "critical"),
    [
        ("Fine", "", False),
        ("Fine", "critical = true\n", True),
        ("Weighty", "", True),
        ("Weighty", "critical = false\n", False),
    ],
)
def test_a_probe_decides_the_verdict_if_its_table_or_else_its_schedule_says_so(
    tmp_path: Path, target: str, table: str, *, critical: bool
) -> None:
    (one,) = configure(tmp_path, f"[probes.door]\n{table}", target)
    assert one.terms.critical is critical


@pytest.mark.parametrize("probe", [SystemProbe, GpuProbe, ModelProbe])
def test_the_probes_of_mlopsd_are_critical(probe: type[Probe[Any]]) -> None:
    assert probe.schedule.critical


def test_a_probe_that_rests_is_not_imported(tmp_path: Path) -> None:
    assert configure(tmp_path, "[probes.door]\nenabled = false\n", "Gone") == ()


def test_every_probe_that_cannot_be_had_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path, "[probes.one]\n[probes.two]\n", "Fine")
    assert [mistake.key for mistake in caught.value.mistakes] == ["probes.one", "probes.two"]


@pytest.mark.parametrize(
    ("target", "written", "isolation"),
    [
        ("Fine", "", "thread"),
        ("Fine", 'isolation = "process"', "process"),
        ("AsyncFine", "", "loop"),
        ("AsyncFine", 'isolation = "process"', "process"),
    ],
)
def test_a_check_runs_where_it_can(tmp_path: Path, target: str, written: str, isolation: str) -> None:
    (probes,) = configure(tmp_path, f"[probes.door]\n{written}\n", target)
    assert probes.isolation == isolation


@pytest.mark.parametrize(("target", "place"), [("Fine", "loop"), ("AsyncFine", "thread")])
def test_a_check_is_not_sent_where_it_cannot_run(tmp_path: Path, target: str, place: str) -> None:
    with pytest.raises(ConfigurationError, match=f"isolation = '{place}': its check is a"):
        configure(tmp_path, f'[probes.door]\nisolation = "{place}"\n', target)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "Use"}, "is not of the form"),
        ({"name": "uses_total"}, "a counter, and only a counter, ends in _total"),
        ({"name": "uses", "kind": "counter"}, "a counter, and only a counter, ends in _total"),
        ({"name": "use_sum"}, "ends like a part of a histogram"),
        ({"name": "use", "unit": "bytes"}, "does not end in its unit"),
        ({"name": "use", "labels": ("probe",)}, "label 'probe' is reserved"),
        ({"name": "use", "labels": ("a-b",)}, "label 'a-b' is reserved or not"),
        ({"name": "use", "kind": "histogram", "buckets": (2.0, 1.0)}, "buckets must ascend"),
    ],
)
def test_a_metric_that_prometheus_would_not_like_cannot_be_declared(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Metric(help="How much it is used.", **arguments)


def test_a_sample_has_exactly_the_declared_labels() -> None:
    metric = Metric("use_ratio", "Use.", labels=("card", "engine"))
    assert metric.sample(1, engine="copy", card=0).labels == (("card", "0"), ("engine", "copy"))
    for labels in ({}, {"card": 0}, {"card": 0, "engine": 1, "more": 2}):
        with pytest.raises(ValueError, match="has the labels"):
            metric.sample(1, **labels)


def test_options_forbid_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="no_such"):
        Options(no_such=1)  # type: ignore[call-arg]
