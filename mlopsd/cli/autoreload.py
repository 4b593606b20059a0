"""``mlopsd run --debug --reload``: the daemon in a process that restarts when its source changes."""

import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from mlopsd.cli.errors import CommandError
from mlopsd.config import plugins
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import load

STOPPING_SECONDS = 15.0  # more than a daemon takes whose drain_timeout is the default


def run(arguments: Namespace) -> int:
    """Start the daemon, wait for a change, stop it, and repeat until SIGTERM or Ctrl-C.

    Raises:
        CommandError: watchfiles is not installed, or this is not the development mode.
    """
    if not arguments.debug:
        raise CommandError("cannot restart on changes: it is for development alone; add --debug")
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
        print(f"mlopsd: {_wait_for_change(arguments.config)} changed, starting anew", file=sys.stderr)
    finally:
        child.terminate()
        try:
            child.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def _wait_for_change(config: Path | None) -> str:
    # the development extra: found above, imported where it is used
    from watchfiles import Change, watch  # noqa: PLC0415

    named = _configuration_file(config)

    def matters(_change: Change, path: str) -> bool:
        return path.endswith(".py") or path == named

    folders = {*_source_folders(), *([Path(named).parent] if named else [])}
    changes = next(watch(*folders, watch_filter=matters, recursive=False, raise_interrupt=True))
    return ", ".join(sorted({Path(path).name for _, path in changes}))


def _source_folders() -> Iterator[Path]:
    """Yield every folder of the source of mlopsd and of each installed probe, broken or not."""
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
    """Return the configuration file; if it is broken, the one that was named; None if there is none."""
    try:
        path = load(config).path
    except ConfigurationError:
        path = config
    return str(path.resolve()) if path else None


def _without_reload(words: list[str]) -> list[str]:
    return [word for word in words if word != "--reload"]


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
