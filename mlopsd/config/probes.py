"""The configured probes, made from probe classes and tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from pydantic import ValidationError

from mlopsd.code_version import CodeVersion
from mlopsd.config import plugins
from mlopsd.config.errors import ConfigIssue, ConfigurationError, explain
from mlopsd.config.imports import ImportedPlugin, PluginImports
from mlopsd.config.load import BadTables, LoadedConfig
from mlopsd.config.plugins import Plugin, PluginError, are_metrics, one_line
from mlopsd.config.schema import ProbeTable, Settings
from mlopsd.entry import Terms
from mlopsd.predictor import PredictorOptions, is_predictor
from mlopsd.probe import Isolation, Metric, Options, Probe, Schedule, has_routes


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """An imported probe class with the settings of its table.

    Attributes:
        name: The probe's name in the configuration.
        plugin: The entry point.
        probe: The class.
        options: The validated options of the probe.
        terms: The timing and weight.
        isolation: Where the checks run.
        table: The probe's own keys as written, for a child process to validate again.
        metrics: The metrics that it declares for its options.
        code: The version of its code in memory.
    """

    name: str
    plugin: Plugin
    probe: type[Probe[Any]]
    options: Options
    terms: Terms
    isolation: Isolation
    table: Mapping[str, Any] = field(repr=False)
    metrics: tuple[Metric, ...] = field(default=(), repr=False, compare=False)
    code: CodeVersion = field(default=CodeVersion(), repr=False, compare=False)

    @property
    def predicts(self) -> PredictorOptions | None:
        """Return the probe's options if it predicts, else None."""
        able = is_predictor(self.probe) and isinstance(self.options, PredictorOptions)
        return self.options if able else None  # type: ignore[return-value]  # a PredictorOptions if able

    @property
    def subject(self) -> object:
        """Return a value that is equal as long as the probe checks the same thing.

        None if the probe predicts: its model ends with it, so its status must not be kept.
        """
        if self.predicts is not None:
            return None
        keys = self.probe.subject
        checked = self.options if keys is None else tuple(getattr(self.options, key) for key in keys)
        return self.plugin.target, checked


def read_configuration(
    load: Callable[[], LoadedConfig], imports: PluginImports | None = None
) -> tuple[LoadedConfig, tuple[ProbeConfig, ...]]:
    """Return the settings that *load* reads, and their probes. Report the issues of both together.

    Args:
        load: Reads the settings.
        imports: The plugins that this process has imported, if it reads its configuration repeatedly.

    Raises:
        ConfigurationError: The configuration is invalid, with one issue for each error.
    """
    known = imports or PluginImports()
    try:
        loaded = load()
    except BadTables as error:
        raise ConfigurationError([*error.mistakes, *_issues(error.rest, known)]) from error
    return loaded, configure(loaded, imports=known)


def _issues(loaded: LoadedConfig, imports: PluginImports) -> Sequence[ConfigIssue]:
    """Return the issues of the probes in *loaded*."""
    try:
        configure(loaded, imports=imports)
    except ConfigurationError as error:
        return error.mistakes
    return ()


def configure(
    loaded: LoadedConfig, installed: Sequence[Plugin] | None = None, *, imports: PluginImports | None = None
) -> tuple[ProbeConfig, ...]:
    """Import and validate each configured and enabled probe, and no other.

    Raises:
        ConfigurationError: A probe cannot be loaded or an option is invalid, with one issue for each.
    """
    available = plugins.find() if installed is None else installed
    known = imports or PluginImports()
    configured: list[ProbeConfig] = []
    mistakes: list[ConfigIssue] = []
    for name, table in loaded.settings.probes.items():
        if table.enabled:
            try:
                configured.append(_configure(name, table, known.load(table.use or name, available), loaded))
            except PluginError as error:
                key = f"probes.{name}"
                mistakes.append(ConfigIssue(key, str(error), None, loaded.origin(key)))
            except ConfigurationError as error:
                mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigurationError(mistakes)
    _check_default(configured, loaded)
    return tuple(configured)


def default_predictor(configured: Iterable[ProbeConfig]) -> ProbeConfig | None:
    """Return the probe for ``POST /invocations``: the default, or else the only one that predicts."""
    able = [(probe, probe.predicts) for probe in configured if probe.predicts]
    chosen = [probe for probe, options in able if options.default]
    return next(iter(chosen or [probe for probe, _ in able]), None)


