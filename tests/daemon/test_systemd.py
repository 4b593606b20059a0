"""sd_notify: what is told, and that nothing waits for a service manager that does not listen."""

import socket
from pathlib import Path

from mlopsd.daemon.systemd import Notifier


def test_without_systemd_nobody_is_notified() -> None:
    Notifier({}).ready("healthy")


def test_a_ready_that_found_no_room_is_reported_again_with_the_next_due(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        other.settimeout(0)
        filled = 0
        try:
            while True:
                other.sendto(b"x", str(tmp_path / "notify"))
                filled += 1
        except BlockingIOError:
            pass
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("healthy:\nall is well")
        for _ in range(filled):
            assert manager.recv(100) == b"x"
        notifier.alive()
        assert manager.recv(100) == b"READY=1\nSTATUS=healthy: all is well"
        assert manager.recv(100) == b"WATCHDOG=1"
        notifier.alive()
        assert manager.recv(100) == b"WATCHDOG=1", "told once"
