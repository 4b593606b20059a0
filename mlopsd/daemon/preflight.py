"""The checks of a configuration on this host, before anything changes."""

import ipaddress
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlopsd.config.errors import ConfigIssue
from mlopsd.config.load import LoadedConfig
from mlopsd.config.plugins import Plugin, shadowed
from mlopsd.config.probes import ProbeConfig
from mlopsd.metrics.registry import Metrics
from mlopsd.state_dir import Places, StateError, StateFolder, places
from mlopsd.web.server.listener import ListenError
from mlopsd.web.server.tls import TlsFiles


def without_folder(folder: StateFolder, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Create the folder of each probe, and yield an issue for each that cannot be created."""
    for probe in configured:
        try:
            folder.of_probe(probe.name)
        except StateError as error:
            yield ConfigIssue(f"probes.{probe.name}", str(error))


def clashing(metrics: Metrics, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Yield an issue for each probe whose metrics differ from those already declared under the name."""
    clashes = metrics.probes.clashes({probe.plugin.name: probe.metrics for probe in configured})
    for probe in configured:
        if (clash := clashes.get(probe.plugin.name)) is not None:
            complaint = f"{probe.plugin.target}: {clash}, or leave one out"
            yield ConfigIssue(f"probes.{probe.name}", complaint)


def outdated(configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Yield a warning for each probe of which other code is installed than runs."""
    for probe in configured:
        if (change := probe.code.change()) is not None:
            yield ConfigIssue(f"probe {probe.name}", change.sentence)


def shadowing(installed: Sequence[Plugin]) -> Iterator[ConfigIssue]:
    """Yield a warning for each plugin that has the name of a built-in probe."""
    for plugin, why in shadowed(installed).items():
        yield ConfigIssue(f"plugin {plugin.name}", why)


def moved(places_now: Places, loaded: LoadedConfig) -> Iterator[ConfigIssue]:
    """Yield an issue for each path that *loaded* moves: only a restart can move them."""
    after = places(loaded.settings)
    for key, now, new in (
        ("state_dir", places_now.state, after.state),
        ("socket", places_now.socket, after.socket),
    ):
        if now != new:
            complaint = f"cannot move from {now} while running; restart the daemon"
            yield ConfigIssue(key, complaint, str(new), loaded.origin(key))


def shared(where: Places) -> Iterator[ConfigIssue]:
    """Yield a warning if every user may write to the folder of the Unix socket."""
    folder = where.socket.parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IWOTH:
        complaint = (
            f"every user may write to its folder {folder}, and models cannot create files directly in it"
        )
        yield ConfigIssue(
            "socket", f"{complaint}; choose a folder that only the daemon may write to", str(where.socket)
        )


def writable_code(folders: Iterable[Path] | None = None) -> Iterator[ConfigIssue]:
    """Yield a warning if this user may write to *folders*, by default those of the daemon's own code.

    Root may write everywhere, so it gets no warning.
    """
    found = _code_folders() if folders is None else folders
    if os.geteuid() == 0:
        return
    if writable := [str(folder) for folder in found if os.access(folder, os.W_OK, effective_ids=True)]:
        complaint = f"everything that runs as uid {os.geteuid()} may change the daemon's own code there"
        fix = "let root own the virtual environment, or use the service of mlopsd install"
        yield ConfigIssue("python", f"{complaint}; {fix}", ", ".join(writable))


def _code_folders() -> Iterator[Path]:
    """Yield the folders that the interpreter takes code from."""
    named = dict.fromkeys([sys.prefix, str(Path(sys.executable).parent), *sys.path])
    return (path for path in map(Path, named) if path.is_absolute() and path.is_dir())


def uncritical(configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Yield a warning if no probe among *configured* is critical: the verdict stays unknown."""
    if configured and not any(probe.terms.critical for probe in configured):
        fix = "set critical = true in one table"
        yield ConfigIssue("probes", f"no probe is critical, so the verdict stays unknown; {fix}")


def unencrypted(loaded: LoadedConfig) -> Iterator[ConfigIssue]:
    """Yield a warning if callers elsewhere send their keys without TLS."""
    api, metrics = loaded.settings.api, loaded.settings.metrics
    if api.tls_cert is not None or not (loaded.api_keys or api.api_keys_file):
        return
    listening = {"api.host": api.host}
    if metrics.port is not None and api.reading == "key":
        listening["metrics.host"] = metrics.host
    for key, host in listening.items():
        if not _is_loopback(host):
            complaint = "callers send their API keys there in clear text"
            fix = "set [api] tls_cert and tls_key, or listen on 127.0.0.1 behind a proxy with TLS"
            yield ConfigIssue(key, f"{complaint}; {fix}", repr(host), loaded.origin(key))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unusable_tls(loaded: LoadedConfig) -> Iterator[ConfigIssue]:
    """Yield an issue if the daemon could not serve with the files of TLS."""
    files = TlsFiles.of(loaded.settings.api)
    if files is None:
        return
    try:
        files.make_context()
    except ListenError as error:
        yield ConfigIssue("api.tls_cert", str(error), repr(str(files.cert)), loaded.origin("api.tls_cert"))


def keyless(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[ConfigIssue]:
    """Yield a warning for each right over TCP that needs an API key although none is set."""
    api = loaded.settings.api
    if api.reading == "key" and not loaded.api_keys:
        fix = 'set [api] api_keys_file, or reading = "open"'
        complaint = f"no API key is set, so nobody reads over TCP; {fix}"
        yield ConfigIssue("api.reading", complaint, '"key"', loaded.origin("api.reading"))
    if api.predictions == "key" and not loaded.api_keys and any(probe.predicts for probe in configured):
        complaint = "no API key is set, so nobody gets predictions over TCP"
        fix = 'set [api] api_keys_file, or predictions = "open", or use the Unix socket'
        key = "api.predictions"
        yield ConfigIssue(key, f"{complaint}; {fix}", '"key"', loaded.origin(key))
