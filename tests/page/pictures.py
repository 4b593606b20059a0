"""Takes a picture of each scene, narrow and wide, light and dark: python -m tests.page.pictures FOLDER."""

import sys
import tempfile
from pathlib import Path

from tests.page.browser import Browser
from tests.page.conftest import steered
from tests.page.scenes import SCENES, play
from tests.running import Running


def main(target: Path) -> None:
    """Takes them all."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with steered(folder) as daemon, Browser(folder / "chromium") as browser:
            for scene in SCENES:
                show(folder, daemon, scene)
                pictures(browser, daemon, target, scene)
            daemon.stop()
            browser.until("document.body.dataset.state === 'silent'")
            browser.picture(target / "silent-360-dark.png")


def show(folder: Path, daemon: Running, scene: str) -> None:
    """Play *scene* until the daemon has seen it."""
    play(folder, scene)
    daemon.until("/health/", lambda reported: reported["status"] == scene)


def pictures(browser: Browser, daemon: Running, target: Path, scene: str) -> None:
    for width in (1600, 360):
        for scheme in ("light", "dark"):
            browser.resize(width)
            browser.prefer(prefers_color_scheme=scheme)
            browser.go(f"http://127.0.0.1:{daemon.port}/")
            browser.picture(target / f"{scene}-{width}-{scheme}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
