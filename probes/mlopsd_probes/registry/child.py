"""The process of one registry: ``python -m mlopsd_probes.registry.child FD PARENT``, with MLflow's client.

It has the credentials of this registry alone, answers one request at a time, and never runs code of a model.
The daemon holds the clocks, and kills it if it is too slow.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any, BinaryIO

from mlopsd.process.frames import receive, send
from mlopsd.process.setup import open_channel
from mlopsd_probes.registry.modules import sentence
from mlopsd_probes.registry.slim import without_libraries_of_models


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
    resolver = Resolver(opening, lambda header: send(channel, header), guard)
    send(channel, {"ready": True})
    while (question := receive(incoming)) is not None:
        send(channel, {"id": question["id"], **resolver.answer(question)})


if __name__ == "__main__":
    main()
