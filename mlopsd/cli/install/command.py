"""``mlopsd install``: install or remove the service, its user and its configuration."""

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.cli.install import gpus, user
from mlopsd.cli.install.files import InstalledFiles, SetupSteps, make_folder, read_shipped
from mlopsd.cli.systemctl import SERVICE, has_systemd
from mlopsd.format import format_count

UNIT = Path("/etc/systemd/system") / SERVICE
CONFIGURATION = Path("/etc/mlopsd/config.toml")
RECORD = Path("/etc/mlopsd/.installed.json")
LINK = Path("/usr/local/bin/mlopsd")
SHARE = Path("/usr/local/share")
SHELL_FILES = {  # by the name beside this module; each folder is in the shell's own path
    "mlopsd.bash": SHARE / "bash-completion/completions/mlopsd",
    "_mlopsd": SHARE / "zsh/site-functions/_mlopsd",
    "mlopsd.fish": SHARE / "fish/vendor_completions.d/mlopsd.fish",
    "mlopsd.1": SHARE / "man/man1/mlopsd.1",
}
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
    if not has_systemd():
        fix = "start 'mlopsd run' with this host's service manager"
        raise CommandError(f"cannot install: this host does not run systemd; {fix}")
    if os.geteuid() != 0 and not steps.dry_run:
        raise CommandError("cannot install: only root may install; run it with sudo")


def _install(steps: SetupSteps, files: InstalledFiles) -> None:
    program = _program()
    user.check_access(program)
    user.create(steps, files)
    files.write(CONFIGURATION, _configuration(), 0o640, user.group_id())
    files.write(UNIT, _render_unit(program))
    for name, path in SHELL_FILES.items():
        files.write(path, (Path(__file__).parent / "shell" / name).read_bytes())
    _link(steps, program)
    steps.run("systemctl", "daemon-reload")
    print(
        "next:",
        f"  {program} config check         after you have edited {CONFIGURATION}",
        f"  systemctl enable {SERVICE}      to start it with the host",
        f"  systemctl restart {SERVICE}     to start it now",
        f"  {program} status",
        sep="\n",
    )


def _configuration() -> bytes:
    """Return the shipped configuration, which watches the GPUs of this host if it has any."""
    shipped, count = read_shipped("config.toml"), gpus.count_gpus()
    if count == 0:
        return shipped
    found = f"this host has {format_count(count, 'NVIDIA GPU')}"
    if gpus.has_library():
        print(f"{found}: a new {CONFIGURATION} watches them by [probes.gpu]")
        return gpus.with_gpu_probe(shipped)
    print(f"{found}, and nothing watches them: install 'mlopsd[gpu]' here, and add [probes.gpu]")
    return shipped


def _link(steps: SetupSteps, program: Path) -> None:
    """Put *program* on everybody's PATH, unless somebody else has a file there."""
    if LINK.is_symlink() and LINK.readlink() == program:
        return
    if LINK.exists() and not _is_ours(LINK):
        steps.report(f"keep {LINK}: it is not of an installation of mlopsd")
        return
    steps.do(f"link {LINK} to {program}", lambda: _replace_link(program))


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and link.readlink().parts[-2:] == ("bin", "mlopsd")


def _replace_link(program: Path) -> None:
    make_folder(LINK.parent)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(program)


def _uninstall(steps: SetupSteps, files: InstalledFiles) -> None:
    if UNIT.exists():
        steps.run("systemctl", "disable", "--now", SERVICE)
    for path in (UNIT, CONFIGURATION, user.SYSUSERS, *SHELL_FILES.values()):
        files.remove(path)
    files.remove_record()
    if _is_ours(LINK):
        steps.do(f"remove {LINK}", LINK.unlink)
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
