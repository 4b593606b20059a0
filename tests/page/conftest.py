"""A daemon whose probes say what a file says, and a browser to look at it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.installed import installed
from tests.page.browser import Browser
from tests.page.scenes import SCENES, play, tables
from tests.running import Running

Start = Callable[..., Running]
Play = Callable[[str], None]
STRANGE = Path(__file__).parents[1] / "strange"


def steered(folder: Path, *arguments: str, interval: float = 0.2) -> Running:
    """A daemon with the probes gpu, model and system, which say what the files in *folder* say."""
    play(folder, "healthy")
    text = tables(folder, *SCENES["healthy"], interval=interval)
    environment = installed(folder, {"steered": "steered:Steered"}, STRANGE, name="steered")
    return Running(folder, text, *arguments, environment=environment)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a daemon that the test may stop, hang or configure as it likes."""
    return partial(steered, tmp_path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all tests that only change what its probes say."""
    with steered(tmp_path_factory.mktemp("host")) as daemon:
        yield daemon


@pytest.fixture
def scene(shared: Running) -> Play:
    """Plays a scene and waits until the shared daemon has seen it."""

    def show(name: str) -> None:
        play(shared.folder, name)
        shared.until("/health/", lambda reported: reported["status"] == name)

    return show


@pytest.fixture
def daemon(shared: Running, scene: Play) -> Running:
    """The shared daemon, in the scene "healthy"."""
    scene("healthy")
    return shared


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
