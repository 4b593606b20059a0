"""The files with a registry's credentials and certificates, read again for each request."""

import os
from pathlib import Path

from mlopsd_probes.registry.fault import Fault


def first_line(path: str) -> str:
    """Return the first line of *path*, which holds a secret.

    Raises:
        Fault: ``auth``: the file cannot be read, or its first line is empty.
    """
    lines = _text(path).splitlines()
    if not lines or not lines[0].strip():
        raise Fault("auth", f"the first line of {path} is empty; write the secret there")
    return lines[0].strip()


def token(path: str) -> str:
    """Return the bearer token in the first line of *path*.

    Raises:
        Fault: ``auth``: the file cannot be read, or its first line is no token.
    """
    found = first_line(path)
    if not (found.isascii() and found.isprintable()):
        text = f"the first line of {path} has characters that no token has"
        raise Fault("auth", f"{text}; write the token there alone")
    return found


class ClientCertificate:
    """A client's certificate with its key in one file, as MLflow takes it, which is in memory only."""

    def __init__(self, certificate: str, key: str | None) -> None:
        self._certificate = certificate
        self._key = key
        self._memory = os.memfd_create("client certificate")
        self._written = ""

    def path(self) -> str:
        """Return a path with the present content of both files.

        Raises:
            Fault: ``auth``: a file cannot be read.
        """
        content = "\n".join(_text(file) for file in (self._certificate, self._key) if file)
        if content != self._written:
            os.ftruncate(self._memory, 0)
            os.pwrite(self._memory, content.encode(), 0)
            self._written = content
        return f"/proc/self/fd/{self._memory}"


def require_readable(path: str) -> str:
    """Return *path*.

    Raises:
        Fault: ``auth``: the file cannot be read.
    """
    _text(path)
    return path


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8-sig")  # an editor may mark the encoding
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "it is not text"
        raise Fault("auth", f"cannot read {path}: {cause}; make it readable for the daemon's user") from error
