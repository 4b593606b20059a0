"""The daemon's end of the channel to a process of the model probe: a JSON header and raw bytes a frame."""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

HEAD = struct.Struct("!IQ")  # bytes of the header, bytes of the body
MOST_HEADER = 16 * 1024 * 1024  # the files of a version with 100 000 of them
MOST_BODY = 1024 * 1024 * 1024


class BadFrame(ValueError):
    """Bytes that are no frame of ours."""


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next frame.

    Raises:
        asyncio.IncompleteReadError: the other side hung up.
        BadFrame: it does not speak our language.
    """
    header_size, body_size = HEAD.unpack(await reader.readexactly(HEAD.size))
    if header_size > MOST_HEADER or body_size > MOST_BODY:
        raise BadFrame(f"a frame of {header_size} and {body_size} bytes")
    header = _decoded(await reader.readexactly(header_size))
    return header, await reader.readexactly(body_size)


async def write_frame(
    writer: asyncio.StreamWriter, header: Mapping[str, Any], body: bytes | bytearray | memoryview = b""
) -> None:
    """Send a frame; wait while the other side is slow to take it.

    Raises:
        ConnectionError: the other side hung up.
    """
    encoded = json.dumps(header, separators=(",", ":")).encode()
    writer.write(HEAD.pack(len(encoded), len(body)) + encoded)
    if body:
        writer.write(body)
    await writer.drain()


def _decoded(encoded: bytes) -> dict[str, Any]:
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if not isinstance(header, dict):
        raise BadFrame("no JSON object")
    return header
