"""TLS of the TCP listeners: a context from files, which later connections may get renewed."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from mlopsd.safe_file import read_start
from mlopsd.web.server.listener import ListenError

if TYPE_CHECKING:
    from pathlib import Path

    from mlopsd.config.schema import Api

MOST_BYTES = 4_000_000  # of a file; the bundle of all public authorities has 250 KB


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a server's certificate, of its key, and of its clients' authorities."""

    cert: Path
    key: Path | None
    client_ca: Path | None

    @classmethod
    def of(cls, api: Api) -> TlsFiles | None:
        """Return the files in *api*, or None without TLS."""
        return None if api.tls_cert is None else cls(api.tls_cert, api.tls_key, api.client_ca)

    def read(self) -> Sequence[bytes]:
        """Return the content of each file.

        Raises:
            ListenError: A file cannot be read.
        """
        contents = []
        for path in (self.cert, self.key, self.client_ca):
            if path is not None:
                try:
                    contents.append(read_start(path, MOST_BYTES))
                except OSError as error:
                    fix = "let the daemon's user read it, or name another file"
                    raise ListenError(f"cannot use TLS: {path}: {error.strerror}; {fix}") from error
        return contents

    def make_context(self) -> ServerContext:
        """Return a context for a server with these files.

        Raises:
            ListenError: They are no certificate with its key, or no authority.
        """
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.contents = self.read()  # names the file that cannot be read, and never waits for a FIFO
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.cert, self.key, password="")  # else OpenSSL asks at the terminal
        except (OSError, ValueError) as error:
            fix = "write a certificate chain and its key without a password, both in PEM"
            raise ListenError(
                f"cannot use TLS: {self.cert} and {self.key or 'the key in it'}: {_reason(error)}; {fix}"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                fix = "write the certificates of the authorities in PEM"
                raise ListenError(f"cannot use TLS: {self.client_ca}: {_reason(error)}; {fix}") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class ServerContext(ssl.SSLContext):
    """A context of a server, with the *contents* of the files that it is made from."""

    contents: Sequence[bytes]


class RenewableContext(ssl.SSLContext):
    """The context of a listener. Each new connection takes *current*, so that a renewal cuts no other.

    A context with a new certificate would be half changed if its key did not fit.
    """

    current: ServerContext

    @classmethod
    def around(cls, current: ServerContext) -> RenewableContext:
        """Return one that begins with *current*."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.current = current
        return context

    @override
    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection with *current*."""
        return self.current.wrap_bio(*args, **kwargs)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM").lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
