"""The pages of Swagger UI and Redoc, in debug mode, from the files of an installed package."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from mlopsd.web.api.problem import Problem

PACKAGE = "aiohttp_swagger3"  # provides the files; never imported
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; worker-src blob:; base-uri 'none'; frame-ancestors 'none'"
)
"""Both viewers add styles to the page at run time. Scripts come only from this process."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The page of one viewer.

    Attributes:
        name: The path of the page, without a slash.
        folder: The folder of its files in the package.
        files: The files that the page needs.
        start: The script that shows the description in the element ``viewer``.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    start: str

    def html(self) -> str:
        """Return the page, which loads its files from below its own path."""
        styles = self._each(".css", '<link rel="stylesheet" href="{}">')
        icons = self._each(".png", '<link rel="icon" href="{}">')
        scripts = self._each(".js", '<script src="{}"></script>')
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>mlopsd API</title>\n{styles}{icons}\n</head>\n<body>\n"
            f'<div id="viewer"></div>\n{scripts}<script src="/{self.name}/start.js"></script>\n'
            "</body>\n</html>\n"
        )

    def _each(self, ending: str, tag: str) -> str:
        return "".join(tag.format(f"/{self.name}/{file}") for file in self.files if file.endswith(ending))


SWAGGER = Viewer(
    "docs",
    "swagger_ui",
    ("swagger-ui.css", "favicon-32x32.png", "swagger-ui-bundle.js"),
    'SwaggerUIBundle({url: "/openapi.json", dom_id: "#viewer", deepLinking: true, validatorUrl: null});\n',
)
REDOC = Viewer(
    "redoc",
    "redoc_ui",
    ("favicon-32x32.png", "redoc.standalone.js"),
    'Redoc.init("/openapi.json", {disableSearch: false}, document.getElementById("viewer"));\n',
)


class Docs:
    """The handlers of the viewers' pages and files. Each request calls *debug* for the current mode."""

    def __init__(self, debug: Callable[[], bool]) -> None:
        self._debug = debug

    def swagger(self, _request: web.Request) -> web.Response:
        """Return the page of Swagger UI."""
        return self._page(SWAGGER)

    def redoc(self, _request: web.Request) -> web.Response:
        """Return the page of Redoc."""
        return self._page(REDOC)

    def swagger_file(self, request: web.Request) -> web.Response:
        """Return a file of Swagger UI."""
        return self._file(SWAGGER, request.match_info["file"])

    def redoc_file(self, request: web.Request) -> web.Response:
        """Return a file of Redoc."""
        return self._file(REDOC, request.match_info["file"])

    def _page(self, viewer: Viewer) -> web.Response:
        self._folder(viewer)
        return _response(viewer.html().encode(), "text/html; charset=utf-8")

    def _file(self, viewer: Viewer, name: str) -> web.Response:
        folder = self._folder(viewer)
        if name == "start.js":
            return _response(viewer.start.encode(), TYPES[".js"])
        if name not in viewer.files:
            raise Problem(404, f"no such file in /{viewer.name}; see the page for its files")
        return _response((folder / name).read_bytes(), TYPES[Path(name).suffix])

    def _folder(self, viewer: Viewer) -> Path:
        """Return the folder of the files of *viewer*.

        Raises:
            Problem: 404, debug mode is off, or the package is not installed.
        """
        if not self._debug():
            raise Problem(404, f"/{viewer.name} needs debug mode; run with --debug")
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise Problem(404, f"the files of /{viewer.name} are not installed; pip install 'mlopsd[dev]'")
        return Path(spec.submodule_search_locations[0]) / viewer.folder


def _response(body: bytes, content_type: str) -> web.Response:
    headers = {
        "Content-Type": content_type,
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(body=body, headers=headers)
