"""The frame format between the daemon and its child processes: a JSON header and raw bytes.

This module does not import asyncio, which would cost a child 10 MiB. `mlopsd.process.channel` is the
daemon's end.
"""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

HEAD = struct.Struct("!IQ")  # the size of the header and of the body, in bytes

Header = Mapping[str, Any]
Frame = tuple[dict[str, Any], bytes]


class FrameLimits(NamedTuple):
    """The limits of a frame in bytes. The defaults suffice for a version with 100 000 files."""

    header: int = 16 * 1024 * 1024
    body: int = 1024 * 1024 * 1024


ANY_SIZE = FrameLimits()


class BadFrame(ValueError):
    """The error of invalid bytes, or of a value that a frame cannot carry."""


def encode(value: Header, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return *value* as JSON; *default* is the argument of `json.dumps`.

    Raises:
        BadFrame: JSON cannot represent a part of it.
    """
    try:
        return json.dumps(value, separators=(",", ":"), default=default).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {error}") from error


def decode(encoded: bytes | str, object_hook: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Return the JSON object in *encoded*; *object_hook* is the argument of `json.loads`.

    Raises:
        BadFrame: It is not a JSON object.
    """
    try:
        value = json.loads(encoded, object_hook=object_hook)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadFrame("not a JSON object")
    return value


def pack(header: Header, body_size: int = 0, limits: FrameLimits = ANY_SIZE) -> bytes:
    """Return a frame without its body. The body of *body_size* bytes must follow.

    Raises:
        BadFrame: It exceeds *limits*, or JSON cannot represent a part of it.
    """
    encoded = encode(header)
    _check(len(encoded), body_size, limits)
    return HEAD.pack(len(encoded), body_size) + encoded


def unpack_sizes(head: bytes, limits: FrameLimits = ANY_SIZE) -> tuple[int, int]:
    """Return the sizes of the header and the body that follow *head*.

    Raises:
        BadFrame: One size exceeds *limits*.
    """
    header_size, body_size = HEAD.unpack(head)
    _check(header_size, body_size, limits)
    return header_size, body_size


def send(channel: socket.socket, header: Header, limits: FrameLimits = ANY_SIZE) -> None:
    """Send a frame without a body, blocking.

    Raises:
        BadFrame: As in `pack`.
        OSError: the daemon hung up.
    """
    channel.sendall(pack(header, limits=limits))


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Read the header of the next frame without a body, blocking; None if the daemon closed the channel."""
    if len(head := stream.read(HEAD.size)) < HEAD.size:
        return None
    header_size, _ = unpack_sizes(head)
    encoded = stream.read(header_size)
    return decode(encoded) if len(encoded) == header_size else None


def _check(header_size: int, body_size: int, limits: FrameLimits) -> None:
    for size, most in zip((header_size, body_size), limits, strict=True):
        if size > most:
            raise BadFrame(f"{size} bytes in one frame, more than {most}")
