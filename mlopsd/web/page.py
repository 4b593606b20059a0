"""The status page: plain HTML that is true without scripts, in one answer and with nothing from elsewhere."""

import base64
import hashlib
import socket
from collections.abc import Iterator
from datetime import datetime
from html import escape
from importlib.resources import files

from aiohttp import hdrs, web

from mlopsd.board import Board, Entry
from mlopsd.probe import Advice, Finding, Status
from mlopsd.web.about import About
from mlopsd.web.parts import Parts
from mlopsd.web.plain import time_text

MINUTE, HOUR, DAY = 60, 3600, 86400


class StatusPage:
    """Answers ``/``: the page for a browser, ``/info`` for anyone else."""

    def __init__(self, parts: Parts, about: About) -> None:
        self._parts = parts
        self._about = about
        self._host = socket.gethostname()
        self._style = files("mlopsd.web").joinpath("page.css").read_text("utf-8")
        self._headers = _headers(self._style)

    def answer(self, request: web.Request) -> web.Response:
        """The page, or the information that a program can read."""
        if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return web.Response(body=self.html().encode("utf-8", "replace"), headers=self._headers)
        response = self._about.info(request)
        response.headers[hdrs.VARY] = hdrs.ACCEPT
        return response

    def html(self) -> str:
        """The whole page."""
        status = self._parts.board.verdict.status
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{status} · {escape(self._host)}</title>\n<style>{self._style}</style>\n</head>\n<body>\n"
            f'{self._header()}\n<main class="cards">\n{"".join(self._cards())}</main>\n{self._footer()}\n'
            "</body>\n</html>\n"
        )

    def _header(self) -> str:
        verdict = self._parts.board.verdict
        stopping = "<p><strong>The daemon is stopping.</strong></p>" if self._parts.draining() else ""
        return (
            f'<header class="host {verdict.status}">\n'
            f"<h1>{escape(self._host)} is {_word(verdict.status)}</h1>\n"
            f"<p>{escape(verdict.summary)}</p>\n{_advice(verdict.advice)}{stopping}\n"
            f'<p class="soft">{verdict.status} since {_moment(verdict.since)}</p>\n</header>'
        )

    def _cards(self) -> Iterator[str]:
        board = self._parts.board
        for entry in sorted(board, key=lambda entry: (-entry.status, entry.probe)):
            yield _card(board, entry)

    def _footer(self) -> str:
        info = self._parts.info()
        trouble = info.reload_error
        told = f"<p>The configuration could not be reloaded: {escape(trouble)}</p>" if trouble else ""
        return (
            f"<footer>{told}<p>mlopsd {escape(info.version)}, {info.mode}; as of "
            f"{_moment(self._parts.board.now())}. This page does not renew itself.</p>\n"
            '<nav aria-label="For programs"><a href="/health/detailed">all readings</a> · '
            '<a href="/metrics">metrics</a> · <a href="/info">about</a> · '
            '<a href="/openapi.json">the API</a></nav></footer>'
        )


def _card(board: Board, entry: Entry) -> str:
    name = escape(entry.probe)
    findings = "".join(map(_finding, sorted(entry.reading.findings, key=lambda finding: -finding.status)))
    return (
        f'<article class="{entry.status}" aria-labelledby="probe-{name}">\n'
        f'<h2 id="probe-{name}"><a href="/health/{name}">{name}</a> {_word(entry.status)}</h2>\n'
        f"<p>{escape(entry.reading.summary)}</p>\n{_damping(entry)}"
        f'<p class="soft">{_checked(board, entry)}; {entry.status} since {_moment(entry.since)}</p>\n'
        f"{f'<ul>{findings}</ul>' if findings else ''}\n</article>\n"
    )


def _finding(finding: Finding) -> str:
    subject = f" ({escape(finding.subject)})" if finding.subject else ""
    return (
        f"<li>{_word(finding.status)} {escape(finding.name)}{subject}: {escape(finding.summary)}"
        f"{_advice(finding.advice)}</li>"
    )


def _damping(entry: Entry) -> str:
    """Why the status shown is not the one of the last reading, where they differ."""
    if entry.checked_at is None or entry.reading.status == entry.status:
        return ""
    worse = entry.reading.status > entry.status
    needed = entry.terms.fail_after if worse else entry.terms.recover_after
    said = f"{entry.streak} of {needed} readings in a row {entry.reading.status}"
    return f"<p>Still {entry.status}: {said} so far.</p>\n"


def _checked(board: Board, entry: Entry) -> str:
    age = board.age(entry)
    if age is None or entry.checked_at is None:
        return "not checked yet"
    took = "" if entry.duration is None else f", took {entry.duration:.3g} s"
    return f'checked <time datetime="{time_text(entry.checked_at)}">{age_text(age)} ago</time>{took}'


def age_text(seconds: float) -> str:
    """*seconds* as people say it, in the largest unit that it fills."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def _word(status: Status) -> str:
    return f'<span class="word {status}">{status}</span>'


def _advice(advice: Advice) -> str:
    words = str(advice).replace("_", " ")
    return "" if advice == Advice.NONE else f"<p>Advice: <strong>{words}</strong></p>"


def _moment(moment: datetime) -> str:
    text = time_text(moment)
    return f'<time datetime="{text}">{text[:19].replace("T", " ")} UTC</time>'


def _headers(style: str) -> dict[str, str]:
    """The page may use its own style, known by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept",
    }
