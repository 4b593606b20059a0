"""Takes a picture of the page in each status: python -m tests.page.pictures FOLDER.

Narrow, middle and wide, light and dark. The README's picture is unhealthy-1440-light.png.
"""

import sys
import tempfile
from pathlib import Path

from tests.page.browser import Browser
from tests.page.filled import STATES, filled_host

WIDTHS = (360, 1024, 1440, 1600)


def main(target: Path, *states: str) -> None:
    """Takes them all."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Browser(Path(name) / "chromium") as browser:
        for state in states or STATES:
            with filled_host(Path(name) / state, state) as url:
                pictures(browser, url, target, state)


def pictures(browser: Browser, url: str, target: Path, state: str) -> None:
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            browser.resize(width)
            browser.prefer(prefers_color_scheme=scheme)
            browser.go(url)
            browser.picture(target / f"{state}-{width}-{scheme}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
