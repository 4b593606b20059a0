"""A version of a registered model as one registry names it, and its files."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Version:
    """A version that a candidate of a registry led to.

    Attributes:
        number: MLflow's version, a small whole number as text.
        candidate: the candidate that named it (``@champion``).
        candidate_rank: the place of *candidate* in the configuration, from 0.
        registry: the registry's URI without credentials.
        registry_rank: the registry's place in the configuration, from 0.
        source: MLflow's ``source``: ``runs:/…``, ``models:/m-…``, a path.
        run_id: the run that it came from, if any.
        created: MLflow's ``creation_timestamp``, milliseconds since 1970; tells a version that was
            deleted and registered again from the one before.
    """

    number: str
    candidate: str
    registry: str
    source: str
    run_id: str | None = None
    created: int = 0
    candidate_rank: int = 0
    registry_rank: int = 0

    @property
    def id(self) -> str:
        """Tells versions apart for ever, whichever candidate led to them."""
        parts = "\0".join((self.registry, self.number, self.source, self.run_id or "", str(self.created)))
        return f"{self.number}-{hashlib.blake2b(parts.encode(), digest_size=6).hexdigest()}"

    @property
    def rank(self) -> tuple[int, int]:
        """Its place among all that the configuration names; what is less is named before it."""
        return self.registry_rank, self.candidate_rank

    @property
    def is_fallback(self) -> bool:
        """True if it is anything but the first candidate of the first registry."""
        return self.rank > (0, 0)

    def facts(self) -> dict[str, str]:
        """As a reading shows it."""
        return {"version": self.number, "candidate": self.candidate, "registry": self.registry}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a version; *path* is relative, *sha256* hexadecimal."""

    path: str
    size: int
    sha256: str
