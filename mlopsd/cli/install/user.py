"""The system user of the service, and its access to the program."""

import grp
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlopsd
from mlopsd.cli.errors import CommandError
from mlopsd.cli.install.files import InstalledFiles, SetupSteps

USER = "mlopsd"
VIDEO = "video"
HOME = "/var/lib/mlopsd"
SYSUSERS = Path("/etc/sysusers.d/mlopsd.conf")
DECLARATION = f"""\
# the user of mlopsd.service; {VIDEO} is the group that GPU device files may have
u {USER} - "mlopsd health daemon" {HOME}
m {USER} {VIDEO}
"""


def create(steps: SetupSteps, files: InstalledFiles) -> None:
    """Create the user if it does not exist.

    Raises:
        CommandError: The user cannot be created.
    """
    if shutil.which("systemd-sysusers"):
        files.write(SYSUSERS, DECLARATION.encode("ascii"))
        steps.run("systemd-sysusers", str(SYSUSERS))
    elif not exists():
        steps.run("useradd", *_useradd_options(), USER)


def _useradd_options() -> Sequence[str]:
    """Return `DECLARATION` as options of useradd."""
    groups = ("--groups", VIDEO) if _group_id(VIDEO) is not None else ()
    shell = "/usr/sbin/nologin"
    return ("--system", "--user-group", *groups, "--home-dir", HOME, "--shell", shell)


def exists() -> bool:
    """Return whether the user exists."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def group_id() -> int:
    """Return the ID of the user's group, or root's before the user is created."""
    return _group_id(USER) or 0


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def check_access(program: Path) -> None:
    """Check that any user can run *program*, its interpreter and this package.

    Raises:
        CommandError: A folder on the way is closed to other users.
    """
    for target in (program, Path(sys.executable).resolve(), Path(mlopsd.__file__)):
        for folder in _closed_folders(target):
            fix = f"chmod o+x {folder}, or create the virtual environment below /opt"
            raise CommandError(f"cannot install: the service's user may not enter {folder} ({target}); {fix}")


def _closed_folders(path: Path) -> Iterator[Path]:
    return (folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH)
