"""``mlopsd doctor``: the setup of mlopsd on this host, one line for each thing that was looked at."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mlopsd.cli.client import (
    SERVICE_SOCKET,
    DaemonClient,
    DaemonUnreachable,
    add_connection_options,
    find_daemon,
    format_url,
)
from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.terminal.text import fill_width, is_coloured, paint, sanitize
from mlopsd.config import plugins
from mlopsd.config.load import LoadedConfig
from mlopsd.config.plugins import PluginError, one_line
from mlopsd.config.probes import ProbeConfig
from mlopsd.probe import Diagnosis, Options, Setup
from mlopsd.state_dir import places

BOOTED = Path("/run/systemd/system")
UNIT = "mlopsd.service"
PATIENCE = 45.0  # seconds for the diagnosis of one plugin; a registry that hangs takes 30 s
SCRAPE = 5.0  # seconds
SHOWN = {"problem": "problem", "not_checked": "not checked", "ok": "ok"}  # the order of the lines
COLOURS = {"problem": "degraded", "not_checked": "dim", "ok": "healthy"}


@dataclass(frozen=True)
class RunningDaemon:
    """The answers of the running daemon; *client* is None if none answers, and *reason* says why."""

    client: DaemonClient | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] | None = None
    reason: str = ""

    @property
    def has_socket(self) -> bool:
        """True if it answers over its Unix socket."""
        return self.client is not None and self.client.address.startswith("unix:")


@dataclass(frozen=True)
class Configuration:
    """The configuration as this command reads it, or the reason why it cannot be used."""

    loaded: LoadedConfig | None = None
    probes: Sequence[ProbeConfig] = ()
    mistakes: Sequence[str] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the form of the output, the configuration and the daemon's address."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a list of subject, status, summary, fix"
    )
    add_config_option(parser)
    add_connection_options(parser)
    parser.epilog = "exit status: 0 no problem, 1 a problem; what cannot be known is no problem"


def run(arguments: Namespace) -> int:
    """Print the diagnoses, problems first."""
    is_complete = _adopt_environment()
    configuration, daemon = _read(arguments.config), _ask(arguments)
    found = [
        *(("mlopsd", one) for one in _diagnose_daemon(configuration, daemon)),
        *_diagnose_plugins(configuration, daemon, has_environment=is_complete),
    ]
    found.sort(key=lambda pair: list(SHOWN).index(pair[1].status))
    if arguments.json:
        rows = [
            {"subject": name, "status": one.status, "summary": one.summary, "fix": one.fix}
            for name, one in found
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for name, one in found for line in _format(name, one)))
    return int(any(one.status == "problem" for _, one in found))


def _format(name: str, diagnosis: Diagnosis) -> Iterator[str]:
    """Yield a diagnosis in lines; a fix is never wrapped, so that it can be copied."""
    lead = f"{SHOWN[diagnosis.status]:13}{sanitize(name):9}"
    hang = " " * len(lead)
    first, *more = textwrap.wrap(
        sanitize(diagnosis.summary), fill_width(), initial_indent=lead, subsequent_indent=hang
    )
    word = SHOWN[diagnosis.status]
    yield first.replace(word, paint(word, COLOURS[diagnosis.status], coloured=is_coloured(sys.stdout)), 1)
    yield from more
    if diagnosis.fix:
        yield f"{hang}fix: {sanitize(diagnosis.fix)}"


def _adopt_environment() -> bool:
    """Take over the variables of the running service; return false if this user may not read them."""
    if not SERVICE_SOCKET.exists() or not _has_systemd():
        return True
    try:
        pid = int(_systemctl("show", "--property=MainPID", "--value", UNIT) or 0)
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pid else []
    except (OSError, ValueError):
        return False
    for pair in pairs:
        name, _, value = os.fsdecode(pair).partition("=")
        if name:
            os.environ.setdefault(name, value)
    return True


def _read(file: Path | None) -> Configuration:
    try:
        return Configuration(*load_configuration(file))
    except CommandError as error:
        return Configuration(mistakes=error.lines)


def _ask(arguments: Namespace) -> RunningDaemon:
    try:
        client, health = find_daemon(arguments)
        info = client.get("/info").body
    except (CommandError, DaemonUnreachable) as error:
        return RunningDaemon(reason=str(error).partition("; is it running?")[0])
    facts = {name: reading.get("facts", {}) for name, reading in health.body["probes"].items()}
    return RunningDaemon(client, info, None if arguments.url else facts)  # another host has other cards


def _diagnose_daemon(configuration: Configuration, daemon: RunningDaemon) -> Iterator[Diagnosis]:
    """Yield the diagnoses of mlopsd itself."""
    yield from _diagnose_configuration(configuration)
    yield from _diagnose_unit()
    if daemon.client is None:
        start = f"systemctl start {UNIT}" if _has_unit() else "mlopsd run"
        yield Diagnosis(
            "problem", f"no daemon answers: {daemon.reason.removeprefix('cannot ask the daemon: ')}", start
        )
        return
    yield _diagnose_version(daemon)
    yield from _diagnose_loaded(configuration, daemon)
    yield _diagnose_scrape(configuration, daemon)
    yield _diagnose_rights(daemon)


def _diagnose_configuration(configuration: Configuration) -> Iterator[Diagnosis]:
    for mistake in configuration.mistakes:
        cause, _, fix = mistake.partition("; ")
        yield Diagnosis("problem", cause, fix or "mlopsd config check")
    if configuration.loaded is not None:
        file = configuration.loaded.path or "built in, since there is no file"
        yield Diagnosis("ok", f"the configuration is valid: {file}")


def _diagnose_unit() -> Iterator[Diagnosis]:
    if not _has_systemd():
        yield Diagnosis(
            "not_checked", "whether the daemon starts with the host: this host does not run systemd"
        )
        return
    state = _systemctl("is-enabled", UNIT)
    if state in ("enabled", "enabled-runtime"):
        yield Diagnosis("ok", f"{UNIT} starts with the host")
    elif state == "disabled":
        yield Diagnosis("problem", f"{UNIT} does not start with the host", f"systemctl enable {UNIT}")
    else:
        reason = f"there is no {UNIT}" if state in ("", "not-found") else f"{UNIT} is {state}"
        yield Diagnosis("not_checked", f"whether the daemon starts with the host: {reason}")


def _diagnose_version(daemon: RunningDaemon) -> Diagnosis:
    runs, installed = str(daemon.info.get("version")), version("mlopsd")
    restart = f"systemctl restart {UNIT}" if _has_unit() else "restart mlopsd"
    if runs != installed:
        return Diagnosis("problem", f"mlopsd {installed} is installed here, and {runs} runs", restart)
    if outdated := daemon.info.get("configuration", {}).get("outdated"):
        return Diagnosis("problem", f"other code is installed than runs: {'; '.join(outdated)}", restart)
    return Diagnosis("ok", f"mlopsd {runs} runs, as installed")


def _diagnose_loaded(configuration: Configuration, daemon: RunningDaemon) -> Iterator[Diagnosis]:
    """Yield whether the daemon uses the file as it is now."""
    used, loaded = daemon.info.get("configuration", {}), configuration.loaded
    if error := used.get("error"):
        yield Diagnosis("problem", f"the last reload failed: {error}", "mlopsd config check && mlopsd reload")
        return
    if loaded is None or loaded.path is None or used.get("file") != str(loaded.path):
        reason = f"the daemon uses {used.get('file', 'none')}, which this command does not read"
        yield Diagnosis("not_checked", f"whether the configuration was changed: {reason}")
        return
    read = datetime.fromisoformat(str(used.get("reloaded_at") or daemon.info["started"]))
    if loaded.path.stat().st_mtime > read.timestamp():
        yield Diagnosis("problem", f"{loaded.path} was changed after the daemon had read it", "mlopsd reload")
    else:
        yield Diagnosis("ok", "the daemon uses the configuration as it is now")


def _diagnose_scrape(configuration: Configuration, daemon: RunningDaemon) -> Diagnosis:
    """Return whether Prometheus finds metrics at the daemon's address."""
    if configuration.loaded is not None and not configuration.loaded.settings.metrics.enabled:
        return Diagnosis("ok", "metrics are off, as [metrics] enabled says")
    listening = daemon.info.get("listening", {})
    address = listening.get("metrics") or listening.get("api")
    if address is None:
        return Diagnosis("not_checked", "whether metrics can be scraped: the daemon names no address")
    host, _, port = str(address).rpartition(":")
    url = f"{format_url(host.strip('[]'), int(port))}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=SCRAPE) as answer:
            answer.read(1)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error))
        return Diagnosis("not_checked", f"metrics at {url} cannot be read from here: {reason}")
    only = ", by programs of this host only" if _is_loopback(host.strip("[]")) else ""
    return Diagnosis("ok", f"metrics can be scraped at {url}{only}")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _diagnose_rights(daemon: RunningDaemon) -> Diagnosis:
    """Return whether this user may act (reload, check)."""
    path = daemon.info.get("socket", {}).get("path", SERVICE_SOCKET)
    if reason := daemon.info.get("socket", {}).get("error"):
        return Diagnosis(
            "problem", f"the socket {path} does not lead to the daemon: {reason}", "mlopsd status"
        )
    if daemon.has_socket:
        return Diagnosis("ok", f"this user may act over {path}")
    if not os.path.lexists(path):
        return Diagnosis("not_checked", f"whether this user may act: {path} is not on this host")
    group = "root and members of its group may"
    return Diagnosis(
        "problem", f"this user may not act over {path}; {group}", f"sudo usermod -aG mlopsd {_user()}"
    )


def _user() -> str:
    return os.environ.get("USER") or str(os.geteuid())


def _diagnose_plugins(
    configuration: Configuration, daemon: RunningDaemon, *, has_environment: bool
) -> Iterator[tuple[str, Diagnosis]]:
    """Yield the diagnoses of each installed plugin, also of one that no table uses."""
    if configuration.loaded is None:
        yield "probes", Diagnosis("not_checked", "the probes: the configuration has mistakes")
        return
    state = places(configuration.loaded.settings).state
    folders = {"the state": state} if os.access(state, os.R_OK | os.X_OK) else {}
    for plugin in plugins.find():
        tables = {one.name: one.options for one in configuration.probes if one.plugin.name == plugin.name}
        with tempfile.TemporaryDirectory(prefix="mlopsd-doctor-", ignore_cleanup_errors=True) as scratch:
            setup = Setup(tables, folders, daemon.facts, Path(scratch), has_environment)
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


def _has_systemd() -> bool:
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def _has_unit() -> bool:
    return _has_systemd() and _systemctl("is-enabled", UNIT) not in ("", "not-found")


def _systemctl(*arguments: str) -> str:
    """Return what systemctl prints; "" if it fails to start or does not end."""
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
