"""The system user that the service runs as, and whether it can reach what it is to run."""

import grp
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import mlopsd
from mlopsd.cli.failure import Failure
from mlopsd.cli.placed import Placed
from mlopsd.cli.steps import Steps

USER = "mlopsd"
HOME = "/var/lib/mlopsd"
SYSUSERS = Path("/etc/sysusers.d/mlopsd.conf")
DECLARATION = f"""\
# the user of mlopsd.service; video is the group that GPU device files may have
u {USER} - "mlopsd health daemon" {HOME}
m {USER} video
"""


def make(steps: Steps, placed: Placed) -> None:
    """Have the system make the user, if there is none.

    Raises:
        Failure: it cannot.
    """
    if shutil.which("systemd-sysusers"):
        placed.put(SYSUSERS, DECLARATION.encode("ascii"))
        steps.command("systemd-sysusers", str(SYSUSERS))
    elif not exists():
        shell = "/usr/sbin/nologin"
        steps.command("useradd", "--system", "--user-group", "--home-dir", HOME, "--shell", shell, USER)


def exists() -> bool:
    """Whether the user is there."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def group() -> int:
    """The number of its group; root's where it is not made yet."""
    try:
        return grp.getgrnam(USER).gr_gid
    except KeyError:
        return 0


def check_reach(program: Path) -> None:
    """Make sure that any user can run *program*, its interpreter and this package.

    Raises:
        Failure: a folder on the way is closed to others.
    """
    for target in (program, Path(sys.executable).resolve(), Path(mlopsd.__file__)):
        for folder in _closed(target):
            cure = f"chmod o+x {folder}, or make the virtual environment below /opt"
            raise Failure(f"cannot install: the service's user may not enter {folder} ({target}); {cure}")


def _closed(path: Path) -> Iterator[Path]:
    return (folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH)
