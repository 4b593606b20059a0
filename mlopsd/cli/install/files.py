"""The installed files, with a record of their digests, so that changed files are kept."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import mlopsd
from mlopsd.cli.errors import CommandError

FOLDER_MODE = 0o755
COMMAND_SECONDS = 90.0  # the stop of a service may take that long


@dataclass(frozen=True, slots=True)
class SetupSteps:
    """The steps of an installation, which a dry run only prints."""

    dry_run: bool

    def do(self, what: str, act: Callable[[], object]) -> None:
        """Print *what* ("write /etc/x") and call *act*.

        Raises:
            CommandError: The system refused.
        """
        self.report(what)
        if self.dry_run:
            return
        try:
            act()
        except OSError as error:
            raise CommandError(f"cannot {what}: {error.strerror}; fix that and run it again") from error

    def run(self, *command: str) -> None:
        """Run a program of the system.

        Raises:
            CommandError: The program is missing, does not end, or failed.
        """
        what = f"run {' '.join(command)}"
        self.report(what)
        if self.dry_run:
            return
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"cannot {what}: {error}; fix that and run it again") from error
        if done.returncode:
            reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise CommandError(f"cannot {what}: {reason}; fix that and run it again")

    def report(self, what: str) -> None:
        """Print *what* is done, or would be done in a dry run."""
        print(f"would {what}" if self.dry_run else what)


class InstalledFiles:
    """The files of an installation. The file *record* has the digest of each as it was written."""

    def __init__(self, record: Path, steps: SetupSteps) -> None:
        self._record = record
        self._steps = steps
        self._digests = _read_record(record)

    def write(self, path: Path, content: bytes, mode: int = 0o644, group: int = 0) -> None:
        """Write *content* to *path*, or to ``.new`` beside it if the file at *path* was changed."""
        aside = path.with_name(f"{path.name}.new")
        if not self._may_read(path, aside):
            return
        if _digest(path) == _digest_of(content):
            self._record_digest(path, content)
            self._remove_unchanged(aside)
        elif not path.exists() or self._is_unchanged(path):
            self._steps.do(f"write {path}", lambda: _write(path, content, mode, group))
            self._record_digest(path, content)
            self._remove_unchanged(aside)
        elif _digest(aside) != _digest_of(content):
            what = f"write {aside}, and keep {path} as it is: it was changed; merge the new parts by hand"
            self._steps.do(what, lambda: _write(aside, content, mode, group))
            self._record_digest(aside, content)

    def remove(self, path: Path) -> None:
        """Remove *path*, unless it was changed."""
        aside = path.with_name(f"{path.name}.new")
        if not self._may_read(path, aside):
            return
        self._remove_unchanged(aside)
        if self._is_unchanged(path):
            self._remove_unchanged(path)
        elif path.exists():
            self._steps.report(f"keep {path}: it was changed")

    def remove_record(self) -> None:
        """Remove the record, and its folder if it is empty then."""
        if self._record.exists():
            self._steps.do(f"remove {self._record}", self._record.unlink)
        folder = self._record.parent
        if folder.exists() and not self._has_others(folder):
            self._steps.do(f"remove {folder}", folder.rmdir)

    def _has_others(self, folder: Path) -> bool:
        """Return whether *folder* has more than the record and, in a dry run, files to be removed."""
        return any(path != self._record and not self._would_be_removed(path) for path in folder.iterdir())

    def _would_be_removed(self, path: Path) -> bool:
        return not _read_error(path) and self._is_unchanged(path)

    def _may_read(self, *paths: Path) -> bool:
        """Return whether *paths* can be read. A dry run reports one that cannot.

        Raises:
            CommandError: One cannot be read, and this is not a dry run.
        """
        for path in paths:
            if reason := _read_error(path):
                if not self._steps.dry_run:
                    raise CommandError(f"cannot read {path}: {reason}; fix that and run it again")
                self._steps.report(f"read {path} first: this user cannot ({reason}); run it with sudo")
                return False
        return True

    def _is_unchanged(self, path: Path) -> bool:
        return path.exists() and self._digests.get(str(path)) == _digest(path)

    def _remove_unchanged(self, path: Path) -> None:
        if self._is_unchanged(path):
            self._steps.do(f"remove {path}", path.unlink)

    def _record_digest(self, path: Path, content: bytes) -> None:
        self._digests[str(path)] = _digest_of(content)
        if not self._steps.dry_run:
            text = json.dumps(self._digests, indent=2)
            _write(self._record, text.encode("ascii"), 0o644, 0)


def read_shipped(name: str) -> bytes:
    """Return the file *name* that is shipped with the code.

    A wheel has it below ``mlopsd/data``, a checkout at its root.

    Raises:
        CommandError: This installation lacks it.
    """
    package = Path(mlopsd.__file__).parent
    for folder in (package / "data", package.parent):
        path = folder / name
        if path.is_file():
            return path.read_bytes()
    raise CommandError(f"cannot find the shipped {name}: this installation lacks it; reinstall mlopsd")


def _read_record(record: Path) -> dict[str, str]:
    """Return the digests in *record*; none before the first installation.

    Raises:
        CommandError: The record cannot be read, or is damaged.
    """
    try:
        digests: dict[str, str] = json.loads(record.read_text("ascii"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is damaged"
        fix = "become root, or remove it: files that differ then count as changed and are kept"
        raise CommandError(f"cannot read {record}: {cause}; {fix}") from error
    return digests


def _read_error(path: Path) -> str | None:
    """Return why *path* cannot be read, or None if it can or does not exist."""
    try:
        with path.open("rb"):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror


def _digest(path: Path) -> str | None:
    return _digest_of(path.read_bytes()) if path.exists() else None


def _digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def make_folder(path: Path) -> None:
    """Create *path* and the missing folders above it, open to every user whatever the umask is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER_MODE)


def _write(path: Path, content: bytes, mode: int, group: int) -> None:
    """Replace *path* by *content* atomically."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor has no path
        file.write(content)
        os.fchown(descriptor, 0, group)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
