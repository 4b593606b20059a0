"""Finds the running daemon: where the user says, else its Unix socket, else its port on this host."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mlopsd.cli.failure import Failure
from mlopsd.cli.running import Answer, NoAnswer, Running

SERVICE_SOCKET = Path("/run/mlopsd/mlopsd.sock")
DEFAULT_ADDRESS = "http://127.0.0.1:9178"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


def add_arguments(parser: ArgumentParser) -> None:
    """The options that name a daemon elsewhere."""
    parser.add_argument("--url", metavar="URL", help="ask the daemon at this address (http://host:9178)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the file that holds its API key")


def find(arguments: Namespace) -> tuple[Running, Answer]:
    """The first daemon that answers where *arguments* say, and its detailed health.

    Raises:
        Failure: none answers.
    """
    refusals = []
    for running in _candidates(arguments):
        try:
            return running, health(running)
        except NoAnswer as silence:
            refusals.append(str(silence))
    cure = "is the address right?" if arguments.url else "is it running? systemctl status mlopsd"
    raise Failure(f"cannot ask the daemon: {'; '.join(refusals)}; {cure}")


def health(running: Running) -> Answer:
    """The detailed health, from a daemon that is mlopsd.

    Raises:
        NoAnswer: there is none, or it is another program's.
    """
    answer = running.get("/health/detailed")
    if not isinstance(answer.body.get("probes"), dict) or "status" not in answer.body:
        raise NoAnswer(f"{running.address}: {answer.detail}, which is not mlopsd's answer")
    return answer


def _candidates(arguments: Namespace) -> Iterator[Running]:
    key = _key(arguments.key_file)
    if arguments.url:
        yield Running(_checked(arguments.url), key)
        return
    asked = set()
    for path in _sockets(os.environ):
        if path not in asked and os.path.lexists(path):
            asked.add(path)
            yield Running(f"unix:{path}")
    yield Running(_configured_address(), key)


def _sockets(variables: Mapping[str, str]) -> Iterator[Path]:
    """The service's socket, unless the environment speaks of a daemon of its own; then the configured one."""
    if not any(name.startswith("MLOPSD_") for name in variables):
        yield SERVICE_SOCKET
    yield from _configured_socket()


def _configured_socket() -> Iterator[Path]:
    # pydantic takes 0.2 s to import: only where no other socket has answered
    from mlopsd.cli.configured import socket_path  # noqa: PLC0415

    yield socket_path()


def _configured_address() -> str:
    from mlopsd.cli.configured import listening_on  # noqa: PLC0415  # as above

    host, port = listening_on()
    host = ANY_HOST.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _checked(url: str) -> str:
    """*url*, if it can be asked.

    Raises:
        Failure: it is no http or https address.
    """
    cure = f"write it like {DEFAULT_ADDRESS}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as error:
        raise Failure(f"cannot ask {url!r}: {error}; {cure}") from error
    if not usable:
        raise Failure(f"cannot ask {url!r}: it is no address of a web server; {cure}")
    return url


def _key(path: Path | None) -> str | None:
    """The API key in the file at *path*.

    Raises:
        Failure: it cannot be read, or is empty.
    """
    if path is None:
        return None
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Failure(f"cannot read the key file {path}: {reason}; name another") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise Failure(f"cannot use the key file {path}: it holds no key; write one a line")
    return keys[0]
