"""The archive: written to the end, then given its name, readable by its owner alone."""

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mlopsd.cli.errors import CommandError

MODE = 0o600


def write_archive(target: Path, folder: str, files: Mapping[str, bytes], moment: float) -> int:
    """Write *files* below *folder* to *target*, and return the size in bytes.

    Raises:
        CommandError: *target* exists, or cannot be written. Nothing is left then.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".mlopsd-bundle-", dir=target.parent)  # with MODE
    except OSError as error:
        raise _failure(target, error) from error
    writing = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write_to(stream, folder, files, moment)
        os.link(writing, target)  # which replaces nothing
        return target.stat().st_size
    except OSError as error:
        raise _failure(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            writing.unlink()


def write_to(stream: IO[bytes], folder: str, files: Mapping[str, bytes], moment: float) -> None:
    """Write *files* below *folder* to *stream*, as of *moment* (Unix time)."""
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size, entry.mode, entry.mtime = len(content), MODE, int(moment)
            archive.addfile(entry, io.BytesIO(content))


def _failure(target: Path, error: OSError) -> CommandError:
    fix = "remove it, or name another with --output" if isinstance(error, FileExistsError) else "use --output"
    return CommandError(f"cannot write {target}: {error.strerror}; {fix}")
