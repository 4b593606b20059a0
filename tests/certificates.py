"""Certificates made for a test, and clients that trust them."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    cert: Path
    key: Path


class Authority:
    """An authority with its own certificate in *file*."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._authority = trustme.CA(organization_name=name)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *hosts: str, days: int = 365) -> Pair:
        """A certificate for *hosts* in the files of *name*, which are replaced if they are there."""
        end = datetime.now(UTC) + timedelta(days=days)
        issued = self._authority.issue_cert(*(hosts or ("127.0.0.1", "localhost")), not_after=end)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(pair.key))
        return pair

    def trust(self, own: Pair | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority and shows *own*."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own is not None:
            context.load_cert_chain(own.cert, own.key)
        return context
