"""The status page: one answer with nothing from elsewhere, true without scripts, kept current by its own."""

import base64
import hashlib
import operator
import secrets
import socket
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from aiohttp import hdrs, web

from mlopsd.entry import Entry
from mlopsd.web.api.info import About
from mlopsd.web.context import ReloadLike, WebContext
from mlopsd.web.page.card import card
from mlopsd.web.page.markup import advice_line, moment, since, text, word

STYLE, SCRIPT = (  # read now: the loop waits for no disk
    files("mlopsd.web.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
)
MADE = hashlib.sha256((STYLE + SCRIPT).encode()).hexdigest()[:16]


class StatusPage:
    """Answers ``/``: the page for a browser, ``/info`` for anyone else."""

    def __init__(self, parts: WebContext, about: About) -> None:
        self._parts = parts
        self._about = about
        self._host = socket.gethostname()
        self._press = secrets.token_hex(4)  # another page object counts its editions anew
        self._edition = 0
        self._said: object = None
        self._entries: Sequence[Entry] = ()

    def answer(self, request: web.Request) -> web.Response:
        """The page, 304 where nothing but ages has changed, or the information that a program can read."""
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            response = self._about.info(request)
            response.headers[hdrs.VARY] = hdrs.ACCEPT
            return response
        seal = self._seal()
        headers = HEADERS | {hdrs.ETAG: f'W/"{seal}"'}
        if any(known.value == seal for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.html().encode("utf-8", "replace"), headers=headers)

    def html(self) -> str:
        """The whole page."""
        board = self._parts.board
        host = escape(self._host)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{board.verdict.status} · {host}</title>\n<style>{STYLE}</style>\n</head>\n"
            f'<body data-host="{host}" data-made="{MADE}" data-now="{board.now().timestamp() * 1000:.0f}">\n'
            '<a class="skip" href="#probes">Skip to the probes</a>\n'
            f'{self._renewal()}\n{self._header()}\n<main id="probes" tabindex="-1" aria-label="Probes">\n'
            f"{''.join(self._cards())}</main>\n{self._footer()}\n"
            f'<p id="news" class="unseen" role="status"></p>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
        )

    def _renewal(self) -> str:
        """What is true until the script has begun its work, and for ever where it does not."""
        return (
            '<section id="renewal" aria-label="How current this page is">\n'
            f"<p>As of {moment(self._parts.board.now())}. "
            "Without scripts this page does not renew itself: reload it.</p>\n</section>"
        )

    def _header(self) -> str:
        board = self._parts.board
        verdict, status = board.verdict, board.verdict.status
        stopping = "<p><strong>The daemon is stopping.</strong></p>\n" if self._parts.draining() else ""
        return (
            f'<header id="host" class="{status}" data-name="the host" data-status="{status}">\n'
            f'<h1>{escape(self._host)} <span class="is">is</span> {word(status)}</h1>\n'
            f"{advice_line(verdict.advice)}<p>{text(verdict.summary)}</p>\n{stopping}"
            f"<p>{status} since {since(verdict.since, board.now())}</p>\n</header>"
        )

    def _cards(self) -> Iterator[str]:
        board, reloads = self._parts.board, dict(self._reloads())
        for entry in sorted(board, key=lambda entry: (-entry.status, entry.probe)):
            yield card(board, entry, reloads.get(entry.probe))

    def _footer(self) -> str:
        info = self._parts.info()
        trouble = info.reload_error
        told = f"<p>The configuration could not be reloaded: {text(trouble)}</p>\n" if trouble else ""
        return (
            f'<footer id="about">\n{told}<p>mlopsd {text(info.version)}, {info.mode}</p>\n'
            '<nav aria-label="For programs"><a href="/health/detailed">all readings</a> '
            '<a href="/metrics">metrics</a> <a href="/info">about</a> '
            '<a href="/openapi.json">the API</a></nav>\n</footer>'
        )

    def _reloads(self) -> Iterator[tuple[str, ReloadLike]]:
        for name, watch in self._parts.watches().items():
            if watch.reload is not None:
                yield name, watch.reload

    def _seal(self) -> str:
        """Another one when the page is another one, ages aside; entries are replaced and never changed."""
        reloads = [(name, reload.started_at, reload.done.done()) for name, reload in self._reloads()]
        said = (self._parts.draining(), self._parts.info(), self._parts.board.verdict, reloads)
        entries = tuple(self._parts.board)
        if said != self._said or not _same(entries, self._entries):
            self._said, self._entries = said, entries
            self._edition += 1
        return f"{self._press}-{self._edition}"


def _same(entries: Sequence[Entry], known: Sequence[Entry]) -> bool:
    return len(entries) == len(known) and all(map(operator.is_, entries, known))


def _source(code: str) -> str:
    """*code* as a content security policy knows it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may use its own style and its own script, known by their hashes, and ask this very server."""

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}
