"""A bound place to listen, TCP or a Unix socket."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

BACKLOG = 1024  # connections that wait for us in the kernel; net.core.somaxconn may cut it
LONGEST_PATH = 107  # bytes of sockaddr_un.sun_path, less the zero at its end
SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o755


class ListenError(Exception):
    """It cannot listen there: "cannot listen on PLACE: cause; cure"."""


class Accepting(socket.socket):
    """A listening socket that asyncio may serve on.

    asyncio takes one number for two things: how many connections wait in the kernel, and how many it
    accepts at once, which is also how often it complains when descriptors run out. So it is told 1,
    and must not tell the kernel.
    """

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Listen with our backlog, whatever *backlog* is asked for."""
        super().listen(BACKLOG)


class Listener:
    """A socket that is listened on; connections wait in the kernel until an application serves.

    Attributes:
        name: for logs and messages: ``127.0.0.1:9178`` or the socket's path.
        sockets: one for each address that the host's name stands for.
        local: whether it is a Unix socket.
    """

    def __init__(self, name: str, sockets: Sequence[Accepting], path: Path | None = None) -> None:
        self.name = name
        self.sockets = tuple(sockets)
        self.local = path is not None
        self._path = path
        self._inode = _inode(path) if path is not None else None

    @classmethod
    def tcp(cls, host: str, port: int) -> "Listener":
        """Listen on every address of *host*; port 0 is any that is free.

        A *host* that is a name is looked up here, which can block.

        Raises:
            ListenError: it cannot.
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

        A socket that nobody listens on any more is removed first, and with *takes_over* any socket.

        Raises:
            ListenError: it cannot.
        """
        length = len(os.fsencode(path))
        if length > LONGEST_PATH:
            cure = f"at most {LONGEST_PATH} are possible; choose a shorter one with the key socket"
            raise ListenError(f"cannot listen on {path}: the path has {length} bytes; {cure}")
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            _clear(path, takes_over=takes_over)
            return cls(str(path), [_bind_unix(path)], path)
        except OSError as error:
            cure = "choose another with the key socket, or let the daemon's user write there"
            raise ListenError(f"cannot listen on {path}: {_cause(error)}; {cure}") from error

    @property
    def port(self) -> int:
        """The TCP port that it got; 0 for a Unix socket."""
        return 0 if self.local else int(self.sockets[0].getsockname()[1])

    def is_in_place(self) -> bool:
        """Tell if the path still leads to this socket; it may block.

        While the socket is open, the kernel gives the number of its inode to no other file.
        """
        return self._path is None or (self._inode is not None and _inode(self._path) == self._inode)

    def bind_again(self) -> "Listener":
        """Return a new listener on the same path of a Unix socket, whatever socket is there now.

        Raises:
            ListenError: it cannot.
        """
        assert self._path is not None
        return Listener.unix(self._path, takes_over=True)

    def close(self) -> None:
        """Stop to listen, and remove the Unix socket's file if it is still this one's."""
        if self._path is not None and self.is_in_place():
            self._path.unlink(missing_ok=True)
        self._inode = None  # from now on another file may have its number
        for listening in self.sockets:
            listening.close()


def _bind_tcp(
    family: int, address: tuple[object, ...], others: Sequence[Accepting], *, alone: bool
) -> Accepting:
    """Bind *address*, with the port that the *others* got; ``::`` *alone* takes IPv4 as well."""
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
    """Bind *path*; its mode is set before it can be seen, so that it is never open to others."""
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
    """Remove what a daemon that is gone has left at *path*; with *takes_over* any socket.

    Raises:
        ListenError: it is no socket, or somebody answers there and that is none of ours to end.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {path}: there is something else; remove it or choose another")
    if not takes_over and _somebody_answers(path):
        cure = "stop what holds it or choose another with the key socket"
        raise ListenError(f"cannot listen on {path}: another process answers there; {cure}")
    path.unlink(missing_ok=True)


def _somebody_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(0)
        try:
            asking.connect(os.fsencode(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # it has more callers than it can take
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
        return f"cannot listen on {place}: {_cause(error)}; choose a host that this machine has, with --host"
    if isinstance(error, PermissionError):
        return f"cannot listen on {place}: {_cause(error)}; choose a port above 1023 with --port"
    cure = "stop what holds it or choose another with --port"
    if error.errno != errno.EADDRINUSE:
        cure = "choose an address of this machine with --host"
    return f"cannot listen on {place}: {_cause(error)}; {cure}"


def _cause(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