def _check_default(configured: Iterable[ProbeConfig], loaded: LoadedConfig) -> None:
    """Check that at most one probe is the default.

    Raises:
        ConfigurationError: Several probes predict, and none or more than one is the default.
    """
    able = {probe.name: probe.predicts.default for probe in configured if probe.predicts}
    chosen = [name for name, default in able.items() if default]
    rivals = chosen or list(able)
    if len(rivals) <= 1:
        return
    *others, last = (f"[probes.{name}]" for name in rivals)
    key = f"probes.{rivals[-1]}"
    if chosen:
        complaint = f"POST /invocations has only one default, but {', '.join(others)} is one too"
        mistake = ConfigIssue(
            f"{key}.default", f"{complaint}; keep one", "true", loaded.origin(f"{key}.default")
        )
    else:
        complaint = f"POST /invocations can go to {', '.join(others)} or {last}, and none is the default"
        mistake = ConfigIssue(key, f"{complaint}; set default = true in one table", None, loaded.origin(key))
    raise ConfigurationError([mistake])


def _configure(name: str, table: ProbeTable, imported: ImportedPlugin, loaded: LoadedConfig) -> ProbeConfig:
    key = f"probes.{name}"
    plugin, probe = imported.plugin, imported.probe
    options = _options(key, table, plugin, probe, loaded)
    isolation = place(probe, table.isolation)
    _check_isolation(key, isolation, probe, loaded)
    metrics = _metrics(key, plugin, probe, options, loaded)
    terms = _terms(table, probe.schedule)
    return ProbeConfig(name, plugin, probe, options, terms, isolation, table.own, metrics, imported.code)


def _metrics(
    key: str, plugin: Plugin, probe: type[Probe[Any]], options: Options, loaded: LoadedConfig
) -> tuple[Metric, ...]:
    """Return the metrics that *probe* declares for *options*."""
    called = f"declares() of {plugin.target}"
    try:
        declared = probe.declares(options)
    except (Exception, SystemExit) as error:  # third-party code may raise anything
        complaint = f"{called} failed ({one_line(error)}); correct it, or the options that it uses"
        raise ConfigurationError([ConfigIssue(key, complaint, None, loaded.origin(key))]) from error
    if not are_metrics(declared):
        found = type(declared).__name__
        complaint = f"{called} returned {found}; return a tuple of mlopsd.probe.Metric"
        raise ConfigurationError([ConfigIssue(key, complaint, None, loaded.origin(key))])
    return tuple(declared)


def _options(
    key: str, table: ProbeTable, plugin: Plugin, probe: type[Probe[Any]], loaded: LoadedConfig
) -> Options:
    try:
        return probe.Options(**table.own)
    except ValidationError as error:
        mistakes = explain(
            error, probe.Options, key, loaded.origin, also=ProbeTable.model_fields, around=Settings
        )
        raise ConfigurationError(mistakes) from error
    except (Exception, SystemExit) as error:  # a third-party validator may raise anything
        fix = f"correct the options, or repair or upgrade {plugin.distribution or plugin.target}"
        complaint = f"cannot validate its options ({one_line(error)}); {fix}"
        raise ConfigurationError([ConfigIssue(key, complaint, None, loaded.origin(key))]) from error


def _terms(table: ProbeTable, schedule: Schedule) -> Terms:
    return Terms(
        interval=schedule.interval if table.interval is None else table.interval,
        timeout=schedule.timeout if table.timeout is None else table.timeout,
        fail_after=table.fail_after or schedule.fail_after,
        recover_after=table.recover_after or schedule.recover_after,
        critical=schedule.critical if table.critical is None else table.critical,
    )


def place(probe: type[Probe[Any]], configured: Isolation | None = None) -> Isolation:
    """Return the isolation of *probe*: as *configured*, or else its own. A coroutine runs on the loop."""
    wanted = configured or probe.schedule.isolation
    coroutine = iscoroutinefunction(probe.check)
    return "loop" if coroutine and wanted == "thread" and configured is None else wanted


def _check_isolation(key: str, isolation: Isolation, probe: type[Probe[Any]], loaded: LoadedConfig) -> None:
    where = f"{key}.isolation"
    if is_predictor(probe) and isolation != "loop":
        complaint = 'a probe that predicts runs on the event loop; write "loop" or remove the key'
        raise ConfigurationError([ConfigIssue(where, complaint, repr(isolation), loaded.origin(where))])
    coroutine = iscoroutinefunction(probe.check)
    if isolation == "process" and has_routes(probe):
        fix = "loop" if coroutine else "thread"
        complaint = f'the HTTP routes of its plugin run in the daemon, not in a process; use "{fix}"'
        raise ConfigurationError([ConfigIssue(where, complaint, repr(isolation), loaded.origin(where))])
    if (isolation == "loop" and not coroutine) or (isolation == "thread" and coroutine):
        function, fix = ("a coroutine", '"loop"') if coroutine else ("a plain function", '"thread"')
        complaint = f'its check is {function}, which cannot run there; use {fix} or "process"'
        raise ConfigurationError([ConfigIssue(where, complaint, repr(isolation), loaded.origin(where))])
