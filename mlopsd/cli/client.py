"""The client of the running daemon: its discovery, and HTTP over Unix socket or TCP in bounded time."""

import errno
import http.client
import json
import os
import queue
import socket
import ssl
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlopsd.cli.errors import CommandError, print_error
from mlopsd.cli.terminal.text import sanitize
from mlopsd.peer import credentials, is_of_our_namespaces

TIMEOUT = 5.0  # seconds for a response that the daemon has in memory
MOST_BYTES = 32 * 1024 * 1024
SERVICE_SOCKET = Path("/run/mlopsd/mlopsd.sock")
DEFAULT_ADDRESS = "http://127.0.0.1:9178"
NAMESPACES = ("net", "pid", "user")  # a unit has its own mounts
ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


class DaemonUnreachable(Exception):
    """The error of an address without a daemon; the message has the address and the reason."""


class UntrustedPeer(OSError):
    """The error of a Unix socket on which another process than the daemon listens."""


@dataclass(frozen=True, slots=True)
class DaemonResponse:
    """A response of the daemon; *body* is its JSON object."""

    status: int
    body: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Return whether the status is below 400."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def detail(self) -> str:
        """Return the reason of an error response."""
        return str(self.body.get("detail") or self.body.get("title") or f"HTTP status {self.status}")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket at *path*."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket.

        Raises:
            UntrustedPeer: Another process than the daemon listens there.
        """
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        _check_peer(self.sock, self._path)


def _check_peer(connection: socket.socket, path: str) -> None:
    """Check that the daemon listens at the other end, and no other user or model in its place.

    The daemon's user owns the folder of its socket. A model runs as that user, but in namespaces of its own.
    Root believes no process whose namespaces it cannot compare. Other users may not compare them.

    Raises:
        UntrustedPeer: Another process listens there.
    """
    own, peer = os.geteuid(), credentials(connection)
    if peer.uid not in {0, own, Path(path).parent.stat().st_uid}:
        reason = f"uid {peer.uid} listens there, which is not the user of the daemon"
        raise UntrustedPeer(errno.EACCES, reason)
    try:
        is_ours = is_of_our_namespaces(connection, peer.pid, NAMESPACES)
    except PermissionError as error:
        if own == 0:
            reason = f"root may not compare the namespaces of process {peer.pid} here (CAP_SYS_PTRACE)"
            raise UntrustedPeer(
                errno.EACCES, f"{reason}; ask as uid {peer.uid}, or over TCP with --url"
            ) from error
        is_ours = own != peer.uid
    if not is_ours:
        reason = (
            f"the process {peer.pid} that listens there has ended or is in other namespaces, as a model is"
        )
        raise UntrustedPeer(errno.EACCES, f"{reason}; ask over TCP with --url, or from its container")


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """A client of the daemon at *address*: ``http://…``, ``https://…`` or ``unix:/path``.

    *key* is the API key, and *tls* has the certificates for ``https://``.
    """

    address: str
    key: str | None = None
    tls: ssl.SSLContext | None = None

    def get(self, path: str) -> DaemonResponse:
        """Send a GET request.

        Raises:
            DaemonUnreachable: There is no response within `TIMEOUT`.
        """
        return self._request("GET", path, TIMEOUT)

    def read(self, path: str) -> bytes:
        """Return the body of the answer to a GET request, whatever its form.

        Raises:
            DaemonUnreachable: There is no response within `TIMEOUT`, or the request is refused. A host that
                is not healthy answers 503, with a body.
        """
        status, body = self._ask("GET", path, TIMEOUT, accept="*/*")
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DaemonUnreachable(f"{self.address}: HTTP status {status}")
        return body

    def post(self, path: str, timeout: float) -> DaemonResponse:
        """Send a POST request.

        Raises:
            DaemonUnreachable: There is no response within *timeout* seconds.
        """
        return self._request("POST", path, timeout)

    def _request(self, method: str, path: str, timeout: float) -> DaemonResponse:
        status, body = self._ask(method, path, timeout)
        try:
            return _parse_response(status, body)
        except ValueError as error:
            raise DaemonUnreachable(
                f"{self.address}: the response is not mlopsd's; is the address right?"
            ) from error

    def _ask(
        self, method: str, path: str, timeout: float, accept: str = "application/json"
    ) -> tuple[int, bytes]:
        try:
            return _run_with_deadline(timeout, lambda: self._send(method, path, timeout, accept))
        except TimeoutError as error:
            raise DaemonUnreachable(f"{self.address}: no answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error, is_tls=self.address.startswith("https:"))
            raise DaemonUnreachable(
                f"{self.address}: {sanitize(reason or error) or type(error).__name__}"
            ) from error

    def _send(self, method: str, path: str, timeout: float, accept: str) -> tuple[int, bytes]:
        connection = self._open_connection(timeout)
        try:
            connection.request(method, self._prefix + path, headers={**self._headers(), "Accept": accept})
            response = connection.getresponse()
            return response.status, response.read(MOST_BYTES)
        finally:
            connection.close()

    def _open_connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"), timeout)
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)

    @property
    def _prefix(self) -> str:
        """Return the path prefix that a proxy adds to the paths of the API."""
        return "" if self.address.startswith("unix:") else urlsplit(self.address).path.rstrip("/")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def _reason(error: Exception, *, is_tls: bool) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); name its authority with --cacert"
    if isinstance(error, ConnectionResetError) and is_tls:  # a server refuses after TLS 1.3's handshake
        return "it closed the connection; if it asks for a certificate, name one with --client-cert"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(error.reason or 'unknown').lower().replace('_', ' ')})"
    return error.strerror if isinstance(error, OSError) else None


def _run_with_deadline(seconds: float, send: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
    """Return or raise the outcome of *send*, if it ends within *seconds*.

    A socket's timeout applies to each byte, and looking up a name has none.

    Raises:
        TimeoutError: *send* takes longer. It continues in a thread that does not delay an exit.
    """
    ended: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put(send())
        except Exception as error:  # noqa: BLE001  # raised again below
            ended.put(error)

    threading.Thread(target=run, name="ask the daemon", daemon=True).start()
    try:
        outcome = ended.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _parse_response(status: int, body: bytes) -> DaemonResponse:
    """Return the response with *body*.

    Raises:
        ValueError: *body* is not a JSON object.
    """
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # as json.loads raises for invalid JSON
    return DaemonResponse(status, found)


@dataclass(frozen=True, slots=True)
class ListenAddresses:
    """The addresses that this host's configuration gives to a daemon.

    Attributes:
        socket: The path of the Unix socket.
        host: The address of the API.
        port: The port of the API.
        scheme: ``https`` if the API has TLS.
        issues: The reasons why the configuration is unusable, one line each. If there are any, the
            addresses are the defaults.
    """

    socket: Path
    host: str
    port: int
    scheme: str = "http"
    issues: tuple[str, ...] = ()


def add_connection_options(parser: ArgumentParser) -> None:
    """Declare the options for a daemon at another address."""
    parser.add_argument("--url", metavar="URL", help="the address of the daemon (http://host:9178)")
    parser.add_argument(
        "--cacert", type=Path, metavar="FILE", help="the authorities to trust for https:// (PEM)"
    )
    parser.add_argument(
        "--client-cert", type=Path, metavar="FILE", help="this client's certificate, if https:// asks for one"
    )
    parser.add_argument(
        "--client-key", type=Path, metavar="FILE", help="its key, if it is not in the same file"
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="a file with the daemon's API key")


def find_daemon(arguments: Namespace, *, to_act: bool = False) -> tuple[DaemonClient, DaemonResponse]:
    """Return a client of the first daemon that answers, and its detailed health.

    Without a usable configuration a command that only reads uses the default address, and prints that. A
    command that acts refuses, since another daemon may listen there.

    Raises:
        CommandError: No daemon answers, or it is not certain which one is meant.
    """
    failures: list[DaemonUnreachable] = []
    for running in _candidates(arguments, to_act=to_act):
        try:
            health = _get_health(running)
        except DaemonUnreachable as error:
            failures.append(error)
        else:
            _warn_of_impostors(failures, running.address)
            return running, health
    fix = _suggest_fix(arguments.url) if arguments.url else "is it running? systemctl status mlopsd"
    raise CommandError(f"cannot ask the daemon: {'; '.join(map(str, failures))}; {fix}")


def _warn_of_impostors(failures: Sequence[DaemonUnreachable], address: str) -> None:
    """Print each socket that another process holds, since *address* answered in its place."""
    for failure in failures:
        if isinstance(failure.__cause__, UntrustedPeer):
            print_error(f"warning: asked {address}, since another process holds the socket: {failure}")


def _get_health(running: DaemonClient) -> DaemonResponse:
    """Return the detailed health.

    Raises:
        DaemonUnreachable: There is no response, or another program answers.
    """
    answer = running.get("/health/detailed")
    if not isinstance(answer.body.get("probes"), dict) or "status" not in answer.body:
        raise DaemonUnreachable(f"{running.address}: {answer.detail}, which is not mlopsd's answer")
    return answer


def _candidates(arguments: Namespace, *, to_act: bool) -> Iterator[DaemonClient]:
    key, tls = _read_key(arguments.key_file), _tls_context(arguments)
    if arguments.url:
        _check_url(arguments.url)
        yield DaemonClient(arguments.url, key, tls)
        return
    if (asked := _socket_of_service(os.environ)) is not None:
        yield DaemonClient(f"unix:{asked}")
    configured = _read_addresses()
    if to_act and configured.issues:
        raise _uncertain(configured.issues)
    _warn_once(configured.issues)
    if configured.socket != asked and os.path.lexists(configured.socket):
        yield DaemonClient(f"unix:{configured.socket}")
    yield DaemonClient(format_url(configured.host, configured.port, configured.scheme), key, tls)


def _socket_of_service(variables: Mapping[str, str]) -> Path | None:
    """Return the socket of the unit that runs this command, or of the installed service.

    Return None if there is neither, or if the environment configures another daemon than the service.
    """
    if runtime := variables.get("RUNTIME_DIRECTORY"):  # in ExecReload of the daemon's own unit
        own = Path(runtime.split(":")[0]) / SERVICE_SOCKET.name
        if os.path.lexists(own):
            return own
    is_apart = any(name.startswith("MLOPSD_") for name in variables)
    return None if is_apart or not os.path.lexists(SERVICE_SOCKET) else SERVICE_SOCKET


def _read_addresses() -> ListenAddresses:
    """Return the configured addresses, or the defaults if the configuration is unusable.

    A daemon may run all the same, for example if only this user cannot read the file.
    """
    from mlopsd.config.errors import ConfigurationError  # noqa: PLC0415  # pydantic takes 0.2 s: only if no socket answers
    from mlopsd.config.load import load  # noqa: PLC0415  # as above
    from mlopsd.config.schema import Settings  # noqa: PLC0415  # as above
    from mlopsd.state_dir import places  # noqa: PLC0415  # as above

    issues: tuple[str, ...] = ()
    try:
        settings = load().settings
    except ConfigurationError as error:
        settings, issues = Settings(), tuple(map(str, error.mistakes))
    api = settings.api
    scheme = "http" if api.tls_cert is None else "https"
    return ListenAddresses(places(settings).socket, api.host, api.port, scheme, issues)


def _uncertain(issues: Sequence[str]) -> CommandError:
    """Return the error of a command that acts and does not know on which daemon."""
    cause, _, fix = issues[0].partition("; ")
    more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
    return CommandError(
        f"cannot reload: the configuration has no usable address of a daemon: {cause}{more}; "
        f"{fix or 'correct it'}, or name the daemon with --url"
    )


@cache
def _warn_once(issues: tuple[str, ...]) -> None:
    """Print why the default addresses are used, only once for ``--watch``."""
    for issue in issues:
        cause = issue.partition("; ")[0]  # without the fix, which is for the daemon
        print_error(
            f"cannot use the configuration, so the default address is used: {cause}; or set it with --url"
        )


def format_url(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL, for clients on this host, of a daemon that listens on *host* and *port*."""
    host = ANY_HOST.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _suggest_fix(url: str) -> str:
    path = urlsplit(url).path.rstrip("/")
    if not path:
        return "is the address right?"
    return f"is the address right? All requests went to paths below {path}, as for a proxy; omit it otherwise"


