"""A version of a registered model as a registry names it, and its files."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Version:
    """A version that a candidate of a registry leads to.

    Attributes:
        number: MLflow's version, a small whole number as text.
        candidate: the candidate that named it (``@champion``).
        candidate_rank: the index of *candidate* in the configuration.
        registry: the registry's URI without credentials.
        registry_rank: the index of the registry in the configuration.
        tagged_digest: the value of the tag of ``digest_tag``, "" without the tag; None if no registry was
            asked for it since the start.
        source: MLflow's ``source``: ``runs:/…``, ``models:/m-…``, a path.
        run_id: the run that it came from, if any.
        created: MLflow's ``creation_timestamp``, milliseconds since 1970; it distinguishes a version that
            was deleted and registered again.
    """

    number: str
    candidate: str
    registry: str
    source: str
    run_id: str | None = None
    created: int = 0
    candidate_rank: int = 0
    registry_rank: int = 0
    tagged_digest: str | None = None

    @property
    def id(self) -> str:
        """The id of the version, unique for ever and the same for each candidate."""
        parts = "\0".join((self.registry, self.number, self.source, self.run_id or "", str(self.created)))
        return f"{self.number}-{hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()}"

    @property
    def rank(self) -> tuple[int, int]:
        """The place in the order of the configuration; the least comes first."""
        return self.registry_rank, self.candidate_rank

    @property
    def is_fallback(self) -> bool:
        """True unless it is the first candidate of the first registry."""
        return self.rank > (0, 0)

    def facts(self) -> dict[str, str]:
        """Return the version as a reading shows it."""
        return {"version": self.number, "candidate": self.candidate, "registry": self.registry}


@dataclass(frozen=True, slots=True)
class LoggedMetric:
    """The last value of a metric of a version.

    Attributes:
        value: the value; infinite or NaN if it was logged so.
        source: ``run …`` or ``logged model m-…``.
        logged_at: when it was logged, in UTC; None if that is no date, as of a time in microseconds.
    """

    value: float
    source: str
    logged_at: datetime | None


@dataclass(frozen=True, slots=True)
class File:
    """A file of a version; *path* is relative, *sha256* hexadecimal."""

    path: str
    size: int
    sha256: str


def digest_of(files: Iterable[File]) -> str:
    """Return the digest of a version that has *files*: SHA-256, hexadecimal.

    It is taken over one line for each file, ``SHA256 SIZE PATH`` and a line feed, in the order of the paths'
    bytes. No path has a line feed: a download rejects control characters.
    """
    found = hashlib.sha256()
    for path, file in sorted(((os.fsencode(file.path), file) for file in files), key=lambda one: one[0]):
        found.update(b"%s %d %s\n" % (file.sha256.encode(), file.size, path))
    return found.hexdigest()
