"""``mlopsd install``: install or remove the service, its user and its configuration."""

import os
import re
import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.cli.install import user
from mlopsd.cli.install.files import InstalledFiles, SetupSteps, read_shipped

SERVICE = "mlopsd.service"
UNIT = Path("/etc/systemd/system") / SERVICE
CONFIGURATION = Path("/etc/mlopsd/config.toml")
RECORD = Path("/etc/mlopsd/.installed.json")
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SHIPPED_PROGRAM = "/opt/mlopsd/bin/mlopsd"
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare ``--uninstall`` and ``--dry-run``."""
    parser.add_argument("--uninstall", action="store_true", help="remove the service and its unchanged files")
    parser.add_argument("--dry-run", action="store_true", help="print each step without doing it")
    parser.epilog = "exit status: 0 done, 1 with the reason; a changed file is never overwritten"


def run(arguments: Namespace) -> int:
    """Install, or uninstall.

    Raises:
        CommandError: A step failed. The earlier steps stay done, and a second run continues.
    """
    steps = SetupSteps(dry_run=arguments.dry_run)
    _check_host(steps)
    files = InstalledFiles(RECORD, steps)
    if arguments.uninstall:
        _uninstall(steps, files)
    else:
        _install(steps, files)
    return 0


def _check_host(steps: SetupSteps) -> None:
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        fix = "start 'mlopsd run' with this host's service manager"
        raise CommandError(f"cannot install: this host does not run systemd; {fix}")
    if os.geteuid() != 0 and not steps.dry_run:
        raise CommandError("cannot install: only root may install; run it with sudo")


def _install(steps: SetupSteps, files: InstalledFiles) -> None:
    program = _program()
    user.check_access(program)
    user.create(steps, files)
    files.write(CONFIGURATION, read_shipped("config.toml"), 0o640, user.group_id())
    files.write(UNIT, _render_unit(program))
    steps.run("systemctl", "daemon-reload")
    print(
        "next:",
        f"  {program} config check         after you have edited {CONFIGURATION}",
        f"  systemctl enable {SERVICE}      to start it with the host",
        f"  systemctl restart {SERVICE}     to start it now",
        f"  {program} status",
        sep="\n",
    )


def _uninstall(steps: SetupSteps, files: InstalledFiles) -> None:
    if UNIT.exists():
        steps.run("systemctl", "disable", "--now", SERVICE)
    for path in (UNIT, CONFIGURATION, user.SYSUSERS):
        files.remove(path)
    files.remove_record()
    steps.run("systemctl", "daemon-reload")
    if Path(user.HOME).exists() or user.exists():
        fix = f"rm -r {user.HOME}; userdel {user.USER}"
        steps.report(f"keep {user.HOME} and its user {user.USER}; to remove them: {fix}")


def _program() -> Path:
    """Return the ``mlopsd`` of this virtual environment.

    Raises:
        CommandError: There is none, or systemd would misread its path.
    """
    program = Path(sys.executable).parent / "mlopsd"
    if sys.prefix == sys.base_prefix or not program.exists():
        fix = "python3 -m venv /opt/mlopsd && /opt/mlopsd/bin/pip install 'mlopsd[all]'"
        raise CommandError(f"cannot install: {sys.prefix} is not a virtual environment with mlopsd; {fix}")
    if not PLAIN_PATH.fullmatch(str(program)):
        fix = "create the virtual environment at a path of only letters, digits and . _ + -"
        raise CommandError(f"cannot install: systemd would misread the path {str(program)!r}; {fix}")
    return program


def _render_unit(program: Path) -> bytes:
    """Return the shipped unit with the path of *program*."""
    return read_shipped(SERVICE).replace(SHIPPED_PROGRAM.encode(), str(program).encode())
