"""The page as it goes over the wire: of parts, so that only the part that changed is made again."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aioprometheus.collectors import Collector

from mlopsd.metrics.exposition import Dialect
from mlopsd.metrics.family import Mark, Written
from mlopsd.metrics.formatter import Formatter

_GZIP_HEAD = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255))  # RFC 1952: deflate, no time, fastest, any system
_DEFLATE_END = bytes((3, 0))  # RFC 1951: a last block with nothing in it
_LEVEL = 1  # 2000 lines: 0.9 ms and 28 kB; level 6 takes 2.5 ms for 22 kB


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to a scrape."""

    body: bytes
    headers: Mapping[str, str]


class Section:
    """Families that change together. A collector of aioprometheus that is not `Written` is a constant.

    Attributes:
        mark: has another number whenever one of them has changed.
    """

    def __init__(self, name: str, *collectors: Collector) -> None:
        self.name = name
        self.collectors: list[Collector] = []
        self.mark = Mark()
        for collector in collectors:
            self.add(collector)

    def add(self, collector: Collector) -> None:
        """Show the family of *collector* as well."""
        self.collectors.append(collector)
        if isinstance(collector, Written):
            collector.mark = self.mark
        self.mark.set()

    def remove(self, collector: Collector) -> None:
        """Show the family of *collector* no more, if it was."""
        self.collectors = [one for one in self.collectors if one is not collector]
        self.mark.set()


class Piece:
    """The bytes of one part, and what they are in the gzip member that holds them all.

    *deflated* ends in a full flush: it looks back at nothing, so it may follow any other piece.
    """

    __slots__ = ("_after", "_before", "_deflated", "plain", "stamp")

    def __init__(self, stamp: int, plain: bytes) -> None:
        self.stamp = stamp
        self.plain = plain
        self._deflated: bytes | None = None
        self._before = -1  # the checksum of all that stood before, when _after was computed
        self._after = 0

    def deflated(self, deflate: "Deflate") -> bytes:
        """The piece compressed, once."""
        if self._deflated is None:
            self._deflated = deflate(self.plain)
        return self._deflated

    def checksum(self, before: int) -> int:
        """The CRC-32 up to the end of this piece, given the one up to its start."""
        if before != self._before:
            self._before, self._after = before, zlib.crc32(self.plain, before)
        return self._after


class Deflate:
    """One raw deflate stream for every piece: to set one up costs more than to compress a small piece."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)

    def __call__(self, plain: bytes) -> bytes:
        """*plain* compressed, up to a full flush."""
        return self._stream.compress(plain) + self._stream.flush(zlib.Z_FULL_FLUSH)


class Pages:
    """The page in one dialect, with and without gzip.

    Attributes:
        made: how many pieces were written out so far; it stands still while nothing changes.
    """

    def __init__(self, dialect: Dialect, parts: Sequence[Section], deflate: Deflate) -> None:
        self._formatter = Formatter(dialect)
        self._parts = parts
        self._deflate = deflate
        self._pieces: dict[str, Piece] = {}
        self._end = Piece(0, self._formatter.end.encode())
        self._shown: tuple[bool, list[int], Page] | None = None
        self._headers = {gzip: self._written_headers(gzip=gzip) for gzip in (False, True)}
        self.made = 0

    def page(self, *, gzip: bool) -> Page:
        """The page as of now; the very same one while nothing has changed."""
        stamps = [part.mark.number for part in self._parts]
        if self._shown is not None and self._shown[:2] == (gzip, stamps):
            return self._shown[2]
        pieces = [*map(self._piece, self._parts), self._end]
        page = Page(self._body(pieces, gzip=gzip), self._headers[gzip])
        self._shown = gzip, stamps, page  # one body at a time: a host has one scraper, or two alike
        return page

    def _piece(self, part: Section) -> Piece:
        piece = self._pieces.get(part.name)
        stamp = part.mark.number  # before the text: what is counted meanwhile shows next time
        if piece is None or piece.stamp != stamp:
            text = "".join(map(self._formatter.marshall_collector, part.collectors))
            piece = self._pieces[part.name] = Piece(stamp, text.encode())
            self.made += 1
        return piece

    def _body(self, pieces: Iterable[Piece], *, gzip: bool) -> bytes:
        if not gzip:
            return b"".join(piece.plain for piece in pieces)
        members, checksum, size = [_GZIP_HEAD], 0, 0
        for piece in pieces:
            members.append(piece.deflated(self._deflate))
            checksum = piece.checksum(checksum)
            size += len(piece.plain)
        return b"".join((*members, _DEFLATE_END, struct.pack("<LL", checksum, size & 0xFFFFFFFF)))

    def _written_headers(self, *, gzip: bool) -> Mapping[str, str]:
        headers = self._formatter.get_headers() | {"Vary": "Accept, Accept-Encoding"}
        return headers | {"Content-Encoding": "gzip"} if gzip else headers
