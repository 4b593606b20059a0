"""The evidence that the files of a version are the registered ones: a digest in a tag, and a signature."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlopsd_probes.registry.fault import Fault, printable
from mlopsd_probes.registry.signature import SignatureCheck, unsigned
from mlopsd_probes.registry.version import File, digest_of

DIGEST_TAG = "mlopsd.sha256"
SHOWN = 12  # characters of a digest


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that a download checks.

    Attributes:
        tag: the tag with the digest; None to check none.
        tagged: the value of the tag.
        public_key: the file with the key of the signer; None to check no signature.
        signature: the path of the signature among the files.
    """

    tag: str | None = None
    tagged: str = ""
    public_key: str | None = None
    signature: str = ""

    def precheck(self, paths: Iterable[str]) -> Fault | None:
        """Return the fault of a version with files at *paths*, before any of them is fetched.

        Raises:
            Fault: ``public_key``: the key cannot be used.
            ImportError: model-signing is not installed.
        """
        if self.public_key is None:
            return None
        SignatureCheck(self.public_key, self.signature)
        return None if self.signature in paths else unsigned(self.signature)

    def fault(self, folder: Path, files: Sequence[File]) -> Fault | None:
        """Return the fault of a version whose *files* are in *folder*; None if they are the registered ones.

        Raises:
            Fault: ``public_key``: the key cannot be used.
            ImportError: model-signing is not installed.
        """
        reason = None if self.tag is None else digest_fault(self.tag, self.tagged, digest_of(files))
        if reason is not None:
            return Fault("altered", reason)
        if self.public_key is None:
            return None
        return SignatureCheck(self.public_key, self.signature).fault(folder, files)


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
