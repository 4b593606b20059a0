"""The diagnoses of installed packages of probes, each with a time limit."""

import os
import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlopsd.config import plugins
from mlopsd.config.plugins import PluginError, one_line
from mlopsd.config.probes import ProbeConfig
from mlopsd.probe import Diagnosis, Options, Setup

PATIENCE = 45.0  # seconds for one plugin; a registry that hangs takes 30 s


def diagnose_plugins(
    probes: Sequence[ProbeConfig],
    state: Path,
    facts: Mapping[str, Mapping[str, Any]] | None,
    *,
    has_environment: bool,
) -> Iterator[tuple[str, Diagnosis]]:
    """Yield the name and each diagnosis of every installed plugin, also of one that no table uses.

    Args:
        probes: the configured probes.
        state: the state folder, which this user may not be able to read.
        facts: as for `mlopsd.probe.Setup`.
        has_environment: as for `mlopsd.probe.Setup`.
    """
    folders = {"the state": state} if os.access(state, os.R_OK | os.X_OK) else {}
    each = {f"the files of {one.name}": state / "probes" / one.name for one in probes}
    folders |= {purpose: folder for purpose, folder in each.items() if folders and folder.is_dir()}
    for plugin in plugins.find():
        tables = {one.name: one.options for one in probes if one.plugin.name == plugin.name}
        with tempfile.TemporaryDirectory(prefix="mlopsd-doctor-", ignore_cleanup_errors=True) as scratch:
            setup = Setup(tables, folders, facts, Path(scratch), has_environment)
            for one in _diagnose_plugin(plugin, setup):
                yield plugin.name, one


def _diagnose_plugin(plugin: plugins.Plugin, setup: Setup[Options]) -> Iterable[Diagnosis]:
    """Return the diagnoses of one plugin, which may raise anything or never return."""
    ended: queue.SimpleQueue[list[Diagnosis] | Exception] = queue.SimpleQueue()
    threading.Thread(
        target=partial(_try, plugin, setup, ended), name=f"diagnose {plugin.name}", daemon=True
    ).start()
    try:
        outcome = ended.get(timeout=PATIENCE)
    except queue.Empty:
        outcome = TimeoutError(f"no answer within {PATIENCE:g} s")
    if isinstance(outcome, PluginError):
        return [Diagnosis("not_checked", str(outcome))]
    if isinstance(outcome, Exception):
        return [Diagnosis("not_checked", f"its own diagnosis fails: {one_line(outcome)}")]
    return outcome


def _try(
    plugin: plugins.Plugin, setup: Setup[Options], ended: "queue.SimpleQueue[list[Diagnosis] | Exception]"
) -> None:
    try:
        found = list(plugin.load().diagnose(setup))
        wrong = next((one for one in found if not isinstance(one, Diagnosis)), None)
        ended.put(found if wrong is None else TypeError(f"{wrong!r:.60} is no Diagnosis"))
    except Exception as error:  # noqa: BLE001  # the code of a package may raise anything
        ended.put(error)
