"""A daemon whose probes say what a file says, and a browser to look at it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.page.browser import Browser
from tests.page.scenes import play, tables
from tests.running import Running

Start = Callable[..., Running]


def installed(folder: Path, strange: Path) -> dict[str, str]:
    """An environment in which the probe `steered` is installed."""
    about = folder / "site" / "steered-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: steered\nVersion: 1\n", "ascii")
    (about / "entry_points.txt").write_text("[mlopsd.probes]\nsteered = steered:Steered\n", "ascii")
    return {"PYTHONPATH": f"{about.parent}{os.pathsep}{strange}"}


@pytest.fixture
def start(strange_path: Path, tmp_path: Path) -> Start:
    """Starts a daemon with the probes gpu, model and system in the scene "healthy"."""
    environment = installed(tmp_path, strange_path)
    play(tmp_path, "healthy")

    def begin(*arguments: str, interval: float = 0.2) -> Running:
        text = tables(tmp_path, "gpu", "model", "system", interval=interval)
        return Running(tmp_path, text, *arguments, environment=environment)

    return begin


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[str], None]:
    """Plays a scene."""
    return lambda name: play(tmp_path, name)


@pytest.fixture
def daemon(start: Start) -> Iterator[Running]:
    with start() as running:
        yield running


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests: its start costs more than they do."""
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Browser:
    """A window of 1280 pixels on an empty page, without a past."""
    window.tell("Emulation.setScriptExecutionDisabled", value=False)
    window.prefer()
    window.resize(1280)
    window.go("about:blank")
    window.asked.clear()
    window.complaints.clear()
    return window
