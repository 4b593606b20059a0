"""A server that answers as S3 does for the files of one folder, straight from the disk.

moto reads a whole object for each range of it, so it is no store for a large file.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from typing_extensions import override

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class StaticS3(ThreadingHTTPServer):
    """Serves *folder*, whose folders are buckets; *etags* are the ETags of files, by their paths in it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, etags: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.folder = folder
        self.etags = etags
        self.sent = 0
        self.lock = threading.Lock()

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(folder: Path, etags: Mapping[str, str]) -> Iterator[StaticS3]:
    """Run a server of *folder*."""
    with StaticS3(folder, etags) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Request(BaseHTTPRequestHandler):
    server: StaticS3
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            self._list(parts.path.strip("/"), query.get("prefix", [""])[0])
        else:
            self._send(parts.path.strip("/"))

    def _list(self, bucket: str, prefix: str) -> None:
        found = "".join(
            f"<Contents><Key>{escape(f'{prefix}{path.name}')}</Key><Size>{path.stat().st_size}</Size></Contents>"
            for path in sorted((self.server.folder / bucket / prefix).iterdir())
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, name: str) -> None:
        etag = self.server.etags[name]
        with (self.server.folder / name).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            asked = RANGE.fullmatch(self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            stop = min(int(asked[2]) + 1, size) if asked and asked[2] else size
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            for key, value in (("ETag", etag), ("Accept-Ranges", "bytes"), ("Content-Length", stop - start)):
                self.send_header(key, str(value))
            self.end_headers()
            if self.command == "GET":
                self._send_bytes(stream.fileno(), start, stop)

    def _send_bytes(self, descriptor: int, start: int, stop: int) -> None:
        self.wfile.flush()
        while start < stop:
            sent = os.sendfile(self.connection.fileno(), descriptor, start, min(stop - start, 1 << 20))
            start += sent
            with self.server.lock:
                self.server.sent += sent

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""