def _check_url(url: str) -> None:
    """Check that *url* is usable.

    Raises:
        CommandError: It is not an http or https address, or it has unsupported parts.
    """
    fix = f"write it like {DEFAULT_ADDRESS}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError as error:
        raise CommandError(f"cannot ask {url!r}: {error}; {fix}") from error
    if not usable:
        raise CommandError(f"cannot ask {url!r}: it is not the address of a web server; {fix}")
    if parts.query or parts.fragment or parts.username is not None:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise CommandError(
            f"cannot ask more than {shown!r}: a user, a query and a fragment are not supported; {fix}"
        )


def _tls_context(arguments: Namespace) -> ssl.SSLContext | None:
    """Return the context of ``--cacert``, ``--client-cert`` and ``--client-key``; None without them.

    Raises:
        CommandError: A file cannot be used.
    """
    trusted, own, key = arguments.cacert, arguments.client_cert, arguments.client_key
    if trusted is None and own is None:
        return None
    try:
        context = ssl.create_default_context(cafile=trusted)
        if own is not None:
            context.load_cert_chain(own, key, password="")
    except (OSError, ValueError) as error:
        is_tls = isinstance(error, ssl.SSLError)
        reason = "not a certificate with its key in PEM" if is_tls else getattr(error, "strerror", error)
        raise CommandError(
            f"cannot use {', '.join(map(str, filter(None, (trusted, own, key))))}: {reason}; name other files"
        ) from error
    return context


def _read_key(path: Path | None) -> str | None:
    """Return the API key in the file at *path*.

    Raises:
        CommandError: The file cannot be read, or has no key.
    """
    if path is None:
        return None
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"cannot read the key file {path}: {reason}; choose another file") from error
    keys = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not keys:
        raise CommandError(f"cannot use the key file {path}: it has no API key; write one per line")
    return keys[0]
