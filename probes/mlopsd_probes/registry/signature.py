"""The OpenSSF signature of a version's files; runs in the registry's process.

The package model-signing verifies the signature with the key, and yields the signed hashes. They are compared
with those of the download, so no file is read again.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlopsd_probes.registry.fault import Fault, first_line
from mlopsd_probes.registry.version import File

SERIALIZATION = {"method": "files", "hash_type": "sha256"}
NEW_KEY = "write one with: openssl ec -in signer.pem -pubout"
AGAIN = "sign the right files and register them as a new version"


class SignatureCheck:
    """The check of a signature in the file *name* of a version, with the key in the file *public_key*.

    Raises:
        Fault: ``public_key``: the key cannot be used.
        ImportError: model-signing is not installed.
        OSError, MemoryError: this host cannot read the signature, which proves nothing.
    """

    def __init__(self, public_key: str, name: str) -> None:
        self._public_key = public_key
        self._name = name
        self._verifier = _verifier(public_key)

    def fault(self, folder: Path, files: Iterable[File]) -> Fault | None:
        """Return the fault of a version whose *files* are in *folder*; None if they are the signed ones."""
        found = {file.path: file.sha256 for file in files}
        if found.pop(self._name, None) is None:
            return unsigned(self._name)
        try:
            manifest = self._manifest(folder / self._name)
        except (ImportError, OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # the library raises anything for a file that is no signature
            return Fault("altered", self._not_by_the_key(error))
        if not manifest.serialization_type.items() >= SERIALIZATION.items():
            text = f"its signature {self._name} does not hash whole files by SHA-256"
            return Fault("unsigned", f"{text}; sign it with the defaults of model-signing")
        signed = {one.identifier: one.digest.digest_hex for one in manifest.resource_descriptors()}
        reasons = list(_differences(found, signed))
        return Fault("altered", f"{_first(reasons)}; {AGAIN}") if reasons else None

    def _manifest(self, path: Path) -> Any:
        from model_signing._signing import sign_sigstore_pb  # noqa: PLC0415  # imported in this process only

        return self._verifier.verify(sign_sigstore_pb.Signature.read(path))

    def _not_by_the_key(self, error: Exception) -> str:
        said = first_line(str(error)).rstrip(". ") or type(error).__name__
        return f"its signature {self._name} is not by the key in {self._public_key} ({said}); {AGAIN}"


def unsigned(name: str) -> Fault:
    """Return the fault of a version without a file *name*."""
    text = f"it has no signature {name} among its files"
    return Fault("unsigned", f"{text}; sign its files, and log the signature with them")


def _verifier(public_key: str) -> Any:
    from model_signing._signing import sign_ec_key  # noqa: PLC0415  # imported in this process only

    try:
        return sign_ec_key.Verifier(Path(public_key))
    except OSError as error:
        fix = "make it readable for the daemon's user"
        raise Fault("public_key", f"cannot read {public_key}: {error.strerror}; {fix}") from error
    except Exception as error:  # the library raises anything for a file that is no such key
        text = f"{public_key} is no public key of the curves P-256, P-384 or P-521 in PEM"
        raise Fault("public_key", f"{text}; {NEW_KEY}") from error


def _differences(found: Mapping[str, str], signed: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each file that is *found* or *signed* and not the same in both."""
    for path in sorted({*found, *signed}):
        if path not in signed:
            yield f"the file {path} is not covered by its signature"
        elif path not in found:
            yield f"the file {path} was signed and is missing"
        elif found[path] != signed[path]:
            yield f"the file {path} is not the one that was signed"


def _first(reasons: list[str]) -> str:
    more = len(reasons) - 1
    return reasons[0] if not more else f"{reasons[0]}, and {more} more"
