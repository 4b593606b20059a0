"""The steps of a set-up: each one is told, then done, or with ``--dry-run`` only told."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from mlopsd.cli.errors import CommandError

COMMAND_SECONDS = 90.0  # stopping a service may take that long


@dataclass(frozen=True, slots=True)
class SetupSteps:
    """Does what it is told, or only tells."""

    dry_run: bool

    def take(self, what: str, act: Callable[[], object]) -> None:
        """Tell *what* ("write /etc/x") and do *act*.

        Raises:
            Failure: the system refused.
        """
        self.tell(what)
        if self.dry_run:
            return
        try:
            act()
        except OSError as error:
            raise CommandError(f"cannot {what}: {error.strerror}; correct that and run it again") from error

    def command(self, *words: str) -> None:
        """Run a program of the system.

        Raises:
            Failure: it is not there, does not end, or failed.
        """
        what = f"run {' '.join(words)}"
        self.tell(what)
        if self.dry_run:
            return
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"cannot {what}: {error}; correct that and run it again") from error
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise CommandError(f"cannot {what}: {reason}; correct that and run it again")

    def tell(self, what: str) -> None:
        """Tell something that is, or will be."""
        print(f"would {what}" if self.dry_run else what)
