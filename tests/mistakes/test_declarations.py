"""Mistakes of a probe's author: where each is caught, and the exact line.

- At the declaration: the class or the metric itself raises. An import reports it with its file and line.
- By the load: `config check`, the start and a reload share it, so a row shows all three.
- By the run: only the check can tell.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Finding, Metric, Options, Probe, Reading, Status
from tests.cli.command import mlopsd
from tests.installed import installed
from tests.running import Running

HERE = Path(__file__).parent
PROBES = HERE / "probes"

# At the declaration

METRICS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "summary"}, "metric 'free': unknown kind 'summary'; use gauge, counter, histogram"),
    ({"name": "Free"}, "metric name 'Free' is not of the form [a-z][a-z0-9_]*; write it like open_files"),
    ({"name": 7}, "metric name 7 is not of the form [a-z][a-z0-9_]*; write it like open_files"),
    (
        {"name": "mlopsd_smart_free"},
        "metric 'mlopsd_smart_free': mlopsd_ and the plugin's name are added to it; leave them out",
    ),
    ({"name": "free_sum"}, "metric 'free_sum': it ends like a part of a histogram; rename it"),
    (
        {"kind": "counter"},
        "metric 'free': a counter, and only a counter, ends in _total; rename it or change its kind",
    ),
    (
        {"name": "free_total"},
        "metric 'free_total': a counter, and only a counter, ends in _total; rename it or change its kind",
    ),
    ({"help": " "}, "metric 'free': the help is empty; write one sentence"),
    ({"help": None}, "metric 'free': the help is empty; write one sentence"),
    (
        {"name": "wait_ms", "unit": "ms"},
        "metric 'wait_ms': 'ms' is not a base unit; use 'seconds', or unit=\"\" for a plain number",
    ),
    (
        {"name": "free_GiB".lower(), "unit": "GiB"},
        "metric 'free_gib': 'GiB' is not a base unit; use 'bytes', or unit=\"\" for a plain number",
    ),
    (
        {"name": "wait_ms"},
        "metric 'wait_ms': 'ms' is not a base unit; report seconds and rename it",
    ),
    (
        {"name": "load_percent"},
        "metric 'load_percent': 'percent' is not a base unit; report ratio and rename it",
    ),
    (
        {"name": "free_megabytes", "unit": "bytes"},
        "metric 'free_megabytes': its name does not end in its unit bytes; rename it or change its unit",
    ),
    (
        {"name": "free", "unit": "bytes"},
        "metric 'free': its name does not end in its unit bytes; rename it or change its unit",
    ),
    ({"labels": "disk"}, "metric 'free': the labels are 'disk', not a tuple; write labels=(\"disk\",)"),
    ({"labels": ("le",)}, "metric 'free': label 'le' is reserved or not [a-z][a-z0-9_]*; rename it"),
    ({"labels": (7,)}, "metric 'free': label 7 is reserved or not [a-z][a-z0-9_]*; rename it"),
    (
        {"labels": ("disk", "disk")},
        "metric 'free': two of its labels have one name (disk, disk); remove one",
    ),
    (
        {"kind": "histogram", "buckets": ()},
        "metric 'free': a histogram needs buckets; write at least one bound",
    ),
    (
        {"kind": "histogram", "buckets": 5},
        "metric 'free': the buckets are 5, not a tuple; write buckets=(0.1, 1.0, 10.0)",
    ),
    (
        {"kind": "histogram", "buckets": ("1", "2")},
        "metric 'free': the buckets must ascend and be finite numbers, not ('1', '2')",
    ),
    (
        {"kind": "histogram", "buckets": (2.0, 1.0)},
        "metric 'free': the buckets must ascend and be finite numbers, not (2.0, 1.0)",
    ),
    (
        {"kind": "histogram", "buckets": (1.0, float("inf"))},
        "metric 'free': the buckets must ascend and be finite numbers, not (1.0, inf)",
    ),
]


@pytest.mark.parametrize(("changed", "line"), METRICS)
def test_a_metric_is_judged_where_it_is_declared(changed: Mapping[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        Metric(**{"name": "free", "help": "What is free.", **changed})


def test_a_list_of_labels_or_buckets_is_as_good_as_a_tuple() -> None:
    metric = Metric("wait_seconds", "Waits.", "histogram", "seconds", ["disk"], [1, 2])  # type: ignore[arg-type]
    assert (metric.labels, metric.buckets) == (("disk",), (1, 2))
    assert hash(metric)


@pytest.mark.parametrize("unit", ["bytes", "ratio", "celsius", "bytes_per_second", "watts"])
def test_base_units_are_units(unit: str) -> None:
    assert Metric(f"free_{unit}", "Free.", unit=unit).unit == unit
    assert Metric(unit, "Free.", unit=unit).unit == unit


PLAIN = Metric("free", "Free.")
LABELLED = Metric("bad_sectors", "Bad.", labels=("disk", "side"))
COUNTER = Metric("faults_total", "Faults.", kind="counter", labels=("disk",))
WAITS = Metric("waits", "Waits.", kind="histogram")
SAMPLES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: LABELLED.sample(7, "sda"),  # type: ignore[arg-type]
        "metric 'bad_sectors': a label has no name; call sample(value, disk=…, side=…)",
    ),
    (
        lambda: LABELLED.sample(7, dsk="sda"),
        (
            "metric 'bad_sectors' has the labels disk, side, and the call names dsk; "
            "call sample(value, disk=…, side=…)"
        ),
    ),
    (
        lambda: PLAIN.sample(7, disk="a"),
        "metric 'free' has no labels, and the call names disk; call sample(value)",
    ),
    (
        lambda: COUNTER.label_values({}),
        "metric 'faults_total' has the labels disk, and the call names none; call inc(value, disk=…)",
    ),
    (
        lambda: WAITS.sample(7),
        (
            "metric 'waits': a histogram has no samples; "
            "call self.context.instruments.histogram(WAITS).observe(value)"
        ),
    ),
    (
        lambda: PLAIN.sample(None),  # type: ignore[arg-type]
        "metric 'free': the value None is not a number; leave the sample out if it could not be read",
    ),
    (
        lambda: PLAIN.sample("7"),  # type: ignore[arg-type]
        "metric 'free': the value '7' is not a number; leave the sample out if it could not be read",
    ),
]


@pytest.mark.parametrize(("call", "line"), SAMPLES)
def test_a_wrong_call_for_a_sample_shows_the_right_one(call: Callable[[], object], line: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(line)}$"):
        call()


WELL = Finding("door", Status.HEALTHY, "the door is shut")


@pytest.mark.parametrize(
    ("findings", "status", "line"),
    [
        (
            [WELL],
            Status.UNHEALTHY,
            (
                "the reading is unhealthy, but no finding is worse than healthy; "
                "add a finding or a summary that says why"
            ),
        ),
        (
            [],
            Status.UNHEALTHY,
            "the reading is unhealthy, but it has no finding; add a finding or a summary that says why",
        ),
    ],
)
def test_a_verdict_needs_a_cause(findings: list[Finding], status: Status, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        Reading(findings, status=status)
    assert Reading(findings, status=status, summary="the hinge is gone").summary == "the hinge is gone"


def test_the_type_argument_gives_the_options() -> None:
    class TokenOptions(Options):
        token: str = ""

    class Forgot(Probe[TokenOptions]):
        def check(self) -> Reading:
            return Reading([WELL])

    class Child(Forgot):
        pass

    assert Forgot.Options is Child.Options is TokenOptions
    assert Probe.Options is Options


# By the load

POINTS = {
    "no_class": "mistaken",
    "no_such": "mistaken:Seat",
    "queue": "queue:Seats",
    "kind": "summary_kind:Kind",
    "syntax": "syntax:Door",
    "not_a_probe": "mistaken:NotAProbe",
    "a_number": "mistaken:NUMBER",
    "core_key": "mistaken:CoreKey",
    "aliased_key": "mistaken:AliasedKey",
    "no_arguments": "mistaken:NoArguments",
    "wrong_reload": "mistaken:WrongReload",
    "async_reload": "mistaken:AsyncReload",
    "async_init": "mistaken:AsyncInit",
    "async_declares": "mistaken:AsyncDeclares",
    "async_routes": "mistaken:AsyncRoutes",
    "yields_routes": "mistaken:YieldsRoutes",
    "yields": "mistaken:Yields",
    "yields_close": "mistaken:YieldsClose",
    "check_property": "mistaken:CheckProperty",
    "plain_declares": "mistaken:PlainDeclares",
    "one_metric": "mistaken:OneMetric",
    "half_a_schedule": "mistaken:HalfASchedule",
    "other_options": "mistaken:OtherOptions",
    "declares_raises": "mistaken:DeclaresRaises",
    "declares_none": "mistaken:DeclaresNone",
    "declares_text": "mistaken:DeclaresText",
    "probe": "mistaken:Ours",
    "twice": "mistaken:Twice",
    "needs": "needs_cv2x:Needs",
}
MISTAKEN = {
    "no_class": (
        "cannot load probe 'no_class': 'mistaken' names no class; write module:Class as its entry point"
    ),
    "no_such": (
        "cannot load probe 'no_such': mistaken:Seat is not there (did you mean 'Seats'?); "
        "repair its entry point, or upgrade strange 1"
    ),
    "queue": (
        "cannot load probe 'queue': the module 'queue' of its entry point is Python's own; rename the package"
    ),
    "kind": (
        "cannot load probe 'kind': summary_kind:Kind fails when imported at PROBES/summary_kind.py:5 "
        "(ValueError: metric 'seats': unknown kind 'summary'; use gauge, counter, histogram); "
        "repair or upgrade strange 1"
    ),
    "syntax": (
        "cannot load probe 'syntax': syntax:Door fails when imported at FOLDER/syntax.py:1 "
        "(SyntaxError: invalid syntax (syntax.py, line 1)); repair or upgrade strange 1"
    ),
    "not_a_probe": (
        "cannot load probe 'not_a_probe': mistaken:NotAProbe is a class, but not a subclass of "
        "mlopsd.probe.Probe; see docs/extending/writing-a-probe.md"
    ),
    "a_number": (
        "cannot load probe 'a_number': mistaken:NUMBER is of the type int, not a subclass of "
        "mlopsd.probe.Probe; see docs/extending/writing-a-probe.md"
    ),
    "core_key": (
        "cannot load probe 'core_key': option 'interval' of mistaken:CoreKey is a key of every probe's "
        "table; name it otherwise; see docs/extending/writing-a-probe.md"
    ),
    "aliased_key": (
        "cannot load probe 'aliased_key': option 'use' of mistaken:AliasedKey is a key of every probe's "
        "table; name it otherwise; see docs/extending/writing-a-probe.md"
    ),
    "no_arguments": (
        "cannot load probe 'no_arguments': __init__() of mistaken:NoArguments cannot be called (too many "
        "positional arguments); write def __init__(self, options, context); "
        "see docs/extending/writing-a-probe.md"
    ),
    "wrong_reload": (
        "cannot load probe 'wrong_reload': reload() of mistaken:WrongReload cannot be called (got an "
        "unexpected keyword argument 'dry_run'); write def reload(self, *, dry_run, force); "
        "see docs/extending/writing-a-probe.md"
    ),
    "async_reload": (
        "cannot load probe 'async_reload': reload() of mistaken:AsyncReload is a coroutine, but its check() "
        "is not; make both async or neither; see docs/extending/writing-a-probe.md"
    ),
    "async_init": (
        "cannot load probe 'async_init': __init__() of mistaken:AsyncInit is a coroutine, which nothing "
        "awaits; write def __init__; see docs/extending/writing-a-probe.md"
    ),
    "async_declares": (
        "cannot load probe 'async_declares': declares() of mistaken:AsyncDeclares is a coroutine, which "
        "nothing awaits; write def declares; see docs/extending/writing-a-probe.md"
    ),
    "async_routes": (
        "cannot load probe 'async_routes': routes() of mistaken:AsyncRoutes is a coroutine, which nothing "
        "awaits; write def routes; see docs/extending/writing-a-probe.md"
    ),
    "yields_routes": (
        "cannot load probe 'yields_routes': routes() of mistaken:YieldsRoutes is a coroutine, which nothing "
        "awaits; write def routes; see docs/extending/writing-a-probe.md"
    ),
    "yields": (
        "cannot load probe 'yields': check() of mistaken:Yields is a generator; write return Reading(…), "
        "without yield; see docs/extending/writing-a-probe.md"
    ),
    "yields_close": (
        "cannot load probe 'yields_close': close() of mistaken:YieldsClose is a generator, so nothing runs "
        "it; write it without yield; see docs/extending/writing-a-probe.md"
    ),
    "check_property": (
        "cannot load probe 'check_property': check of mistaken:CheckProperty is of the type property, not a "
        "method; write def check(self); see docs/extending/writing-a-probe.md"
    ),
    "plain_declares": (
        "cannot load probe 'plain_declares': declares() of mistaken:PlainDeclares is called on the class; "
        "write @classmethod above it; see docs/extending/writing-a-probe.md"
    ),
    "one_metric": (
        "cannot load probe 'one_metric': the metrics of mistaken:OneMetric are Metric(name='free', "
        "help='What is free.', kind='gauge', unit; write a tuple of Metric: metrics = (FREE,); "
        "see docs/extending/writing-a-probe.md"
    ),
    "half_a_schedule": (
        "cannot load probe 'half_a_schedule': the schedule of mistaken:HalfASchedule is of the type int; "
        "write schedule = Schedule(…); see docs/extending/writing-a-probe.md"
    ),
    "other_options": (
        "cannot load probe 'other_options': the Options of mistaken:OtherOptions are SeatOptions, but its "
        "type argument is TokenOptions; write Options = TokenOptions, or leave it out; "
        "see docs/extending/writing-a-probe.md"
    ),
    "declares_raises": (
        "declares() of mistaken:DeclaresRaises failed (KeyError: 'nokey'); "
        "correct it, or the options that it uses"
    ),
    "declares_none": (
        "declares() of mistaken:DeclaresNone returned NoneType; return a tuple of mlopsd.probe.Metric"
    ),
    "declares_text": (
        "declares() of mistaken:DeclaresText returned str; return a tuple of mlopsd.probe.Metric"
    ),
    "needs": (
        "cannot load probe 'needs': no module 'cv2x'; add what provides 'cv2x' to the dependencies of strange"
    ),
}
CLASHES = {
    "probe": (
        "probes.probe: mistaken:Ours: cannot declare mlopsd_probe_status of plugin 'probe': it has "
        "labels (probe) here, but labels (probe, status) in mlopsd itself; "
        "rename one of them, or leave one out"
    ),
    "twice": (
        "probes.twice: mistaken:Twice: cannot declare mlopsd_twice_seats of plugin 'twice': it has "
        "labels (probe, floor) here, but labels (probe) in plugin 'twice'; "
        "rename one of them, or leave one out"
    ),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    folder = tmp_path_factory.mktemp("strange")
    (folder / "syntax.py").write_text("def (", "ascii")
    return {**installed(folder, POINTS, PROBES, folder), "FOLDER": str(folder)}


def as_lines(path: Path, environment: Mapping[str, str]) -> list[str]:
    """The lines of every mistake in the configuration at *path*."""
    lines = [f"{path}: probes.{name}: {line}" for name, line in MISTAKEN.items()]
    return [line.replace("PROBES", str(PROBES)).replace("FOLDER", environment["FOLDER"]) for line in lines]


def write(path: Path, names: Mapping[str, str]) -> Path:
    path.write_text("".join(f"[probes.{name}]\n" for name in names), "utf-8")
    return path


def test_every_mistake_is_one_line_of_config_check(environment: Mapping[str, str], tmp_path: Path) -> None:
    config = write(tmp_path / "config.toml", MISTAKEN)
    done = mlopsd("config", "check", "--config", config, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [f"mlopsd: {line}" for line in as_lines(config, environment)]


def test_the_start_refuses_with_the_same_lines(environment: Mapping[str, str], tmp_path: Path) -> None:
    config = write(tmp_path / "config.toml", MISTAKEN)
    done = mlopsd("run", "--config", config, "--port", "0", env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [f"mlopsd: {line}" for line in as_lines(config, environment)]


def test_metrics_that_clash_are_one_line_of_config_check_and_of_the_start(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    config = write(tmp_path / "config.toml", CLASHES)
    state = {"MLOPSD_STATE_DIR": str(tmp_path / "state")}
    for command in (("config", "check"), ("check",), ("run", "--port", "0")):
        done = mlopsd(*command, "--config", config, env={**environment, **state})
        assert done.returncode == (3 if command == ("check",) else 1)
        assert done.stderr.splitlines() == [f"mlopsd: {line}" for line in CLASHES.values()]


def test_a_reload_refuses_with_the_same_lines_and_goes_on(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    with Running(tmp_path, "[probes.seats]\nuse = 'system'\n", environment=environment) as daemon:
        for names, lines in (
            (MISTAKEN, as_lines(daemon.config, environment)),
            (CLASHES, list(CLASHES.values())),
        ):
            tables = "".join(f"[probes.{name}]\n" for name in names)
            daemon.config.write_text(daemon.framed(tables), "utf-8")
            answer = daemon.ask("POST", "/reload", local=True)
            assert (answer.status, answer.json["mistakes"]) == (409, lines)
        assert list(daemon.get("/health/").json["probes"]) == ["seats"]
        assert "Traceback" not in str(daemon.log)


def test_the_traceback_of_an_import_is_shown_to_its_author(environment: Mapping[str, str]) -> None:
    shown = mlopsd("probes", "--traceback", env=environment).stdout
    assert f'File "{PROBES}/summary_kind.py", line 5, in <module>' in shown
    assert "Traceback" not in mlopsd("probes", env=environment).stdout


# What another package cannot take, and names


def test_no_package_takes_a_built_in_probe_away(tmp_path: Path) -> None:
    environment = installed(tmp_path, {"system": "mistaken:Seats", "Bad-Name": "mistaken:Seats"}, PROBES)
    config = tmp_path / "config.toml"
    config.write_text("[probes.system]\n", "utf-8")
    done = mlopsd("config", "check", "--config", config, env=environment)
    assert done.returncode == 0
    line = (
        "cannot load mistaken:Seats of strange 1: 'system' is a probe of mlopsd; "
        "rename its entry point, or uninstall strange"
    )
    assert done.stderr == f"mlopsd: warning: plugin system: {line}\n"
    shown = mlopsd("probes", "--config", config, env=environment).stdout
    assert f"  {line}" in shown.splitlines()
    assert '  a table needs another name: [probes.NAME] with use = "Bad-Name"' in shown.splitlines()


def test_unmet_requirements_are_named_and_no_module_is_advised_to_be_installed(tmp_path: Path) -> None:
    environment = installed(tmp_path, {"needs": "needs_cv2x:Needs"}, PROBES)
    metadata = next(tmp_path.rglob("METADATA"))
    required = ("opencv-nowhere>=4", "pytest>=9999", "pydantic>=2", 'pywin-nowhere; sys_platform == "win32"')
    lines = [f"Requires-Dist: {requirement}\n" for requirement in required]
    metadata.write_text(metadata.read_text("ascii") + "".join(lines), "ascii")
    config = write(tmp_path / "config.toml", {"needs": ""})
    done = mlopsd("config", "check", "--config", config, env=environment)
    (line,) = done.stderr.splitlines()
    assert "no module 'cv2x'; install what strange requires and does not find: opencv-nowhere>=4, " in line
    assert line.endswith(f"pytest>=9999 ({pytest.__version__} is installed)")


# By the run


def test_a_constructor_that_forgets_its_base_says_what_to_call(tmp_path: Path) -> None:
    environment = installed(tmp_path, {"no_super": "mistaken:NoSuper"}, PROBES)
    config = write(tmp_path / "config.toml", {"no_super": ""})
    done = mlopsd("check", "--config", config, env=environment)
    line = "TypeError: NoSuper.__init__ leaves out the constructor of Probe; "
    assert f"{line}call super().__init__(options, context) in it" in " ".join(done.stdout.split())


def test_an_undeclared_sample_is_a_failure_of_check_and_in_the_log_at_once(tmp_path: Path) -> None:
    environment = installed(tmp_path, {"undeclared": "mistaken:Undeclared"}, PROBES)
    config = write(tmp_path / "config.toml", {"undeclared": ""})
    config.write_text("[probes.undeclared]\ncritical = true\n", "utf-8")
    done = mlopsd("check", "--config", config, env=environment)
    line = (
        "mlopsd: cannot use the sample doors of probe 'undeclared': it is not declared; "
        "declare it in the probe's metrics, with these labels\n"
    )
    assert (done.returncode, done.stderr) == (1, line)
    with Running(tmp_path, "[probes.undeclared]\n", environment=environment) as daemon:
        logged = daemon.logged("sample rejected")  # nobody has scraped
        assert (logged["probe"], logged["cause"]) == (
            "undeclared",
            "doors: the probe does not declare this sample",
        )


def test_a_reload_without_a_configuration_acts_on_no_daemon(tmp_path: Path) -> None:
    with Running(tmp_path, "[probes.system]\n") as daemon:
        missing = str(tmp_path / "missing.toml")
        env = {"MLOPSD_CONFIG": missing, "MLOPSD_API__PORT": str(daemon.port)}
        for words in (["reload"], ["reload", "system"], ["reload", "system", "--dry-run"]):
            done = mlopsd(*words, env=env)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == (
                "mlopsd: cannot reload: the configuration has no usable address of a daemon: "
                f"{missing}: cannot read the configuration: No such file or directory; "
                "create it or name another with --config, or name the daemon with --url\n"
            )
        assert not daemon.events("configuration reloaded")
