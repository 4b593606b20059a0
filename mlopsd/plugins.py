"""Entry points → probe classes → configured probes, as values; what cannot be had is named with its cure."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from inspect import iscoroutinefunction
from math import inf
from typing import Any, get_args

from pydantic import ValidationError

from mlopsd.entry import Terms
from mlopsd.predictor import PredictorOptions, is_predictor
from mlopsd.probe import Isolation, Metric, Options, Probe, Schedule
from mlopsd.settings import ProbeTable
from mlopsd.settings.load import BadTables, Loaded
from mlopsd.settings.mistakes import ConfigurationError, Mistake, explain, nearest, without_credentials

GROUP = "mlopsd.probes"


class PluginError(Exception):
    """A probe that cannot be had: "cannot load probe X: cause; cure"."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A probe before it is imported.

    Attributes:
        name: the entry point's name, which a table's ``use`` refers to.
        target: ``package.module:Class``.
        distribution: the distribution that brings it, with its version.
    """

    name: str
    target: str
    distribution: str = ""
    package: str = ""

    def load(self) -> type[Probe[Any]]:
        """Import the class.

        Raises:
            PluginError: a package is missing, the import fails, or it is no probe.
        """
        return _load(self)


@dataclass(frozen=True, slots=True)
class Configured:
    """A probe that is imported, with everything that its table says.

    Attributes:
        table: the probe's own keys as they were written, for a child process to validate again.
    """

    name: str
    plugin: Plugin
    probe: type[Probe[Any]]
    options: Options
    terms: Terms
    isolation: Isolation
    table: Mapping[str, Any] = field(repr=False)

    @property
    def predicts(self) -> PredictorOptions | None:
        """Its options, if it answers predictions."""
        able = is_predictor(self.probe) and isinstance(self.options, PredictorOptions)
        return self.options if able else None  # type: ignore[return-value]  # a PredictorOptions if able


def find(points: Iterable[EntryPoint] | None = None) -> tuple[Plugin, ...]:
    """Every installed probe, by name, without importing any."""
    found = entry_points(group=GROUP) if points is None else points
    return tuple(sorted({_plugin(point) for point in found}, key=lambda plugin: (plugin.name, plugin.target)))


def choose(plugins: Sequence[Plugin], name: str) -> Plugin:
    """The one plugin called *name*.

    Raises:
        PluginError: there is none, or two distributions claim the name.
    """
    owners = [plugin for plugin in plugins if plugin.name == name]
    if not owners:
        hint = nearest(name, {plugin.name for plugin in plugins})
        raise PluginError(f"cannot load probe {name!r}: no installed package has it; {hint}")
    if len(owners) > 1:
        names = " and ".join(f"{owner.distribution} ({owner.target})" for owner in owners)
        raise PluginError(f"cannot load probe {name!r}: {names} both claim it; uninstall one of them")
    return owners[0]


def read(load: Callable[[], Loaded]) -> tuple[Loaded, tuple[Configured, ...]]:
    """What *load* reads and the probes that it wants; what is wrong in either is told in one go.

    Raises:
        ConfigurationError: with a line for each mistake.
    """
    try:
        loaded = load()
    except BadTables as error:
        raise ConfigurationError([*error.mistakes, *_judge(error.rest)]) from error
    return loaded, configure(loaded)


def _judge(loaded: Loaded) -> Sequence[Mistake]:
    """What is wrong with the probes of *loaded*."""
    try:
        configure(loaded)
    except ConfigurationError as error:
        return error.mistakes
    return ()


def configure(loaded: Loaded, plugins: Sequence[Plugin] | None = None) -> tuple[Configured, ...]:
    """Import and validate every probe that is configured and enabled, and no other.

    Raises:
        ConfigurationError: with a line for each probe that cannot be had and each option that is wrong.
    """
    installed = find() if plugins is None else plugins
    configured: list[Configured] = []
    mistakes: list[Mistake] = []
    for name, table in loaded.settings.probes.items():
        if table.enabled:
            try:
                configured.append(_configure(name, table, installed, loaded))
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigurationError(mistakes)
    _check_default(configured, loaded)
    return tuple(configured)


def default_predictor(configured: Iterable[Configured]) -> Configured | None:
    """Whom ``POST /invocations`` is for: the one that is the default, else the only one that predicts."""
    able = [(one, one.predicts) for one in configured if one.predicts]
    chosen = [one for one, options in able if options.default]
    return next(iter(chosen or [one for one, _ in able]), None)


def _check_default(configured: Iterable[Configured], loaded: Loaded) -> None:
    """See that there is one choice at most.

    Raises:
        ConfigurationError: several probes predict, and none of them or more than one is the default.
    """
    able = {one.name: one.predicts.default for one in configured if one.predicts}
    chosen = [name for name, default in able.items() if default]
    if len(able) < 2 or len(chosen) == 1:  # noqa: PLR2004
        return
    rivals = chosen or list(able)
    *others, last = (f"[probes.{name}]" for name in rivals)
    key = f"probes.{rivals[-1]}"
    if chosen:
        complaint = f"POST /invocations has one default, and {', '.join(others)} is it too"
        mistake = Mistake(f"{key}.default", f"{complaint}; keep one", "true", loaded.origin(f"{key}.default"))
    else:
        complaint = f"POST /invocations is for {', '.join(others)} or for {last}, and none is the default"
        mistake = Mistake(key, f"{complaint}; write default = true in one", None, loaded.origin(key))
    raise ConfigurationError([mistake])


def _configure(name: str, table: ProbeTable, installed: Sequence[Plugin], loaded: Loaded) -> Configured:
    key = f"probes.{name}"
    try:
        plugin = choose(installed, table.use or name)
        probe = plugin.load()
    except PluginError as error:
        raise ConfigurationError([Mistake(key, str(error), None, loaded.origin(key))]) from error
    options = _options(key, table, plugin, probe, loaded)
    isolation = place(probe, table.isolation)
    _check_isolation(key, isolation, probe, loaded)
    return Configured(name, plugin, probe, options, _terms(table, probe.schedule), isolation, table.own)


def _options(key: str, table: ProbeTable, plugin: Plugin, probe: type[Probe[Any]], loaded: Loaded) -> Options:
    try:
        return probe.Options(**table.own)
    except ValidationError as error:
        mistakes = explain(error, probe.Options, key, loaded.origin, also=ProbeTable.model_fields)
        raise ConfigurationError(mistakes) from error
    except (Exception, SystemExit) as error:  # a stranger's validator may raise anything
        cure = f"correct what that names, or repair or upgrade {plugin.distribution or plugin.target}"
        complaint = f"its options cannot be judged ({_said(error)}); {cure}"
        raise ConfigurationError([Mistake(key, complaint, None, loaded.origin(key))]) from error


def _terms(table: ProbeTable, schedule: Schedule) -> Terms:
    return Terms(
        interval=schedule.interval if table.interval is None else table.interval,
        timeout=schedule.timeout if table.timeout is None else table.timeout,
        fail_after=table.fail_after or schedule.fail_after,
        recover_after=table.recover_after or schedule.recover_after,
        critical=table.critical,
    )


def place(probe: type[Probe[Any]], configured: Isolation | None = None) -> Isolation:
    """Where the checks of *probe* run: as *configured*, else as it says, a coroutine on the loop."""
    wanted = configured or probe.schedule.isolation
    coroutine = iscoroutinefunction(probe.check)
    return "loop" if coroutine and wanted == "thread" and configured is None else wanted


def _check_isolation(key: str, isolation: Isolation, probe: type[Probe[Any]], loaded: Loaded) -> None:
    where = f"{key}.isolation"
    if is_predictor(probe) and isolation != "loop":
        complaint = 'what predicts runs on the loop; write "loop", or leave it out'
        raise ConfigurationError([Mistake(where, complaint, repr(isolation), loaded.origin(where))])
    coroutine = iscoroutinefunction(probe.check)
    if (isolation == "loop" and not coroutine) or (isolation == "thread" and coroutine):
        kind, cure = ("a coroutine", '"loop"') if coroutine else ("a plain function", '"thread"')
        complaint = f'its check is {kind}, which cannot run there; use {cure} or "process"'
        raise ConfigurationError([Mistake(where, complaint, repr(isolation), loaded.origin(where))])


def _plugin(point: EntryPoint) -> Plugin:
    if point.dist is None:
        return Plugin(point.name, point.value)
    package = point.dist.name
    return Plugin(point.name, point.value, f"{package} {point.dist.version}", package)


def _load(plugin: Plugin) -> type[Probe[Any]]:
    module, _, attribute = plugin.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise PluginError(_missing(plugin, error)) from error
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything when imported
        complaint = f"{plugin.target} fails when imported ({_said(error)})"
        cure = f"repair or upgrade {plugin.distribution}"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}") from error
    if found is None:
        complaint = f"{plugin.target} is not there; repair or upgrade {plugin.distribution}"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}")
    return _checked(plugin, found)


def _said(error: BaseException) -> str:
    """What *error* says, as one line without credentials."""
    return without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))


def _checked(plugin: Plugin, found: object) -> type[Probe[Any]]:
    """*found*, if it is a probe class that declares what it must.

    Raises:
        PluginError: it is something else.
    """
    cure = "see docs/writing-a-probe.md"
    if not (isinstance(found, type) and issubclass(found, Probe)):
        complaint = f"{plugin.target} is {type(found).__name__} {found!r}, no subclass of mlopsd.probe.Probe"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    if found.check is Probe.check:
        raise PluginError(f"cannot load probe {plugin.name!r}: {plugin.target} has no check(); {cure}")
    if not (isinstance(found.Options, type) and issubclass(found.Options, Options)):
        complaint = f"the Options of {plugin.target} are no subclass of mlopsd.probe.Options"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    if is_predictor(found) and not issubclass(found.Options, PredictorOptions):
        complaint = f"the Options of {plugin.target} are no subclass of mlopsd.predictor.PredictorOptions"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    if is_predictor(found) and not iscoroutinefunction(found.check):
        complaint = f"{plugin.target} predicts, and its check() is no coroutine"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    if not _are_metrics(found.metrics):
        complaint = f"the metrics of {plugin.target} are not all mlopsd.probe.Metric, in a tuple"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    if not _is_schedule(found.schedule):
        complaint = f"the schedule of {plugin.target} is no mlopsd.probe.Schedule of numbers above 0"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {cure}")
    return found


def _are_metrics(found: object) -> bool:
    return isinstance(found, tuple | list) and all(isinstance(metric, Metric) for metric in found)


def _is_schedule(found: object) -> bool:
    if not isinstance(found, Schedule):
        return False
    numbers = (found.interval, found.timeout, found.fail_after, found.recover_after)
    positive = all(isinstance(number, int | float) and 0 < number < inf for number in numbers)
    return positive and found.isolation in get_args(Isolation)


def _missing(plugin: Plugin, error: ModuleNotFoundError) -> str:
    """Tell a missing dependency, which has a cure, from a missing plugin module."""
    own = plugin.target.partition(":")[0].split(".")[0]
    missing = error.name or str(error)
    if missing.split(".")[0] == own:
        cure = f"install {plugin.package or 'the package that has it'} again, or repair its entry point"
    elif plugin.package == "mlopsd":
        cure = f"install it with: pip install 'mlopsd[{plugin.name}]'"
    else:
        cure = f"install what {plugin.package or plugin.target} depends on: pip install {missing}"
    return f"cannot load probe {plugin.name!r}: no module {missing!r}; {cure}"
