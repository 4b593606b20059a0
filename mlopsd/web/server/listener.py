"""The listener of a site: bound TCP sockets or a Unix socket."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

BACKLOG = 1024  # connections that wait in the kernel; net.core.somaxconn may reduce it
LONGEST_PATH = 107  # bytes of sockaddr_un.sun_path, less the zero at its end
SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o755


class ListenError(Exception):
    """The error of an address that cannot be listened on: "cannot listen on PLACE: cause; fix"."""


class Accepting(socket.socket):
    """A listening socket for asyncio.

    asyncio uses one number for two things: the connections that wait in the kernel, and those that it
    accepts at once. The second is also the number of its complaints when descriptors run out. So asyncio
    gets 1, and this class keeps it from the kernel.

    Attributes:
        admits: Whether there is room for one more connection; None if the connection itself asks.
    """

    admits: Callable[[], bool] | None = None

    @override
    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Raises:
            ConnectionAbortedError: *admits* says that there is no room; the connection is closed.
        """
        connection, address = super().accept()
        if self.admits is not None and not self.admits():
            connection.close()
            raise ConnectionAbortedError
        return connection, address

    @override
    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Listen with `BACKLOG`, whatever *backlog* asyncio passes."""
        super().listen(BACKLOG)


class Listener:
    """The listening sockets of one site. Connections wait in the kernel until an application serves.

    Attributes:
        name: The address for logs and messages: ``127.0.0.1:9178`` or the socket's path.
        sockets: One for each address of the host name.
        local: True for a Unix socket.
    """

    def __init__(self, name: str, sockets: Sequence[Accepting], path: Path | None = None) -> None:
        self.name = name
        self.sockets = tuple(sockets)
        self.local = path is not None
        self._path = path
        self._inode = _inode(path) if path is not None else None

    @classmethod
    def tcp(cls, host: str, port: int) -> "Listener":
        """Listen on every address of *host*; port 0 takes any free port.

        Blocks while it looks up a host name.

        Raises:
            ListenError: The address cannot be listened on.
        """
        sockets: list[Accepting] = []
        try:
            addresses = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, address in dict.fromkeys((family, address) for family, *_, address in addresses):
                sockets.append(_bind_tcp(family, address, sockets, alone=len(addresses) == 1))
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise ListenError(_tcp_complaint(host, port, error)) from error
        return cls(_place(host, sockets[0].getsockname()[1]), sockets)

    @classmethod
    def unix(cls, path: Path, *, takes_over: bool = False) -> "Listener":
        """Listen on the Unix socket *path*, which the daemon's user and group may use.

        Remove a socket without a listener first, and with *takes_over* any socket.

        Raises:
            ListenError: The path cannot be listened on.
        """
        length = len(os.fsencode(path))
        if length > LONGEST_PATH:
            fix = f"the limit is {LONGEST_PATH}; choose a shorter path with the key socket"
            raise ListenError(f"cannot listen on {path}: the path has {length} bytes; {fix}")
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            _clear(path, takes_over=takes_over)
            return cls(str(path), [_bind_unix(path)], path)
        except OSError as error:
            fix = "choose another with the key socket, or let the daemon's user write there"
            raise ListenError(f"cannot listen on {path}: {_cause(error)}; {fix}") from error

    @property
    def port(self) -> int:
        """Return the bound TCP port, or 0 for a Unix socket."""
        return 0 if self.local else int(self.sockets[0].getsockname()[1])

    def is_in_place(self) -> bool:
        """Return whether the path still leads to this socket. Can block.

        The kernel gives the socket's inode number to no other file while the socket is open.
        """
        return self._path is None or (self._inode is not None and _inode(self._path) == self._inode)

    def bind_again(self) -> "Listener":
        """Return a new listener on the same path of a Unix socket, and replace any socket there.

        Raises:
            ListenError: The path cannot be listened on.
        """
        assert self._path is not None
        return Listener.unix(self._path, takes_over=True)

    def close(self) -> None:
        """Stop listening, and remove the Unix socket's file if it still belongs to this listener."""
        if self._path is not None and self.is_in_place():
            self._path.unlink(missing_ok=True)
        self._inode = None  # another file may get its number now
        for listening in self.sockets:
            listening.close()


def _bind_tcp(
    family: int, address: tuple[object, ...], others: Sequence[Accepting], *, alone: bool
) -> Accepting:
    """Bind *address* to the port of the *others*. If ``::`` is *alone*, it accepts IPv4 too."""
    listening = Accepting(family, socket.SOCK_STREAM)
    try:
        listening.settimeout(0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)
        port = others[0].getsockname()[1] if others else address[1]
        listening.bind((address[0], port, *address[2:]))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _bind_unix(path: Path) -> Accepting:
    """Bind *path*. Set its mode before it becomes visible, so that it is never open to others."""
    listening = Accepting(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.settimeout(0)
        os.fchmod(listening.fileno(), SOCKET_MODE)
        listening.bind(os.fsencode(path))
        path.chmod(SOCKET_MODE)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _clear(path: Path, *, takes_over: bool) -> None:
    """Remove a dead socket at *path*; with *takes_over* remove any socket.

    Raises:
        ListenError: The file is not a socket, or another process answers there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"cannot listen on {path}: the file there is not a socket; remove it or choose another path"
        )
    if not takes_over and _somebody_answers(path):
        fix = "stop what holds it or choose another with the key socket"
        raise ListenError(f"cannot listen on {path}: another process answers there; {fix}")
    path.unlink(missing_ok=True)


def _somebody_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(0)
        try:
            asking.connect(os.fsencode(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # a listener exists, but its backlog is full
            return True
        return True


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _tcp_complaint(host: str, port: int, error: OSError) -> str:
    place = _place(host, port)
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {place}: {_cause(error)}; choose a host name of this machine with --host"
    if isinstance(error, PermissionError):
        return f"cannot listen on {place}: {_cause(error)}; choose a port above 1023 with --port"
    fix = "stop what holds it or choose another with --port"
    if error.errno != errno.EADDRINUSE:
        fix = "choose an address of this machine with --host"
    return f"cannot listen on {place}: {_cause(error)}; {fix}"


def _cause(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
