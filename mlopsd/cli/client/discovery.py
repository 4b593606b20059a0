"""Discovery of the running daemon: the given URL, else its Unix socket, else its port on this host."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from mlopsd.cli.client.client import DaemonClient, DaemonResponse, DaemonUnreachable
from mlopsd.cli.errors import CommandError, print_error

SERVICE_SOCKET = Path("/run/mlopsd/mlopsd.sock")
DEFAULT_ADDRESS = "http://127.0.0.1:9178"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class ListenAddresses:
    """The addresses that a daemon with the configuration of this host listens on.

    Attributes:
        issues: a line for each reason not to use the configuration; then these are the defaults.
    """

    socket: Path
    host: str
    port: int
    issues: tuple[str, ...] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that name a daemon elsewhere."""
    parser.add_argument("--url", metavar="URL", help="ask the daemon at this address (http://host:9178)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the file that holds its API key")


def find_daemon(arguments: Namespace) -> tuple[DaemonClient, DaemonResponse]:
    """Return the first daemon that answers where *arguments* say, and its detailed health.

    Raises:
        CommandError: none answers.
    """
    failures = []
    for running in _candidates(arguments):
        try:
            return running, _get_health(running)
        except DaemonUnreachable as error:
            failures.append(str(error))
    fix = _suggest_fix(arguments.url) if arguments.url else "is it running? systemctl status mlopsd"
    raise CommandError(f"cannot ask the daemon: {'; '.join(failures)}; {fix}")


def _get_health(running: DaemonClient) -> DaemonResponse:
    """Return the detailed health.

    Raises:
        DaemonUnreachable: there is no answer, or it is another program's.
    """
    answer = running.get("/health/detailed")
    if not isinstance(answer.body.get("probes"), dict) or "status" not in answer.body:
        raise DaemonUnreachable(f"{running.address}: {answer.detail}, which is not mlopsd's answer")
    return answer


def _candidates(arguments: Namespace) -> Iterator[DaemonClient]:
    key = _read_key(arguments.key_file)
    if arguments.url:
        _check_url(arguments.url)
        yield DaemonClient(arguments.url, key)
        return
    asked = None
    if not _is_configured_apart(os.environ) and os.path.lexists(SERVICE_SOCKET):
        asked = SERVICE_SOCKET
        yield DaemonClient(f"unix:{SERVICE_SOCKET}")
    configured = _read_addresses()
    _warn_once(configured.issues)
    if configured.socket != asked and os.path.lexists(configured.socket):
        yield DaemonClient(f"unix:{configured.socket}")
    yield DaemonClient(format_url(configured.host, configured.port), key)


def _is_configured_apart(variables: Mapping[str, str]) -> bool:
    """Return true if the environment configures another daemon than the service."""
    return any(name.startswith("MLOPSD_") for name in variables)


def _read_addresses() -> ListenAddresses:
    """Return the configured addresses, or the defaults if this user may not read the configuration.

    A daemon may run with it all the same.
    """
    # pydantic takes 0.2 s to import: only if the service's socket has not answered
    from mlopsd.config.errors import ConfigurationError  # noqa: PLC0415
    from mlopsd.config.load import load  # noqa: PLC0415
    from mlopsd.config.schema import Settings  # noqa: PLC0415
    from mlopsd.state_dir import places  # noqa: PLC0415

    issues: tuple[str, ...] = ()
    try:
        settings = load().settings
    except ConfigurationError as error:
        settings, issues = Settings(), tuple(map(str, error.mistakes))
    return ListenAddresses(places(settings).socket, settings.api.host, settings.api.port, issues)


@cache
def _warn_once(issues: tuple[str, ...]) -> None:
    """Print why the default addresses are asked, once: ``--watch`` asks again and again."""
    for issue in issues:
        cause = issue.partition("; ")[0]  # without the fix, which is another command's
        print_error(
            f"cannot use the configuration, so the default address is asked: {cause}; or name it with --url"
        )


def format_url(host: str, port: int) -> str:
    """Return the URL for this host's own requests to a daemon that listens on *host* and *port*."""
    host = ANY_HOST.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _suggest_fix(url: str) -> str:
    path = urlsplit(url).path.rstrip("/")
    if not path:
        return "is the address right?"
    return f"is the address right? All paths were asked below {path}, as behind a proxy; leave it out if not"


def _check_url(url: str) -> None:
    """Check that *url* can be asked.

    Raises:
        CommandError: it is no http or https address, or has parts that mean nothing here.
    """
    fix = f"write it like {DEFAULT_ADDRESS}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as error:
        raise CommandError(f"cannot ask {url!r}: {error}; {fix}") from error
    if not usable:
        raise CommandError(f"cannot ask {url!r}: it is no address of a web server; {fix}")
    if parts.query or parts.fragment or parts.username is not None:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise CommandError(
            f"cannot ask more than {shown!r}: a user, a query or a fragment means nothing; {fix}"
        )


def _read_key(path: Path | None) -> str | None:
    """Return the API key in the file at *path*.

    Raises:
        CommandError: it cannot be read, or is empty.
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
