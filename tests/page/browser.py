"""A real Chromium without a window, told what to do over the DevTools protocol.

The protocol goes over two pipes, as JSON ended by a NUL: no port, no driver and no package is needed.
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.running import GIVE_UP

ANSWER_SECONDS = GIVE_UP
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--no-proxy-server", "--hide-scrollbars"),
)


class Browser(AbstractContextManager["Browser"]):
    """One browser with one page; keeps all that the page asked for and all that it complained of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._rest = b""
        self.asked: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> "Browser":
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the protocol's descriptors
        command = ["chromium", *FLAGS, f"--user-data-dir={self._folder}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            self._open_page()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._out)  # which ends it
        try:
            self._process.wait(GIVE_UP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def tell(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its result.

        Raises:
            AssertionError: the browser refused it.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def go(self, url: str) -> None:
        """Load *url* and wait until all of it is there."""
        assert "errorText" not in self.tell("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def js(self, expression: str) -> Any:
        """The value of *expression* in the page.

        Raises:
            AssertionError: it threw something.
        """
        result = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = ANSWER_SECONDS) -> Any:
        """The value of *expression* as soon as it is true.

        Raises:
            AssertionError: it never was.
        """
        deadline = time.monotonic() + seconds
        while not (found := self.js(expression)):
            assert time.monotonic() < deadline, (expression, self.text("body"))
            time.sleep(0.05)
        return found

    def text(self, selector: str) -> str:
        """What is seen of the first *selector*, in one line."""
        found = self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return " ".join(found.split())

    def press(self, key: str) -> None:
        """A key of the keyboard, by its name."""
        code = {"Tab": 9, "Enter": 13, "Space": 32}[key]
        typed = {"Enter": "\r", "Space": " "}.get(key, "")
        press = {"key": typed if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.tell("Input.dispatchKeyEvent", type="keyDown", text=typed, **press)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **press)

    def resize(self, width: int, height: int = 900) -> None:
        """The window's inside, in CSS pixels."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, media: str = "", **features: str) -> None:
        """What the reader prefers: ``prefer(prefers_color_scheme="dark")``."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.tell("Emulation.setEmulatedMedia", media=media, features=wanted)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        taken = self.tell("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _open_page(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not (pages := self._pages()):
            assert time.monotonic() < deadline, "the browser opened no page"
            time.sleep(0.05)
        (page,) = pages
        attached = self.tell("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def _pages(self) -> list[dict[str, Any]]:
        return [one for one in self.tell("Target.getTargets")["targetInfos"] if one["type"] == "page"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            chunk = os.read(self._in, 1 << 16) if ready else b""
            assert chunk, f"the browser does not answer, exit status {self._process.poll()}"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: Mapping[str, Any]) -> None:
        given = event.get("params", {})
        notes: dict[str, Callable[[], None]] = {
            "Network.requestWillBeSent": lambda: self.asked.append(given["request"]["url"]),
            "Log.entryAdded": lambda: self.complaints.append(given["entry"]["text"]),
            "Runtime.exceptionThrown": lambda: self.complaints.append(str(given["exceptionDetails"])),
            "Runtime.consoleAPICalled": lambda: self.complaints.append(str(given["args"])),
        }
        notes.get(event.get("method", ""), lambda: None)()
