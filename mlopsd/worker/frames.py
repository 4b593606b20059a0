"""What goes between the daemon and the process of a probe: length-framed JSON."""

import datetime
import json
import struct
from collections.abc import Mapping
from typing import Any

LENGTH = struct.Struct("!I")
READY = LENGTH.pack(0)  # an empty frame, the first one of a process: its probe has been made, or cannot be
MOST_BYTES = 8 * 1024 * 1024  # a frame; a reading of 25 000 samples takes 0.4 to 3 MB
TIME = "mlopsd.time"  # the only key of the object that stands for a date or a time, which TOML has
TIMES = {kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)}

Frame = Mapping[str, Any]


class BadFrame(ValueError):
    """Bytes that are no frame of ours."""


def encode(frame: Frame) -> bytes:
    """*frame* with its length before it.

    Raises:
        BadFrame: it is longer than `MOST_BYTES`, or there is something in it that JSON cannot say.
    """
    try:
        body = json.dumps(frame, separators=(",", ":"), default=_from_time).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if len(body) > MOST_BYTES:
        raise BadFrame(f"{len(body)} bytes in one frame, more than {MOST_BYTES}")
    return LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """How many bytes follow *head*.

    Raises:
        BadFrame: more than `MOST_BYTES`.
    """
    (size,) = LENGTH.unpack(head)
    if size > MOST_BYTES:
        raise BadFrame(f"{size} bytes in one frame, more than {MOST_BYTES}")
    return int(size)


def decode(body: bytes, *, with_times: bool = False) -> dict[str, Any]:
    """The frame in *body*; *with_times*, the dates and times in it are such again.

    Raises:
        BadFrame: it is no JSON object.
    """
    try:
        frame = json.loads(body, object_hook=_to_time if with_times else None)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from error
    if not isinstance(frame, dict):
        raise BadFrame("no JSON object")
    return frame


def _from_time(value: object) -> dict[str, Any]:
    if not isinstance(value, datetime.date | datetime.time) or type(value) not in TIMES.values():
        raise TypeError(f"{type(value).__name__} is no plain value")
    return {TIME: [type(value).__name__, value.isoformat()]}


def _to_time(found: dict[str, Any]) -> Any:
    if set(found) != {TIME}:
        return found
    kind, text = found[TIME]
    return TIMES[kind].fromisoformat(text)
