"""The files of a version that another version on this disk has: they are linked, and not fetched.

A store names the content of a file by a digest. A cached file counts only if its own bytes give that digest.
A store whose digest means something else therefore costs a transfer, and never a wrong file.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlopsd_probes.registry.version import File

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK = 1024 * 1024
LEAST = 256 * 1024  # bytes; to ask for the digest of a smaller file costs as much as to fetch it


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """A store's digest of the content of a file, hexadecimal.

    Attributes:
        algorithm: ``md5`` may be an MD5 of the MD5s of parts, with their number, as S3 writes it.
        part: bytes of each part; None if the file is not in parts.
    """

    algorithm: Literal["md5", "sha256"]
    value: str
    part: int | None = None


class CachedFiles:
    """The *files* of cached versions, with absolute paths."""

    def __init__(self, files: Iterable[File]) -> None:
        self._by_size: defaultdict[int, list[File]] = defaultdict(list)
        for file in files:
            self._by_size[file.size].append(file)

    def may_have(self, size: int | None) -> bool:
        """Return whether a file of *size* bytes is worth a question."""
        return size is not None and size >= LEAST and size in self._by_size

    def link(
        self, target: Path, size: int, digest: ContentDigest, on_read: Callable[[int], None]
    ) -> str | None:
        """Make *target* a link to the file of *size* bytes with *digest*; return its SHA-256.

        Without such a file return None, and leave nothing there. *on_read* is called with the bytes of each
        step of the comparison.
        """
        for file in self._by_size[size]:
            if digest.algorithm == "sha256" and digest.value != file.sha256:
                continue
            try:
                target.hardlink_to(file.path)
            except OSError:  # it is gone, or the file system cannot link
                continue
            if _has(target, size, digest, file.sha256, on_read):
                return file.sha256
            target.unlink()
        return None


def _has(path: Path, size: int, digest: ContentDigest, sha256: str, on_read: Callable[[int], None]) -> bool:
    """Return whether the content of *path* has both *digest* and *sha256*."""
    whole, parts = hashlib.sha256(), _Parts(digest.part or size)
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(min(CHUNK, parts.left)):
            whole.update(chunk)
            if digest.algorithm == "md5":
                parts.update(chunk)
            on_read(len(chunk))
    if whole.hexdigest() != sha256:
        return False
    return digest.algorithm == "sha256" or digest.value == parts.as_s3_has_it(is_one=digest.part is None)


class _Parts:
    """The MD5 of each part of a file, *size* bytes long."""

    def __init__(self, size: int) -> None:
        self._size = self.left = size
        self._parts: list[_Hash] = []

    def update(self, chunk: bytes) -> None:
        """Add *chunk*, which must not exceed `left`."""
        if self.left == self._size:
            self._parts.append(hashlib.md5(usedforsecurity=False))
        self._parts[-1].update(chunk)
        self.left = self.left - len(chunk) or self._size

    def as_s3_has_it(self, *, is_one: bool) -> str:
        if is_one:
            return self._parts[0].hexdigest()
        joined = b"".join(part.digest() for part in self._parts)
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self._parts)}"
