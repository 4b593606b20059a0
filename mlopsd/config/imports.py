"""The plugins that this process has imported. A reload keeps them, whatever pip installs meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlopsd.code_version import CodeVersion, imported_code
from mlopsd.config import plugins
from mlopsd.config.plugins import Plugin, PluginError
from mlopsd.probe import Probe


@dataclass(frozen=True, slots=True)
class ImportedPlugin:
    """An imported plugin: as it was installed then, its class, and the version of its code."""

    plugin: Plugin
    probe: type[Probe[Any]]
    code: CodeVersion


class PluginImports:
    """The imported plugins of one process by name.

    Python keeps an imported module until the process ends. So the first import of a plugin decides which
    code runs, and no later version of it is ever claimed.
    """

    def __init__(self) -> None:
        self._imported: dict[str, ImportedPlugin] = {}

    def load(self, name: str, installed: Sequence[Plugin]) -> ImportedPlugin:
        """Return the plugin *name*: as imported before, or else imported now from *installed*.

        Raises:
            PluginError: It cannot be loaded, or another version of its code is in memory.
        """
        known = self._imported.get(name)
        try:
            plugin = plugins.choose(installed, name)
        except PluginError as error:
            if known is not None and known.code.change() is not None:
                return known  # it was removed, and it still runs
            raise _lost(error, known, installed) from error
        if known is not None and _shares_code(plugin, known) and self._must_stay(plugin, known):
            return known
        self._refuse_mixture(plugin)
        probe = plugin.load()
        code = imported_code(plugin.package, plugin.version, plugin.module)
        self._imported[name] = ImportedPlugin(plugin, probe, code)
        return self._imported[name]

    def _must_stay(self, plugin: Plugin, known: ImportedPlugin) -> bool:
        return plugin == known.plugin or known.code.change() is not None

    def _refuse_mixture(self, plugin: Plugin) -> None:
        """Refuse to import *plugin* beside an older version of its own package.

        Raises:
            PluginError: An older version is in memory.
        """
        for other in self._imported.values():
            if _shares_code(plugin, other) and (change := other.code.change()) is not None:
                raise PluginError(f"cannot load probe {plugin.name!r}: {change.sentence}")


def _lost(error: PluginError, known: ImportedPlugin | None, installed: Sequence[Plugin]) -> PluginError:
    """Return *error*, or why the plugin *known* cannot be found: its package is installed without it."""
    if known is None or any(plugin.name == known.plugin.name for plugin in installed):
        return error
    name, package = known.plugin.name, known.plugin.distribution or known.plugin.target
    gone = f"{package} has no entry point {name!r} any more"
    return PluginError(
        f"cannot load probe {name!r}: {gone}; remove its table, or install it with that entry point"
    )


def _shares_code(plugin: Plugin, other: ImportedPlugin) -> bool:
    same_package = plugin.package and plugin.package == other.plugin.package
    return bool(same_package) or plugin.module == other.plugin.module
