"""``mlopsd doctor``: the setup of mlopsd on this host, one line for each thing that was looked at."""

import contextlib
import errno
import grp
import json
import os
import stat
import sys
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlopsd.cli.client import (
    SERVICE_SOCKET,
    DaemonClient,
    DaemonUnreachable,
    find_daemon,
)
from mlopsd.cli.diagnosis import diagnose_plugins
from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.port_check import diagnose_ports
from mlopsd.cli.systemctl import SERVICE, has_systemd, has_unit, read_systemctl
from mlopsd.cli.terminal.text import fill_width, is_coloured, paint, sanitize
from mlopsd.config.load import LoadedConfig
from mlopsd.config.probes import ProbeConfig
from mlopsd.probe import Diagnosis
from mlopsd.state_dir import places

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
    """Declare the form of the output and the configuration."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a list of subject, status, summary, fix"
    )
    add_config_option(parser)
    about_this_host = dict.fromkeys(("url", "key_file", "cacert", "client_cert", "client_key"))
    parser.set_defaults(**about_this_host)
    parser.epilog = "exit status: 0 no problem, 1 a problem; what cannot be known is no problem"


def run(arguments: Namespace) -> int:
    """Print the diagnoses, problems first."""
    is_complete = adopt_environment()
    if arguments.config is not None:  # the daemon is looked for at its address too
        os.environ["MLOPSD_CONFIG"] = str(arguments.config)
    configuration, daemon = _read(), _ask(arguments)
    found = [
        *(("mlopsd", one) for one in _diagnose_daemon(configuration, daemon)),
        *_diagnose_probes(configuration, daemon, has_environment=is_complete),
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


def adopt_environment() -> bool:
    """Take over the variables of the running service; return false if this user may not read them."""
    if not SERVICE_SOCKET.exists() or not has_systemd():
        return True
    try:
        pid = int(read_systemctl("show", "--property=MainPID", "--value", SERVICE) or 0)
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pid else []
    except (OSError, ValueError):
        return False
    for pair in pairs:
        name, _, value = os.fsdecode(pair).partition("=")
        if name:
            os.environ.setdefault(name, value)
    return True


def _read() -> Configuration:
    try:
        return Configuration(*load_configuration(None))
    except CommandError as error:
        return Configuration(mistakes=error.lines)


def _ask(arguments: Namespace) -> RunningDaemon:
    try:
        client, health = find_daemon(arguments)
        info = client.get("/info").body
    except (CommandError, DaemonUnreachable) as error:
        return RunningDaemon(reason=str(error).partition("; is it running?")[0])
    facts = {name: reading.get("facts", {}) for name, reading in health.body["probes"].items()}
    return RunningDaemon(client, info, facts)


def _diagnose_daemon(configuration: Configuration, daemon: RunningDaemon) -> Iterator[Diagnosis]:
    """Yield the diagnoses of mlopsd itself."""
    yield from _diagnose_configuration(configuration)
    yield from _diagnose_unit()
    if daemon.client is None:
        start = f"systemctl start {SERVICE}" if has_unit() else "mlopsd run"
        yield Diagnosis(
            "problem", f"no daemon answers: {daemon.reason.removeprefix('cannot ask the daemon: ')}", start
        )
        return
    yield _diagnose_version(daemon)
    yield from _diagnose_loaded(configuration, daemon)
    loaded = configuration.loaded
    yield from diagnose_ports(None if loaded is None else loaded.settings, daemon.info)
    yield _diagnose_rights(daemon)


def _diagnose_configuration(configuration: Configuration) -> Iterator[Diagnosis]:
    for mistake in configuration.mistakes:
        cause, _, fix = mistake.partition("; ")
        if os.geteuid() != 0 and os.strerror(errno.EACCES) in cause:  # the service may read it all the same
            yield Diagnosis("not_checked", f"{cause}; run this command as root")
        else:
            yield Diagnosis("problem", cause, fix or "mlopsd config check")
    if configuration.loaded is not None:
        file = configuration.loaded.path or "built in, since there is no file"
        yield Diagnosis("ok", f"the configuration is valid: {file}")


def _diagnose_unit() -> Iterator[Diagnosis]:
    if not has_systemd():
        yield Diagnosis(
            "not_checked", "whether the daemon starts with the host: this host does not run systemd"
        )
        return
    state = read_systemctl("is-enabled", SERVICE)
    if state in ("enabled", "enabled-runtime"):
        yield Diagnosis("ok", f"{SERVICE} starts with the host")
    elif state == "disabled":
        yield Diagnosis("problem", f"{SERVICE} does not start with the host", f"systemctl enable {SERVICE}")
    else:
        reason = f"there is no {SERVICE}" if state in ("", "not-found") else f"{SERVICE} is {state}"
        yield Diagnosis("not_checked", f"whether the daemon starts with the host: {reason}")


def _diagnose_version(daemon: RunningDaemon) -> Diagnosis:
    runs, installed = str(daemon.info.get("version")), version("mlopsd")
    restart = f"systemctl restart {SERVICE}" if has_unit() else "restart mlopsd"
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
    if loaded.path.stat().st_ctime > read.timestamp():  # a copy may keep its st_mtime
        yield Diagnosis("problem", f"{loaded.path} was changed after the daemon had read it", "mlopsd reload")
    else:
        yield Diagnosis("ok", f"{loaded.path} has not changed since the daemon read it")


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
    return Diagnosis("problem", f"this user may not act over {path}", _way_to_act(Path(path)))


def _way_to_act(socket: Path) -> str:
    """Return a command that lets this user act, as far as the rights of *socket* tell."""
    with contextlib.suppress(OSError, KeyError):
        found = socket.stat()
        if found.st_gid != 0 and found.st_mode & stat.S_IWGRP:
            user = os.environ.get("USER") or str(os.geteuid())
            return f"sudo usermod -aG {grp.getgrgid(found.st_gid).gr_name} {user}"
    return "run mlopsd as root: sudo mlopsd doctor"


def _diagnose_probes(
    configuration: Configuration, daemon: RunningDaemon, *, has_environment: bool
) -> Iterator[tuple[str, Diagnosis]]:
    """Yield the diagnoses of the installed packages of probes."""
    if configuration.loaded is None:
        yield "probes", Diagnosis("not_checked", "the probes: this command cannot use the configuration")
        return
    state = places(configuration.loaded.settings).state
    yield from diagnose_plugins(configuration.probes, state, daemon.facts, has_environment=has_environment)
