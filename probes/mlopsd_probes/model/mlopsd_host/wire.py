"""The child's end of the channel to the daemon: blocking, with a JSON header and raw bytes per frame.

It imports nothing of mlopsd, which this interpreter may lack; `mlopsd.process.frames` is the counterpart.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Mapping
from typing import Any

HEAD = struct.Struct("!IQ")  # bytes of the header, bytes of the body
CHUNK = 1024 * 1024
MOST_AT_ONCE = 1024  # frames that are read before the first of them is answered

Frame = tuple[dict[str, Any], bytes]


def packed(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((HEAD.pack(len(encoded), len(body)), encoded, body))


def send(channel: socket.socket, header: Mapping[str, Any], body: bytes = b"") -> None:
    """Send a frame.

    Raises:
        OSError: the daemon hung up.
    """
    channel.sendall(packed(header, body))


class Inbox:
    """The frames that wait on a channel, read in large pieces. One thread may use it at a time.

    A thread only for reading would compete for the GIL at each frame. Here the predicting thread reads all
    new frames in one system call.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self.is_closed = False

    def wait(self, timeout: float | None = None) -> list[Frame]:
        """Return every frame that has come: at least one, unless *timeout* seconds are over.

        There is none either when the daemon has closed the channel.
        """
        self._take_what_is_there()
        while not (frames := self._whole_frames()) and not self.is_closed:
            if timeout is not None and not select.select([self._channel], [], [], timeout)[0]:
                break
            part = self._channel.recv(CHUNK)
            self.is_closed = not part
            self._buffer += part
        return frames

    def _take_what_is_there(self) -> None:
        while len(self._buffer) < CHUNK:
            try:
                part = self._channel.recv(CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not part:
                return  # the next blocking call raises it as well
            self._buffer += part

    def _whole_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        at, buffer = 0, self._buffer
        while len(frames) < MOST_AT_ONCE and len(buffer) - at >= HEAD.size:
            header_size, body_size = HEAD.unpack_from(buffer, at)
            body_at = at + HEAD.size + header_size
            end = body_at + body_size
            if len(buffer) < end:
                break
            frames.append((json.loads(buffer[at + HEAD.size : body_at]), bytes(buffer[body_at:end])))
            at = end
        del buffer[:at]
        return frames
