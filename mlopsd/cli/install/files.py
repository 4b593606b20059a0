"""Files that were put on a host, with a record of what they were: what somebody changed is left alone."""

import json
import os
from hashlib import sha256
from pathlib import Path

from mlopsd.cli.errors import CommandError
from mlopsd.cli.install.steps import SetupSteps


class InstalledFiles:
    """Puts files in place and takes them away again; *record* keeps the digest of each as it was put."""

    def __init__(self, record: Path, steps: SetupSteps) -> None:
        self._record = record
        self._steps = steps
        self._digests = _read(record)

    def put(self, path: Path, content: bytes, mode: int = 0o644, group: int = 0) -> None:
        """Write *content* to *path*, or beside it as ``.new`` where the file there is somebody's own work."""
        aside = path.with_name(f"{path.name}.new")
        if not self._may_read(path, aside):
            return
        if _digest(path) == _digest_of(content):
            self._note(path, content)
            self._remove_unchanged(aside)
        elif not path.exists() or self._is_unchanged(path):
            self._steps.take(f"write {path}", lambda: _write(path, content, mode, group))
            self._note(path, content)
            self._remove_unchanged(aside)
        elif _digest(aside) != _digest_of(content):
            what = f"write {aside}, and keep {path} as it is: it was changed; merge by hand what is new"
            self._steps.take(what, lambda: _write(aside, content, mode, group))
            self._note(aside, content)

    def remove(self, path: Path) -> None:
        """Remove *path* if it is as it was put; keep it where it was changed."""
        aside = path.with_name(f"{path.name}.new")
        if not self._may_read(path, aside):
            return
        self._remove_unchanged(aside)
        if self._is_unchanged(path):
            self._remove_unchanged(path)
        elif path.exists():
            self._steps.tell(f"keep {path}: it was changed")

    def forget(self) -> None:
        """Remove the record, and its folder if nothing else is in it."""
        if self._record.exists():
            self._steps.take(f"remove {self._record}", self._record.unlink)
        folder = self._record.parent
        if folder.exists() and not self._others(folder):
            self._steps.take(f"remove {folder}", folder.rmdir)

    def _others(self, folder: Path) -> bool:
        """Whether *folder* holds more than the record and, in a dry run, what would be gone."""
        return any(path != self._record and not self._would_be_gone(path) for path in folder.iterdir())

    def _would_be_gone(self, path: Path) -> bool:
        return not _refusal(path) and self._is_unchanged(path)

    def _may_read(self, *paths: Path) -> bool:
        """Whether it can be told what stands at *paths*; a dry run says where it cannot, and goes on.

        Raises:
            Failure: it cannot, and this is no dry run.
        """
        for path in paths:
            if refusal := _refusal(path):
                if not self._steps.dry_run:
                    raise CommandError(f"cannot read {path}: {refusal}; correct that and run it again")
                self._steps.tell(f"look into {path} first: this user cannot ({refusal}); ask with sudo")
                return False
        return True

    def _is_unchanged(self, path: Path) -> bool:
        return path.exists() and self._digests.get(str(path)) == _digest(path)

    def _remove_unchanged(self, path: Path) -> None:
        if self._is_unchanged(path):
            self._steps.take(f"remove {path}", path.unlink)

    def _note(self, path: Path, content: bytes) -> None:
        self._digests[str(path)] = _digest_of(content)
        if not self._steps.dry_run:
            text = json.dumps(self._digests, indent=2)
            _write(self._record, text.encode("ascii"), 0o644, 0)


def _read(record: Path) -> dict[str, str]:
    """The digests in *record*; none before the first installation.

    Raises:
        Failure: it cannot be read, or was cut.
    """
    try:
        digests: dict[str, str] = json.loads(record.read_text("ascii"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not what was written"
        cure = "become root, or remove it: files that differ then count as changed, and stay"
        raise CommandError(f"cannot read {record}: {cause}; {cure}") from error
    return digests


def _refusal(path: Path) -> str | None:
    """Why the file at *path* cannot be read; None if it can, or is not there."""
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


def _write(path: Path, content: bytes, mode: int, group: int) -> None:
    """The whole of *content*, or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
