"""The steps of an installation: each is printed and then done, or with ``--dry-run`` only printed."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from mlopsd.cli.errors import CommandError

COMMAND_SECONDS = 90.0  # stopping a service may take that long


@dataclass(frozen=True, slots=True)
class SetupSteps:
    """The steps to do, or only to print."""

    dry_run: bool

    def do(self, what: str, act: Callable[[], object]) -> None:
        """Print *what* ("write /etc/x") and call *act*.

        Raises:
            CommandError: the system refused.
        """
        self.report(what)
        if self.dry_run:
            return
        try:
            act()
        except OSError as error:
            raise CommandError(f"cannot {what}: {error.strerror}; correct that and run it again") from error

    def run(self, *words: str) -> None:
        """Run a program of the system.

        Raises:
            CommandError: it is not there, does not end, or failed.
        """
        what = f"run {' '.join(words)}"
        self.report(what)
        if self.dry_run:
            return
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"cannot {what}: {error}; correct that and run it again") from error
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise CommandError(f"cannot {what}: {reason}; correct that and run it again")

    def report(self, what: str) -> None:
        """Print *what* is, or would be, done."""
        print(f"would {what}" if self.dry_run else what)
