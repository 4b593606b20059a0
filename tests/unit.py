"""The unit tests: the files whose tests start no process and use no network.

``make unit`` runs them. conftest.py marks them ``unit`` and holds the rule in every run: what they try
to start or to reach raises here, and fails the test even if the code under test catches that.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
UNIT = frozenset(
    {
        "alerts/test_dashboard.py",
        "cli/test_install_files.py",
        "config/test_load.py",
        "config/test_plugins.py",
        "daemon/test_preflight.py",
        "daemon/test_watches.py",
        "docs/test_names.py",
        "frame/test_contributing.py",
        "frame/test_licence.py",
        "gpu/test_judgement.py",
        "gpu/test_page.py",
        "metrics/test_registry.py",
        "model/test_batcher.py",
        "model/test_blame.py",
        "model/test_credentials.py",
        "model/test_liveness.py",
        "model/test_metrics.py",
        "model/test_options.py",
        "model/test_page.py",
        "model/test_plan.py",
        "model/test_preconditions.py",
        "model/test_prediction_stats.py",
        "model/test_reconciler.py",
        "model/test_reconciler_causes.py",
        "model/test_reconciler_races.py",
        "model/test_rejections.py",
        "model/test_thresholds.py",
        "system/test_disks.py",
        "system/test_hardware.py",
        "system/test_kernel_files.py",
        "system/test_limits.py",
        "system/test_options.py",
        "system/test_page.py",
        "system/test_probe.py",
        "system/test_processes.py",
        "system/test_real_host.py",
        "test_board.py",
        "test_failures.py",
        "test_format.py",
        "test_log.py",
        "test_watch.py",
        "worker/test_codec.py",
        "worker/test_validate.py",
    }
)
PROCESSES = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
CONNECTIONS = frozenset({"socket.bind", "socket.connect", "socket.sendto"})
_guards: list[list[str]] = []  # what was tried, of the unit test that runs


class NotInUnitTests(Exception):
    """A process or a connection that a unit test asked for."""


def is_unit(path: Path) -> bool:
    """Return whether *path* is a file of unit tests."""
    return path.is_relative_to(HERE) and path.relative_to(HERE).as_posix() in UNIT


@contextmanager
def alone() -> Iterator[None]:
    """Forbid processes and connections while it is entered.

    Raises:
        NotInUnitTests: one was tried, by whoever.
    """
    tried: list[str] = []
    _guards.append(tried)
    try:
        yield
    finally:
        _guards.pop()
    if tried:
        raise NotInUnitTests(f"a unit test cannot use {', '.join(tried)}; remove its file from tests/unit.py")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what an audit event announces; a Unix socket is no network."""
    if not _guards or event not in PROCESSES | CONNECTIONS:
        return
    if event in CONNECTIONS and arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
        return
    _guards[-1].append(event)
    raise NotInUnitTests(event)


sys.addaudithook(_refuse)

if __name__ == "__main__":
    print(*sorted(f"tests/{name}" for name in UNIT))
