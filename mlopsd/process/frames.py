"""The frame format between the daemon and its child processes: a JSON header and raw bytes.

Nothing here imports asyncio, which costs a child 10 MiB; `mlopsd.process.channel` is the daemon's end.
"""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

HEAD = struct.Struct("!IQ")  # bytes of the header, bytes of the body

Header = Mapping[str, Any]
Frame = tuple[dict[str, Any], bytes]


class FrameLimits(NamedTuple):
    """The most bytes that a frame may have; the defaults carry a version of 100 000 files."""

    header: int = 16 * 1024 * 1024
    body: int = 1024 * 1024 * 1024


ANY_SIZE = FrameLimits()


class BadFrame(ValueError):
    """Bytes that are no frame, or a value that no frame can carry."""


def encode(value: Header, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return *value* as JSON; *default* is that of `json.dumps`.

    Raises:
        BadFrame: JSON has no form for a part of it.
    """
    try:
        return json.dumps(value, separators=(",", ":"), default=default).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error


def decode(encoded: bytes | str, object_hook: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Return the JSON object that *encoded* is; *object_hook* is that of `json.loads`.

    Raises:
        BadFrame: it is none.
    """
    try:
        value = json.loads(encoded, object_hook=object_hook)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadFrame("no JSON object")
    return value


def pack(header: Header, body_size: int = 0, limits: FrameLimits = ANY_SIZE) -> bytes:
    """Return a frame up to its body, which has *body_size* bytes and follows.

    Raises:
        BadFrame: it is longer than *limits*, or JSON has no form for a part of it.
    """
    encoded = encode(header)
    _check(len(encoded), body_size, limits)
    return HEAD.pack(len(encoded), body_size) + encoded


def unpack_sizes(head: bytes, limits: FrameLimits = ANY_SIZE) -> tuple[int, int]:
    """Return the sizes of the header and the body that follow *head*.

    Raises:
        BadFrame: one is more than *limits* has.
    """
    header_size, body_size = HEAD.unpack(head)
    _check(header_size, body_size, limits)
    return header_size, body_size


def send(channel: socket.socket, header: Header, limits: FrameLimits = ANY_SIZE) -> None:
    """Send a frame without a body, blocking.

    Raises:
        BadFrame: as `pack`.
        OSError: the daemon hung up.
    """
    channel.sendall(pack(header, limits=limits))


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the header of the next frame, which has no body, blocking; None when the daemon hung up."""
    if len(head := stream.read(HEAD.size)) < HEAD.size:
        return None
    header_size, _ = unpack_sizes(head)
    encoded = stream.read(header_size)
    return decode(encoded) if len(encoded) == header_size else None


def _check(header_size: int, body_size: int, limits: FrameLimits) -> None:
    for size, most in zip((header_size, body_size), limits, strict=True):
        if size > most:
            raise BadFrame(f"{size} bytes in one frame, more than {most}")
