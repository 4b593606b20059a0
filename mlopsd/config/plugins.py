"""Probe classes from entry points. A probe that cannot be loaded is an error with a fix."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import (
    getattr_static,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from math import inf
from traceback import walk_tb
from types import FunctionType
from typing import Any, get_args

from pydantic import BaseModel

from mlopsd.config.errors import nearest, without_credentials
from mlopsd.config.requirements import unmet_requirements
from mlopsd.config.schema import ProbeTable
from mlopsd.exceptions import safe_message
from mlopsd.predictor import Predictor, PredictorOptions, is_predictor
from mlopsd.probe import API_VERSION, Isolation, Metric, Options, Probe, Schedule, SubjectTable, type_argument

GROUP = "mlopsd.probes"
GUIDE = "docs/extending/writing-a-probe.md"
OWN_PACKAGE = "mlopsd"


class PluginError(Exception):
    """The error of a probe that cannot be loaded: "cannot load probe X: cause; fix"."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed probe before its import.

    Attributes:
        name: The entry point's name, which a table's ``use`` refers to.
        target: ``package.module:Class``.
        distribution: The distribution that provides it, with its version.
        package: The name of that distribution, without the version.
    """

    name: str
    target: str
    distribution: str = ""
    package: str = ""

    @property
    def module(self) -> str:
        """Return ``package.module``."""
        return self.target.partition(":")[0]

    @property
    def version(self) -> str:
        """Return the version of the distribution, or "" without one."""
        return self.distribution.removeprefix(self.package).strip()

    def load(self) -> type[Probe[Any]]:
        """Import the class.

        Raises:
            PluginError: A package is missing, the import fails, or it is not a probe class.
        """
        module, _, attribute = self.target.partition(":")
        if not attribute:
            complaint = f"{self.target!r} names no class; write module:Class as its entry point"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}")
        if module.partition(".")[0] in sys.stdlib_module_names:
            complaint = f"the module {module!r} of its entry point is Python's own; rename the package"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}")
        try:
            imported = _import(module)
            found = getattr(imported, attribute, None)
        except ModuleNotFoundError as error:
            raise PluginError(_missing(self, error)) from error
        except (Exception, SystemExit) as error:  # the import of third-party code may raise anything
            complaint = f"{self.target} fails when imported{_place(error, module)} ({one_line(error)})"
            fix = f"repair or upgrade {self.distribution}"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}; {fix}") from error
        if found is None:
            complaint = f"{self.target} is not there ({nearest(attribute, _classes(imported))})"
            fix = f"repair its entry point, or upgrade {self.distribution}"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}; {fix}")
        return _checked(self, found)


def _import(module: str) -> Any:
    """Import *module*. If that fails, forget its imported parts: a retry must not mix two versions."""
    before = set(sys.modules)
    importlib.invalidate_caches()  # pip may have installed it just now
    try:
        return importlib.import_module(module)
    except BaseException:  # third-party code may raise anything, which is raised again
        top = module.partition(".")[0]
        for name in set(sys.modules) - before if top not in before else ():
            if name == top or name.startswith(f"{top}."):
                del sys.modules[name]
        raise


def _place(error: BaseException, module: str) -> str:
    """Return " at FILE:LINE" of the last line in the package of *module* that led to *error*, or ""."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    top = module.partition(".")[0]
    own = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == top
    ]
    return " at {}:{}".format(*own[-1]) if own else ""


def _classes(module: Any) -> set[str]:
    """Return the names of the probe classes that *module* itself defines."""
    values = [(name, value) for name, value in vars(module).items() if isinstance(value, type)]
    return {
        name for name, value in values if issubclass(value, Probe) and value.__module__ == module.__name__
    }


def find(points: Iterable[EntryPoint] | None = None) -> tuple[Plugin, ...]:
    """Return all installed probes, sorted by name, without importing them."""
    found = entry_points(group=GROUP) if points is None else points
    return tuple(sorted({_plugin(point) for point in found}, key=lambda plugin: (plugin.name, plugin.target)))


def choose(plugins: Sequence[Plugin], name: str) -> Plugin:
    """Return the plugin called *name*.

    Raises:
        PluginError: No distribution provides it, or two do.
    """
    owners = [plugin for plugin in plugins if plugin.name == name]
    if not owners:
        hint = nearest(name, {plugin.name for plugin in plugins})
        raise PluginError(f"cannot load probe {name!r}: no installed package provides it; {hint}")
    if own := [owner for owner in owners if owner.package == OWN_PACKAGE]:
        return own[0]  # no other package can take a built-in probe away
    if len(owners) > 1:
        names = " and ".join(f"{owner.distribution} ({owner.target})" for owner in owners)
        fix = "uninstall one of them, or rename the entry point of one"
        raise PluginError(f"cannot load probe {name!r}: {names} both provide it; {fix}")
    return owners[0]


