"""``mlopsd run``: the daemon in the foreground, until SIGTERM. ``--reload`` restarts it on changes."""

import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import add_config_option
from mlopsd.config import plugins
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.daemon import daemon
from mlopsd.state_dir import StateError
from mlopsd.web.server.listener import ListenError

STOPPING_SECONDS = 15.0  # more than a daemon with the default drain_timeout takes


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that override the configuration."""
    add_config_option(parser)
    parser.add_argument("--host", help="the address to listen on; overrides [api] host")
    parser.add_argument("--port", help="the port to listen on; overrides [api] port")
    parser.add_argument(
        "--debug", action="store_true", help="development mode: serve /docs and /redoc, log as text"
    )
    parser.add_argument(
        "--reload", action="store_true", help="with --debug: restart when code or configuration changes"
    )
    parser.epilog = "exit status: 0 after SIGTERM, 1 if it cannot start"


def run(arguments: Namespace) -> int:
    """Run the daemon until SIGTERM.

    Raises:
        CommandError: The daemon cannot start.
    """
    if arguments.reload:
        return restart_on_change(arguments)

    def read() -> LoadedConfig:
        return load(arguments.config, _overrides(arguments))

    try:
        return daemon.main(read)
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
    except (StateError, ListenError) as error:
        raise CommandError(str(error)) from error


def _overrides(arguments: Namespace) -> dict[str, Any]:
    """Return the options as configuration tables, to be validated with the file."""
    api = {key: value for key in ("host", "port") if (value := getattr(arguments, key)) is not None}
    return ({"api": api} if api else {}) | ({"debug": True} if arguments.debug else {})


def restart_on_change(arguments: Namespace) -> int:
    """Start the daemon, wait for a change, stop it, and repeat until SIGTERM or Ctrl-C.

    Raises:
        CommandError: watchfiles is not installed, or debug mode is off.
    """
    if not arguments.debug:
        raise CommandError("cannot restart on changes: --reload is only for development; add --debug")
    if find_spec("watchfiles") is None:
        raise CommandError("cannot watch for changes: no module 'watchfiles'; pip install 'mlopsd[dev]'")
    for number in (signal.SIGTERM, signal.SIGHUP):  # the daemon must not outlive this process
        signal.signal(number, _raise_interrupt)
    try:
        while True:
            _run_until_change(arguments)
    except KeyboardInterrupt:
        return 0


def _run_until_change(arguments: Namespace) -> None:
    child = subprocess.Popen([sys.executable, "-m", "mlopsd", *_without_reload(sys.argv[1:])])
    try:
        print(f"mlopsd: {_wait_for_change(arguments.config)} changed, restarting", file=sys.stderr)
    finally:
        child.terminate()
        try:
            child.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def _wait_for_change(config: Path | None) -> str:
    from watchfiles import Change, watch  # noqa: PLC0415  # in the extra dev; restart_on_change has checked for it

    named = _configuration_file(config)

    def matters(_change: Change, path: str) -> bool:
        return path.endswith(".py") or path == named

    folders = {*_source_folders(), *([Path(named).parent] if named else [])}
    changes = next(watch(*folders, watch_filter=matters, recursive=False, raise_interrupt=True))
    return ", ".join(sorted({Path(path).name for _, path in changes}))


def _source_folders() -> Iterator[Path]:
    """Yield every source folder of mlopsd and of each installed probe, broken ones included."""
    packages = {"mlopsd", *(plugin.target.partition(":")[0].split(".")[0] for plugin in plugins.find())}
    for package in packages:
        spec = find_spec(package)
        if spec is not None:
            yield from _folders(spec)


def _folders(spec: ModuleSpec) -> Iterator[Path]:
    """Yield the folder of a module, or every folder of a package."""
    if spec.submodule_search_locations is None:
        yield Path(spec.origin or ".").parent
    for folder in spec.submodule_search_locations or ():
        yield Path(folder)
        yield from (path for path in Path(folder).rglob("*/") if path.name != "__pycache__")


def _configuration_file(config: Path | None) -> str | None:
    """Return the configuration file, the named one if it is broken, or None without a file."""
    try:
        path = load(config).path
    except ConfigurationError:
        path = config
    return str(path.resolve()) if path else None


def _without_reload(argv: list[str]) -> list[str]:
    return [argument for argument in argv if argument != "--reload"]


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
