"""The output of a probe's process as lines of the daemon's log: the first ones, at a limited rate."""

import asyncio
import logging

from mlopsd.log_limit import LogLimiter

BYTES_PER_SECOND = 1024 * 1024  # a process that prints faster waits, and runs into its own deadline
LINES_PER_HOUR = 50
LONGEST_LINE = 500
CHUNK = 64 * 1024


async def pump(stream: asyncio.StreamReader, log: logging.Logger, probe: str, repeats: LogLimiter) -> None:
    """Read *stream* to its end; log new lines and skip the rest."""
    rest = b""
    while chunk := await stream.read(CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-CHUNK:]
        for line in lines[:LINES_PER_HOUR]:
            _log(line, log, probe, repeats)
        await asyncio.sleep(len(chunk) / BYTES_PER_SECOND)
    if rest:
        _log(rest, log, probe, repeats)


def _log(line: bytes, log: logging.Logger, probe: str, repeats: LogLimiter) -> None:
    text = line[:LONGEST_LINE].decode(errors="replace").strip()
    if text and repeats.worth_saying(text) is not None:
        log.info("probe printed", extra={"probe": probe, "line": text})
