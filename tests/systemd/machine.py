"""A machine of its own that a test may do with what it likes: this one's files under a systemd of its own."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.running import GIVE_UP

VENV = "/opt/mlopsd"
MLOPSD = f"{VENV}/bin/mlopsd"
DROP_IN = "/run/systemd/system/mlopsd.service.d/test.conf"
CONFIG = "/etc/mlopsd/config.toml"
PORT = 9178
NEEDED = pytest.mark.needs(
    "root", "bash", "setpriv", "unshare", "mount", "nsenter", "systemctl", "curl", "pgrep"
)  # by the box, and by what is run in it

Done = subprocess.CompletedProcess[str]


class Box:
    """A machine of its own; *pid* is its systemd as this machine numbers it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, *words: str, check: bool = True, timeout: float = GIVE_UP, stdin: bytes = b"") -> Done:
        """Run a program in it as root, from its root folder, with an environment of its own."""
        enter = ["nsenter", "--all", "--target", str(self.pid), "env", "-i", "-C", "/"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [*enter, path, *words], input=stdin, capture_output=True, timeout=timeout, check=False
        )
        reported = subprocess.CompletedProcess(
            words, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(words)} ended with {done.returncode}:\n{reported.stdout}\n{reported.stderr}"
            )
        return reported

    def write(self, path: str, text: str) -> None:
        """Put *text* into the file at *path*, keeping the mode and owner of one that is there."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, stdin=text.encode())

    def read(self, path: str) -> str:
        """The text of the file at *path*."""
        return self.run("cat", path).stdout

    def exists(self, path: str) -> bool:
        """Whether there is something at *path*."""
        return self.run("test", "-e", path, check=False).returncode == 0

    def until(self, holds: Callable[[], bool], what: str, seconds: float = GIVE_UP) -> float:
        """Wait for *holds*; the seconds that it took."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                pytest.fail(f"not within {seconds} s: {what}\n{self.journal()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def journal(self) -> str:
        """The last lines of the service."""
        return self.run("journalctl", "-u", "mlopsd", "-n", "60", "-o", "cat", check=False).stdout

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "-P", name, "mlopsd").stdout.strip()

    def get(self, path: str) -> Any:
        """The daemon's answer over TCP, whatever its status code."""
        return json.loads(self.run("curl", "-sS", "-m", "5", f"http://127.0.0.1:{PORT}{path}").stdout)
