"""Checks of a configuration on this host, before anything is changed."""

import stat
from collections.abc import Iterator, Sequence

from mlopsd.config.errors import ConfigIssue
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig
from mlopsd.metrics.registry import Metrics
from mlopsd.state_dir import Places, StateError, StateFolder, places


def without_folder(folder: StateFolder, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Make the folder of each probe; a mistake for each that cannot be made."""
    for one in configured:
        try:
            folder.of_probe(one.name)
        except StateError as error:
            yield ConfigIssue(f"probes.{one.name}", str(error))


def clashing(metrics: Metrics, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """A mistake for each probe whose metrics mean something else already."""
    clashes = metrics.probes.clashes({one.plugin.name: one.probe.declares(one.options) for one in configured})
    for one in configured:
        if (clash := clashes.get(one.plugin.name)) is not None:
            yield ConfigIssue(f"probes.{one.name}", f"{clash}, or leave one out")


def moved(places_now: Places, loaded: LoadedConfig) -> Iterator[ConfigIssue]:
    """A mistake for each place that *loaded* moves: they are taken once, at the start."""
    after = places(loaded.settings)
    for key, now, new in (
        ("state_dir", places_now.state, after.state),
        ("socket", places_now.socket, after.socket),
    ):
        if now != new:
            complaint = f"cannot move from {now} while running; restart the daemon"
            yield ConfigIssue(key, complaint, str(new), loaded.origin(key))


def shared(where: Places) -> Iterator[ConfigIssue]:
    """A doubt where everybody may write to the folder of the Unix socket."""
    folder = where.socket.parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IWOTH:
        complaint = (
            f"every user may write to its folder {folder}, and no model may create files directly in it"
        )
        yield ConfigIssue("socket", f"{complaint}; choose a folder of the daemon's own", str(where.socket))


def uncritical(configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Yield a warning if no probe among *configured* is critical: nothing can tell that the host is well."""
    if configured and not any(one.terms.critical for one in configured):
        cure = "set critical = true in one table"
        yield ConfigIssue("probes", f"none is critical, and the verdict stays unknown; {cure}")


def keyless(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """A doubt where something predicts and nobody can ask it over TCP, since no API key is set."""
    api = loaded.settings.api
    if api.predictions == "key" and not loaded.api_keys and any(one.predicts for one in configured):
        complaint = "no API key is set, so nobody gets predictions over TCP"
        cure = 'set [api] api_keys_file, or predictions = "open", or use the Unix socket'
        key = "api.predictions"
        yield ConfigIssue(key, f"{complaint}; {cure}", '"key"', loaded.origin(key))
