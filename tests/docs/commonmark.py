"""Markdown as a repository's pages have it, for Python-Markdown, which the site is built with."""

import re

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

BEFORE_FENCES = 40  # the site's own extension finds fences at 25, whitespace is normalised at 30
FENCE = re.compile(r" *(`{3,})")
ITEM = re.compile(r" *(?:[-*]|1\.) ")
NAMED = re.compile(r"^(```\w+) file=(\S+)$")


class Blocks(Preprocessor):
    """Separates blocks by an empty line where CommonMark needs none; names a fence by its file."""

    def run(self, lines: list[str]) -> list[str]:
        """Return *lines* for Python-Markdown."""
        return separate(lines)


class CommonMark(Extension):
    """The extension that the site's configuration names."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  # Python-Markdown's name
        """Add the preprocessor."""
        md.preprocessors.register(Blocks(md), "commonmark", BEFORE_FENCES)


def separate(lines: list[str]) -> list[str]:
    """Put an empty line before and after each list, table and fence."""
    found: list[str] = []
    closing = before = ""
    for line in lines:
        kind = "fence" if closing else _kind(line, before)
        if kind not in (before, "") and found and found[-1]:
            found.append("")
        found.append(NAMED.sub(r'\1 title="\2"', line))
        if closing:
            closing = "" if line.strip() == closing else closing
            before = kind if closing else "fence's end"
        else:
            closing = _opened(line)
            before = kind
    return found


def _opened(line: str) -> str:
    fence = FENCE.match(line)
    return fence[1] if fence else ""


def _kind(line: str, before: str) -> str:
    """Return the kind of the block that *line* belongs to; a list goes on until an empty line."""
    if not line.strip():
        return ""
    if FENCE.match(line):
        return "fence"
    if line.startswith("|"):
        return "table"
    if ITEM.match(line):
        return "list"
    return "list" if before == "list" else "text"


def makeExtension(**_: object) -> CommonMark:  # noqa: N802  # Python-Markdown's name
    """Return the extension, by the name that Python-Markdown looks for."""
    return CommonMark()
