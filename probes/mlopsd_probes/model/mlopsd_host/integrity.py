"""A comparison of a version's files on disk with the list of fetched files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from .load_error import LoadError

CHUNK = 1024 * 1024

THREADS = 4  # hashing releases Python's lock

# path, size in bytes, sha256 in hexadecimal; None if the content was compared before
Listed = Sequence["tuple[str, int, str | None]"]


def verify(folder: Path, listed: Listed) -> None:
    """Compare *folder* with the *listed* files.

    Raises:
        LoadError: ``corrupt``, with the first file that is missing, unexpected or different.
    """
    there = set(_files(folder))
    wanted = {path for path, _, _ in listed}
    if missing := sorted(wanted - there):
        raise LoadError("corrupt", f"{_named(missing)} is missing on disk")
    if extra := sorted(there - wanted):
        raise LoadError("corrupt", f"{_named(extra)} is on disk and was never fetched")
    with ThreadPoolExecutor(THREADS) as pool:
        comparing = [
            pool.submit(_compare, folder / path, path, size, digest) for path, size, digest in listed
        ]
        try:
            for one in comparing:
                one.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compare(file: Path, path: str, size: int, digest: str | None) -> None:
    try:
        found = file.stat().st_size
        if found != size:
            raise LoadError("corrupt", f"the file {path} has {found} bytes on disk, {size} were fetched")
        if digest is not None and _digest(file) != digest:
            raise LoadError(
                "corrupt", f"the file {path} on disk is not what was fetched (its SHA-256 differs)"
            )
    except OSError as error:
        raise LoadError("corrupt", f"the file {path} cannot be read from disk: {error.strerror}") from error


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """Yield all files, and links also to folders; without recursion, since a registry may nest deeply."""
    pending = [str(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:  # its files then count as missing
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield str(Path(entry.path).relative_to(folder))


def _named(paths: list[str]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return f"the file {paths[0]}{more}"
