"""Finds the running daemon: where the user says, else its Unix socket, else its port on this host."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from mlopsd.cli.client.client import DaemonClient, DaemonResponse, DaemonUnreachable
from mlopsd.cli.errors import CommandError, complain

SERVICE_SOCKET = Path("/run/mlopsd/mlopsd.sock")
DEFAULT_ADDRESS = "http://127.0.0.1:9178"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


def add_arguments(parser: ArgumentParser) -> None:
    """The options that name a daemon elsewhere."""
    parser.add_argument("--url", metavar="URL", help="ask the daemon at this address (http://host:9178)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the file that holds its API key")


def find(arguments: Namespace) -> tuple[DaemonClient, DaemonResponse]:
    """The first daemon that answers where *arguments* say, and its detailed health.

    Raises:
        Failure: none answers.
    """
    refusals = []
    for running in _candidates(arguments):
        try:
            return running, health(running)
        except DaemonUnreachable as silence:
            refusals.append(str(silence))
    cure = _doubt_about(arguments.url) if arguments.url else "is it running? systemctl status mlopsd"
    raise CommandError(f"cannot ask the daemon: {'; '.join(refusals)}; {cure}")


def health(running: DaemonClient) -> DaemonResponse:
    """The detailed health, from a daemon that is mlopsd.

    Raises:
        NoAnswer: there is none, or it is another program's.
    """
    answer = running.get("/health/detailed")
    if not isinstance(answer.body.get("probes"), dict) or "status" not in answer.body:
        raise DaemonUnreachable(f"{running.address}: {answer.detail}, which is not mlopsd's answer")
    return answer


def _candidates(arguments: Namespace) -> Iterator[DaemonClient]:
    key = _key(arguments.key_file)
    if arguments.url:
        yield DaemonClient(_checked(arguments.url), key)
        return
    asked = None
    if not _is_of_its_own(os.environ) and os.path.lexists(SERVICE_SOCKET):
        asked = SERVICE_SOCKET
        yield DaemonClient(f"unix:{SERVICE_SOCKET}")
    # pydantic takes 0.2 s to import: only where the service's socket has not answered
    from mlopsd.cli.client.listening import listening  # noqa: PLC0415

    configured = listening()
    _tell(configured.doubts)
    if configured.socket != asked and os.path.lexists(configured.socket):
        yield DaemonClient(f"unix:{configured.socket}")
    yield DaemonClient(address(configured.host, configured.port), key)


def _is_of_its_own(variables: Mapping[str, str]) -> bool:
    """Whether the environment speaks of another daemon than the service."""
    return any(name.startswith("MLOPSD_") for name in variables)


@cache
def _tell(doubts: tuple[str, ...]) -> None:
    """Say why the default places are asked, once: ``--watch`` asks again and again."""
    for doubt in doubts:
        cause = doubt.partition("; ")[0]  # without the cure, which is another command's
        complain(
            f"cannot use the configuration, so the default address is asked: {cause}; or name it with --url"
        )


def address(host: str, port: int) -> str:
    """The URL of a daemon that listens on *host* and *port*, as one asks it from this host."""
    host = ANY_HOST.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _doubt_about(url: str) -> str:
    path = urlsplit(url).path.rstrip("/")
    if not path:
        return "is the address right?"
    return f"is the address right? All paths were asked below {path}, as behind a proxy; leave it out if not"


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
        raise CommandError(f"cannot ask {url!r}: {error}; {cure}") from error
    if not usable:
        raise CommandError(f"cannot ask {url!r}: it is no address of a web server; {cure}")
    if parts.query or parts.fragment or parts.username is not None:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise CommandError(
            f"cannot ask more than {shown!r}: a user, a query or a fragment means nothing; {cure}"
        )
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
        raise CommandError(f"cannot read the key file {path}: {reason}; name another") from error
    keys = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not keys:
        raise CommandError(f"cannot use the key file {path}: it holds no key; write one a line")
    return keys[0]
