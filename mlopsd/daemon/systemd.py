"""Messages to the service manager: sd_notify(3), a datagram to the socket that it names."""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells systemd how the daemon is; without systemd it tells nobody."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(variables)
        self._owed = ""  # a READY=1 that systemd had no room for

    def ready(self, status: str) -> None:
        """Started, or done with a reload."""
        message = f"READY=1\nSTATUS={_one_line(status)}"
        self._owed = "" if self._tell(message) else message

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._tell(f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns; said at least once in half of `watchdog`."""
        if self._owed and self._tell(self._owed):
            self._owed = ""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> bool:
        """Return whether *message* was taken, or there is nobody to take it."""
        if not self._address:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:  # systemd is busy or gone, and nothing here may wait for it
                return False
        return True


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Seconds after which systemd takes a silent daemon for dead, or None where it does not."""
    usec, pid = variables.get("WATCHDOG_USEC", ""), variables.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _one_line(status: str) -> str:
    return " ".join(status.split())[:500]
