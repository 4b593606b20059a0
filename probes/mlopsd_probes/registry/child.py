"""The process of one registry: ``python -m mlopsd_probes.registry.child FD PARENT``, with MLflow's client.

It has the credentials of this registry alone, and never runs code of a model. Each request has a thread, so
that one which waits does not delay the others. The daemon holds the clocks, and kills it if it is too slow.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from mlopsd.process.frames import receive, send
from mlopsd.process.setup import open_channel
from mlopsd_probes.registry.modules import sentence
from mlopsd_probes.registry.slim import without_libraries_of_models

if TYPE_CHECKING:
    from mlopsd_probes.registry.resolver import Resolver

Send = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Answer until the daemon closes the channel."""
    with open_channel(has_secrets=True) as channel, channel.makefile("rb") as incoming:
        if (opening := receive(incoming)) is not None:
            os.environ.update(opening["environment"])
            _answer(channel, incoming, opening)


def _answer(channel: socket.socket, incoming: BinaryIO, opening: Mapping[str, Any]) -> None:
    try:
        with without_libraries_of_models():
            from mlopsd_probes.registry.redirects import RedirectGuard  # noqa: PLC0415  # imports requests: slow
            from mlopsd_probes.registry.resolver import Resolver  # noqa: PLC0415  # imports MLflow: slow
    except ImportError as error:
        send(channel, {"fault": {"kind": "import_error", "reason": sentence(error)}})
        return
    guard = RedirectGuard(opening["redirect_hosts"])
    guard.install()
    sending = threading.Lock()

    def reply(header: Mapping[str, Any]) -> None:
        with sending:
            send(channel, header)

    resolver = Resolver(opening, reply, guard)
    reply({"ready": True})
    while (question := receive(incoming)) is not None:
        threading.Thread(target=_reply_to, args=(question, resolver, reply), daemon=True).start()


def _reply_to(question: Mapping[str, Any], resolver: "Resolver", reply: Send) -> None:
    with contextlib.suppress(OSError):  # the channel is closed, by the daemon or since this process ends
        reply({"id": question["id"], **resolver.answer(question)})


if __name__ == "__main__":
    main()
