"""``mlopsd install``: the service, its user and its configuration, from a virtual environment; and back."""

import os
import re
import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.cli.install import user
from mlopsd.cli.install.files import InstalledFiles
from mlopsd.cli.install.resource import resource
from mlopsd.cli.install.steps import SetupSteps

SERVICE = "mlopsd.service"
UNIT = Path("/etc/systemd/system") / SERVICE
CONFIGURATION = Path("/etc/mlopsd/config.toml")
RECORD = Path("/etc/mlopsd/.installed.json")
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SHIPPED_PROGRAM = "/opt/mlopsd/bin/mlopsd"
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


def add_arguments(parser: ArgumentParser) -> None:
    """Which way, and whether at all."""
    parser.add_argument("--uninstall", action="store_true", help="take away what was not changed")
    parser.add_argument("--dry-run", action="store_true", help="say each step and do none")
    parser.epilog = "exit status: 0 done, 1 with the reason; a file that was changed is never overwritten"


def run(arguments: Namespace) -> int:
    """Set it up, or take it away.

    Raises:
        Failure: this host or this user cannot; what was done before stays, and running it again goes on.
    """
    steps = SetupSteps(dry_run=arguments.dry_run)
    _check_host(steps)
    placed = InstalledFiles(RECORD, steps)
    if arguments.uninstall:
        _uninstall(steps, placed)
    else:
        _install(steps, placed)
    return 0


def _check_host(steps: SetupSteps) -> None:
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        cure = "run 'mlopsd run' under the service manager that there is"
        raise CommandError(f"cannot install: systemd does not run this host; {cure}")
    if os.geteuid() != 0 and not steps.dry_run:
        raise CommandError("cannot install: only root may; run it with sudo")


def _install(steps: SetupSteps, placed: InstalledFiles) -> None:
    program = _program()
    user.check_reach(program)
    user.make(steps, placed)
    placed.put(CONFIGURATION, resource("config.toml"), 0o640, user.group())
    placed.put(UNIT, unit(program))
    steps.command("systemctl", "daemon-reload")
    print(
        "next:",
        f"  {program} config check         after a look into {CONFIGURATION}",
        f"  systemctl enable {SERVICE}      so that it starts with the host",
        f"  systemctl restart {SERVICE}     now",
        f"  {program} status",
        sep="\n",
    )


def _uninstall(steps: SetupSteps, placed: InstalledFiles) -> None:
    if UNIT.exists():
        steps.command("systemctl", "disable", "--now", SERVICE)
    for path in (UNIT, CONFIGURATION, user.SYSUSERS):
        placed.remove(path)
    placed.forget()
    steps.command("systemctl", "daemon-reload")
    if Path(user.HOME).exists() or user.exists():
        cure = f"rm -r {user.HOME}; userdel {user.USER}"
        steps.tell(f"keep {user.HOME} and its user {user.USER}; to remove them: {cure}")


def _program() -> Path:
    """This virtual environment's ``mlopsd``.

    Raises:
        Failure: there is none.
    """
    program = Path(sys.executable).parent / "mlopsd"
    if sys.prefix == sys.base_prefix or not program.exists():
        cure = "python3 -m venv /opt/mlopsd && /opt/mlopsd/bin/pip install 'mlopsd[all]'"
        raise CommandError(f"cannot install: {sys.prefix} is no virtual environment with mlopsd; {cure}")
    if not PLAIN_PATH.fullmatch(str(program)):
        cure = "make the virtual environment where the path has letters, digits and . _ + - alone"
        raise CommandError(f"cannot install: systemd would misread the path {str(program)!r}; {cure}")
    return program


def unit(program: Path) -> bytes:
    """The shipped unit, for *program*."""
    return resource(SERVICE).replace(SHIPPED_PROGRAM.encode(), str(program).encode())
