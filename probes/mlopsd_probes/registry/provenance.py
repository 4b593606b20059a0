"""The evidence that the files of a version are those that were registered: the digest in one of its tags."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlopsd_probes.registry.fault import Fault, printable
from mlopsd_probes.registry.version import File, digest_of

DIGEST_TAG = "mlopsd.sha256"
SHOWN = 12  # characters of a digest


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that a download checks.

    Attributes:
        tag: the tag with the digest; None to check none.
        tagged: the value of the tag.
    """

    tag: str | None = None
    tagged: str = ""

    def fault(self, files: Iterable[File]) -> Fault | None:
        """Return the fault of a version with *files*, or None if they are the registered ones."""
        reason = None if self.tag is None else digest_fault(self.tag, self.tagged, digest_of(files))
        return None if reason is None else Fault("altered", reason)


def digest_fault(tag: str, tagged: str, digest: str) -> str | None:
    """Return a sentence if *digest*, that of a version's files, is not *tagged*, the value of its *tag*."""
    tagged = printable(tagged).lower()
    if tagged == digest:
        return None
    fix = "register the right files as a new version, or correct the tag if it is wrong"
    return f"its files have the digest {_short(digest)}, and its tag {tag} has {_short(tagged)}; {fix}"


def changing(first: str, then: str) -> Fault:
    """Return the fault of a store that gave files with the digest *first*, and then others."""
    text = f"its files have the digest {_short(first)} and then {_short(then)}"
    return Fault("bad_response", f"{text}; the store of files is changing")


def _short(digest: str) -> str:
    return digest if len(digest) <= SHOWN else f"{digest[:SHOWN]}…"
