"""Probes that print and log in every way, also their token; imported by name."""

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence

from pydantic import SecretStr

from mlopsd.probe import Finding, HttpRequest, HttpResponse, Options, Probe, Reading, Route, Status
from mlopsd.threads import in_thread

library = logging.getLogger("acme.client")


class TalkingOptions(Options):
    token: SecretStr = SecretStr("")


class Talker(Probe[TalkingOptions]):
    """Says the same at every check: a token, if its table has one."""

    def check(self) -> Reading:
        token = self.options.token.get_secret_value()
        print(f"printed {token}")
        print(f"to standard error {token}", file=sys.stderr)
        sys.stdout.buffer.write(f"as bytes {token}\nin two ".encode())
        print(f"parts {token}")
        self.context.log.info("looked", extra={"door": f"shut {token}", "steps": 7})
        self.context.log.getChild("net").warning(f"asked {token}")
        library.warning("retried %s", token)
        library.info("too quiet to be heard")
        self.context.log.info("%d doors", token or "no")
        self.log_failure(token)
        raise LookupError(f"no door for {token}")

    def log_failure(self, token: str) -> None:
        try:
            self.log_in(token)
        except RuntimeError:
            library.exception("login failed")

    def log_in(self, token: str) -> None:
        raise RuntimeError(f"login failed with {token}")

    def reload(self, *, dry_run: bool, force: bool) -> str:
        print("reloading")
        return "reloaded"


class AsyncTalker(Talker):
    """The same as a coroutine."""

    async def check(self) -> Reading:  # type: ignore[override]
        await asyncio.sleep(0)
        return Talker.check(self)


class Helped(Probe):
    """Prints in a task, in the daemon's thread, in one of its own, and in a route."""

    async def check(self) -> Reading:
        await asyncio.create_task(self.step())
        await in_thread("helper", lambda: print("from a helper"))
        await in_thread("own thread", self.in_own_thread)
        return Reading([Finding("door", Status.HEALTHY, "the door is shut")])

    async def step(self) -> None:
        print("from a task")

    def in_own_thread(self) -> None:
        thread = threading.Thread(target=self.talk_unknown)
        thread.start()
        thread.join()

    def talk_unknown(self) -> None:
        print("from nobody known")
        self.context.log.getChild("own").info("logged by a thread")

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/door", self.door, "The door", access="read")]

    async def door(self, _request: HttpRequest) -> HttpResponse:
        print("from a route")
        return HttpResponse()
