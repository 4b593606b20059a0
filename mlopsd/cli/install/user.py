"""The system user that the service runs as, and whether it can reach what it is to run."""

import grp
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlopsd
from mlopsd.cli.errors import CommandError
from mlopsd.cli.install.files import InstalledFiles
from mlopsd.cli.install.steps import SetupSteps

USER = "mlopsd"
VIDEO = "video"
HOME = "/var/lib/mlopsd"
SYSUSERS = Path("/etc/sysusers.d/mlopsd.conf")
DECLARATION = f"""\
# the user of mlopsd.service; {VIDEO} is the group that GPU device files may have
u {USER} - "mlopsd health daemon" {HOME}
m {USER} {VIDEO}
"""


def make(steps: SetupSteps, placed: InstalledFiles) -> None:
    """Have the system make the user, if there is none.

    Raises:
        Failure: it cannot.
    """
    if shutil.which("systemd-sysusers"):
        placed.put(SYSUSERS, DECLARATION.encode("ascii"))
        steps.command("systemd-sysusers", str(SYSUSERS))
    elif not exists():
        steps.command("useradd", *_declared(), USER)


def _declared() -> Sequence[str]:
    """What `DECLARATION` says, as options of useradd."""
    groups = ("--groups", VIDEO) if _number(VIDEO) is not None else ()
    shell = "/usr/sbin/nologin"
    return ("--system", "--user-group", *groups, "--home-dir", HOME, "--shell", shell)


def exists() -> bool:
    """Whether the user is there."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def group() -> int:
    """The number of its group; root's where it is not made yet."""
    return _number(USER) or 0


def _number(of_group: str) -> int | None:
    try:
        return grp.getgrnam(of_group).gr_gid
    except KeyError:
        return None


def check_reach(program: Path) -> None:
    """Make sure that any user can run *program*, its interpreter and this package.

    Raises:
        Failure: a folder on the way is closed to others.
    """
    for target in (program, Path(sys.executable).resolve(), Path(mlopsd.__file__)):
        for folder in _closed(target):
            cure = f"chmod o+x {folder}, or make the virtual environment below /opt"
            raise CommandError(
                f"cannot install: the service's user may not enter {folder} ({target}); {cure}"
            )


def _closed(path: Path) -> Iterator[Path]:
    return (folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH)
