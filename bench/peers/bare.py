"""The daemon's own answers from aiohttp and nothing else: what the library under the daemon allows here."""

import sys
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from bench.door import ROOT
from bench.server import Server
from tests.running import free_port

PACKED = ".gz"


class Bare(Server):
    """Serves *pages*, by their path; those in *packed* go out as those bytes, whoever asks."""

    def __init__(self, room: Path, pages: Mapping[str, bytes], packed: Mapping[str, bytes]) -> None:
        room.mkdir(parents=True)
        port = free_port()
        command = [sys.executable, "-m", "bench.peers.bare", str(port)]
        for number, (path, page) in enumerate(pages.items()):
            file = room / f"page{number}{PACKED if path in packed else ''}"
            file.write_bytes(packed.get(path, page))
            command += [path, str(file)]
        super().__init__(command, port, room / "log", {"PYTHONPATH": str(ROOT)})


def main(port: str, *pages: str) -> None:
    """Serve on *port*; *pages* are each a path and its file."""
    app = web.Application()
    for path, file in zip(pages[::2], pages[1::2], strict=True):
        app.router.add_get(path, _handler(Path(file)))
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None)


def _handler(file: Path) -> Handler:
    body = file.read_bytes()
    headers = {"Content-Type": "text/plain"}
    if file.suffix == PACKED:
        headers["Content-Encoding"] = "gzip"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