def shadowed(plugins: Sequence[Plugin]) -> Mapping[Plugin, str]:
    """Return why each plugin with the name of a built-in probe is not used."""
    own = {plugin.name for plugin in plugins if plugin.package == OWN_PACKAGE}
    others = [plugin for plugin in plugins if plugin.name in own and plugin.package != OWN_PACKAGE]
    return {plugin: _why_shadowed(plugin) for plugin in others}


def _why_shadowed(plugin: Plugin) -> str:
    complaint = f"cannot load {plugin.target} of {plugin.distribution}: {plugin.name!r} is a probe of mlopsd"
    return f"{complaint}; rename its entry point, or uninstall {plugin.package or plugin.target}"


def _plugin(point: EntryPoint) -> Plugin:
    if point.dist is None:
        return Plugin(point.name, point.value)
    package = point.dist.name or ""  # pip may be replacing it at this moment
    return Plugin(point.name, point.value, f"{package} {point.dist.version or ''}".strip(), package)


def one_line(error: BaseException) -> str:
    """Return the text of *error* as one line without credentials."""
    return without_credentials(" ".join(f"{type(error).__name__}: {safe_message(error)}".split()))


def _checked(plugin: Plugin, found: object) -> type[Probe[Any]]:
    """Return *found* if it is a probe class with valid declarations.

    Raises:
        PluginError: It is not.
    """
    try:  # the first: those after it count on what it misses
        complaint = next(_complaints(plugin.target, found), None)
    except (Exception, SystemExit) as error:  # a property of third-party code may raise anything
        place = _place(error, plugin.target.partition(":")[0])
        complaint = f"{plugin.target} cannot be inspected{place} ({one_line(error)})"
        fix = f"repair or upgrade {plugin.distribution}"
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; {fix}") from error
    if complaint is not None:
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; see {GUIDE}")
    return found  # type: ignore[return-value]  # there was no complaint


def _complaints(target: str, found: Any) -> Iterator[str]:
    if not (isinstance(found, type) and issubclass(found, Probe)):
        kind = "a class, but not" if isinstance(found, type) else f"of the type {type(found).__name__}, not"
        yield f"{target} is {kind} a subclass of mlopsd.probe.Probe"
    if found.api_version not in (None, API_VERSION):
        built = f"{target} was written for version {found.api_version} of the contract of probes"
        yield f"{built}, this mlopsd has {API_VERSION}; upgrade the older of the two"
    if found.check is Probe.check:
        yield f"{target} has no check()"
    yield from _complaints_of_methods(target, found)
    yield from _complaints_of_coroutines(target, found)
    yield from _complaints_of_options(target, found)
    if is_predictor(found):
        yield from _complaints_of_predictor(target, found)
    if not are_metrics(found.metrics):
        yield f"the metrics of {target} are {found.metrics!r:.60}; write a tuple of Metric: metrics = (FREE,)"
    if not isinstance(found.table, SubjectTable | None):
        yield f"the table of {target} is {found.table!r:.60}; write table = SubjectTable(…)"
    yield from _complaints_of_subject(target, found)
    yield from _complaints_of_schedule(target, found.schedule)


CALLS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "__init__": ("(self, options, context)", lambda call: call.bind(None, None, None)),
    "check": ("(self)", lambda call: call.bind(None)),
    "reload": ("(self, *, dry_run, force)", lambda call: call.bind(None, dry_run=False, force=False)),
    "routes": ("(self)", lambda call: call.bind(None)),
    "close": ("(self)", lambda call: call.bind(None)),
}
"""The parameters of each method that the daemon calls, and such a call."""


def _complaints_of_methods(target: str, found: type[Probe[Any]]) -> Iterator[str]:
    for name, (parameters, call) in CALLS.items():
        method = getattr_static(found, name)
        if not callable(getattr(found, name)):
            kind = type(method).__name__
            yield f"{name} of {target} is of the type {kind}, not a method; write def {name}{parameters}"
        if not isinstance(method, FunctionType):
            continue  # a static method, for example, has other parameters
        try:
            call(signature(method))
        except TypeError as error:
            yield f"{name}() of {target} cannot be called ({error}); write def {name}{parameters}"
    for name in ("declares", "diagnose"):
        if isinstance(getattr_static(found, name), FunctionType):
            yield f"{name}() of {target} is called on the class; write @classmethod above it"


