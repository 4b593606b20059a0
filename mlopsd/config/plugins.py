"""Probe classes from entry points. A probe that cannot be loaded is an error with a fix."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from inspect import iscoroutinefunction
from math import inf
from typing import Any, get_args

from mlopsd.config.errors import nearest, without_credentials
from mlopsd.exceptions import safe_message
from mlopsd.predictor import PredictorOptions, is_predictor
from mlopsd.probe import Isolation, Metric, Options, Probe, Schedule

GROUP = "mlopsd.probes"
GUIDE = "docs/extending/writing-a-probe.md"


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

    def load(self) -> type[Probe[Any]]:
        """Import the class.

        Raises:
            PluginError: A package is missing, the import fails, or it is not a probe class.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError as error:
            raise PluginError(_missing(self, error)) from error
        except (Exception, SystemExit) as error:  # the import of third-party code may raise anything
            complaint = f"{self.target} fails when imported ({one_line(error)})"
            fix = f"repair or upgrade {self.distribution}"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}; {fix}") from error
        if found is None:
            complaint = f"{self.target} is not there; repair or upgrade {self.distribution}"
            raise PluginError(f"cannot load probe {self.name!r}: {complaint}")
        return _checked(self, found)


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
    if len(owners) > 1:
        names = " and ".join(f"{owner.distribution} ({owner.target})" for owner in owners)
        raise PluginError(f"cannot load probe {name!r}: {names} both provide it; uninstall one of them")
    return owners[0]


def _plugin(point: EntryPoint) -> Plugin:
    if point.dist is None:
        return Plugin(point.name, point.value)
    package = point.dist.name
    return Plugin(point.name, point.value, f"{package} {point.dist.version}", package)


def one_line(error: BaseException) -> str:
    """Return the text of *error* as one line without credentials."""
    return without_credentials(" ".join(f"{type(error).__name__}: {safe_message(error)}".split()))


def _checked(plugin: Plugin, found: object) -> type[Probe[Any]]:
    """Return *found* if it is a probe class with valid declarations.

    Raises:
        PluginError: It is not.
    """
    for complaint in _complaints(plugin.target, found):  # the first: those after it count on what it misses
        raise PluginError(f"cannot load probe {plugin.name!r}: {complaint}; see {GUIDE}")
    return found  # type: ignore[return-value]  # there was no complaint


def _complaints(target: str, found: Any) -> Iterator[str]:
    if not (isinstance(found, type) and issubclass(found, Probe)):
        yield f"{target} is {type(found).__name__} {found!r}, not a subclass of mlopsd.probe.Probe"
    if found.check is Probe.check:
        yield f"{target} has no check()"
    if not (isinstance(found.Options, type) and issubclass(found.Options, Options)):
        yield f"the Options of {target} are not a subclass of mlopsd.probe.Options"
    if is_predictor(found) and not issubclass(found.Options, PredictorOptions):
        yield f"the Options of {target} are not a subclass of mlopsd.predictor.PredictorOptions"
    if is_predictor(found) and not iscoroutinefunction(found.check):
        yield f"{target} predicts, but its check() is not a coroutine"
    if not _are_metrics(found.metrics):
        yield f"the metrics of {target} are not all mlopsd.probe.Metric, in a tuple"
    yield from _complaints_of_subject(target, found)
    if not _is_schedule(found.schedule):
        yield f"the schedule of {target} is not a mlopsd.probe.Schedule with numbers above 0"


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


def _are_metrics(found: object) -> bool:
    return isinstance(found, tuple | list) and all(isinstance(metric, Metric) for metric in found)


def _is_schedule(found: object) -> bool:
    if not isinstance(found, Schedule):
        return False
    numbers = (found.interval, found.timeout, found.fail_after, found.recover_after)
    positive = all(isinstance(number, int | float) and 0 < number < inf for number in numbers)
    return positive and found.isolation in get_args(Isolation) and isinstance(found.critical, bool)


def _missing(plugin: Plugin, error: ModuleNotFoundError) -> str:
    """Distinguish a missing dependency, which pip can install, from a missing plugin module."""
    own = plugin.target.partition(":")[0].split(".")[0]
    missing = error.name or str(error)
    if missing.split(".")[0] == own:
        fix = f"install {plugin.package or 'the package that provides it'} again, or repair its entry point"
    elif plugin.package == "mlopsd":
        fix = f"install it with: pip install 'mlopsd[{plugin.name}]'"
    else:
        fix = f"install the dependency of {plugin.package or plugin.target}: pip install {missing}"
    return f"cannot load probe {plugin.name!r}: no module {missing!r}; {fix}"
