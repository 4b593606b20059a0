"""A server that has its answer ready: what the benchmark's own client can ask at most.

``python -m bench.constant PORT`` answers each piece that comes, so only requests that come in one go.
"""

import asyncio
import sys
from typing import cast

from typing_extensions import override

CONTENT = b'{"predictions": [151.0]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT)


class Constant(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Answer, whatever the request says."""
        self._transport.write(ANSWER)


async def main() -> None:
    """Answer for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Constant, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