def _complaints_of_coroutines(target: str, found: type[Probe[Any]]) -> Iterator[str]:
    """Yield a line for each method that is a coroutine and must not be one, or the other way around."""
    for name in ("__init__", "declares", "diagnose", "routes"):
        method = getattr(found, name)
        if iscoroutinefunction(method) or isasyncgenfunction(method):
            yield f"{name}() of {target} is a coroutine, which nothing awaits; write def {name}"
    if isgeneratorfunction(found.check) or isasyncgenfunction(found.check):
        yield f"check() of {target} is a generator; write return Reading(…), without yield"
    for name in ("reload", "close"):
        method = getattr(found, name)
        if isgeneratorfunction(method) or isasyncgenfunction(method):
            yield f"{name}() of {target} is a generator, so nothing runs it; write it without yield"
        if iscoroutinefunction(method) and not iscoroutinefunction(found.check):
            yield f"{name}() of {target} is a coroutine, but its check() is not; make both async or neither"


def _complaints_of_predictor(target: str, found: type[Predictor[Any]]) -> Iterator[str]:
    if not iscoroutinefunction(found.check):
        yield f"{target} predicts, but its check() is not a coroutine; write async def check"
    for name in ("predict", "served_version"):
        if getattr(found, name) is getattr(Predictor, name):
            yield f"{target} predicts, but has no {name}; write one"
    for name in ("predict", "reconfigure"):
        if not iscoroutinefunction(getattr(found, name)):
            yield f"{name}() of {target} is not a coroutine; write async def {name}"
    version = getattr_static(found, "served_version")
    if isinstance(version, FunctionType):
        yield f"served_version of {target} is a method, which is always true; write @property above it"
    if iscoroutinefunction(getattr(version, "fget", None)):
        yield f"served_version of {target} is a coroutine, which is always true; write def served_version"


def _complaints_of_options(target: str, found: type[Probe[Any]]) -> Iterator[str]:
    options, argument = found.Options, type_argument(found)
    if not (isinstance(options, type) and issubclass(options, Options)):
        yield f"the Options of {target} are not a subclass of mlopsd.probe.Options"
    if is_predictor(found) and not issubclass(options, PredictorOptions):
        yield f"the Options of {target} are not a subclass of mlopsd.predictor.PredictorOptions"
    if argument is not None and not issubclass(options, argument):
        names = f"{options.__name__}, but its type argument is {argument.__name__}"
        yield f"the Options of {target} are {names}; write Options = {argument.__name__}, or leave it out"
    for name in sorted(set(options.model_fields) & set(vars(BaseModel))):
        yield f"option {name!r} of {target} is a method of every options class; name it otherwise"
    for name, info in options.model_fields.items():
        for key in (name, info.alias, info.validation_alias):
            if key in ProbeTable.model_fields:
                yield f"option {key!r} of {target} is a key of every probe's table; name it otherwise"


def _complaints_of_subject(target: str, found: type[Probe[Any]]) -> Iterator[str]:
    if found.subject is None:
        return
    if not isinstance(found.subject, tuple):
        yield f"the subject of {target} is {found.subject!r}, not a tuple of names"
        return
    keys = found.Options.model_fields
    for name in found.subject:
        if not (isinstance(name, str) and name in keys):
            hint = nearest(str(name), set(keys))
            yield f"the subject of {target} names {name!r}, which is not a key of its Options; {hint}"


def are_metrics(found: object) -> bool:
    """Return whether *found* is a tuple or list of metrics."""
    return isinstance(found, tuple | list) and all(isinstance(metric, Metric) for metric in found)


def _complaints_of_schedule(target: str, found: object) -> Iterator[str]:
    if not isinstance(found, Schedule):
        yield f"the schedule of {target} is of the type {type(found).__name__}; write schedule = Schedule(…)"
        return
    for name in ("interval", "timeout", "fail_after", "recover_after"):
        number = getattr(found, name)
        if not (isinstance(number, int | float) and 0 < number < inf):
            yield f"the {name} in the schedule of {target} is {number!r:.60}; write a number above 0"
    if found.isolation not in (known := get_args(Isolation)):
        yield f"the isolation in the schedule of {target} is {found.isolation!r:.60}; use {', '.join(known)}"
    if not isinstance(found.critical, bool):
        yield f"critical in the schedule of {target} is {found.critical!r:.60}; write True or False"


def _missing(plugin: Plugin, error: ModuleNotFoundError) -> str:
    """Distinguish a missing dependency, which pip can install, from a missing plugin module."""
    own = plugin.target.partition(":")[0].split(".")[0]
    missing = error.name or str(error)
    if missing.split(".")[0] == own:
        fix = f"install {plugin.package or 'the package that provides it'} again, or repair its entry point"
    elif plugin.package == OWN_PACKAGE:
        fix = f"install it with: pip install 'mlopsd[{plugin.name}]'"
    elif unmet := unmet_requirements(plugin.package):
        fix = f"install what {plugin.package} requires and does not find: {', '.join(unmet)}"
    else:  # the name of a module is not the name of a package, so do not advise to install it
        fix = f"add what provides {missing!r} to the dependencies of {plugin.package or plugin.target}"
    return f"cannot load probe {plugin.name!r}: no module {missing!r}; {fix}"
