"""An explanation for people: the findings, the meaning, the commands, the act and the end."""

import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlopsd.cli.runbook import QUERY, Section
from mlopsd.cli.systemctl import has_systemd
from mlopsd.cli.terminal.text import paint, sanitize

OF_SYSTEMD = frozenset({"systemctl", "journalctl", "systemd-cgtop", "timedatectl"})
OWN = "mlopsd"  # may run from a virtual environment that is not on the PATH
LABEL = 10  # columns of "Confirm" and a gap
GPUS = "N"  # the index of a GPU
SYSTEMCTL = re.compile(r"`systemctl (start|stop|restart|reload) ([\w-]+)`")
POINT = re.compile(r"- `([a-z_]+)`:")
AND_THEN = re.compile(r";\s+")


@dataclass(frozen=True)
class Explanation:
    """A section of the runbook for this host.

    Attributes:
        findings: the findings with their probes, as the daemon shows them; none if only a section is meant.
        section: the section; its name is "" if no runbook has one.
        words: the values of the words in capitals, as far as they are known; several if the findings differ.
        advice: the advice of the findings.
        is_here: the commands are for this host; another host may have other programs.
    """

    findings: Sequence[Mapping[str, Any]]
    section: Section
    words: Mapping[str, Sequence[str]]
    advice: frozenset[str]
    is_here: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        section = self.section
        return {
            "findings": self.findings,
            "section": section.name,
            "means": section.means,
            "look": self.commands[0],
            "do": self.act,
            "ends": section.ends,
        }

    @property
    def commands(self) -> tuple[list[str], list[str]]:
        """The commands that the host has, filled in, and the programs that it lacks."""
        here, missing = [], []
        for line in self.section.look:
            if line.startswith("#") or QUERY.match(line):
                here += _fill(line, self.words)
                continue
            parts = {part: _lacks(part) if self.is_here else None for part in AND_THEN.split(line)}
            missing += [program for program in parts.values() if program is not None]
            if kept := [part for part, program in parts.items() if program is None]:
                here += _fill("; ".join(kept), self.words, quoted=True)
        return here, list(dict.fromkeys(missing))

    @property
    def act(self) -> list[str]:
        """The steps that help, filled in."""
        return [text for line in _relevant(self.section.act, self.advice) for text in self.fill(line)]

    def fill(self, text: str) -> list[str]:
        """Return *text* filled in, and without systemctl where systemd does not run."""
        if self.is_here and not has_systemd():
            text = SYSTEMCTL.sub(r"\1 \2", text)
        return _fill(text, self.words)


def format_explanation(explanation: Explanation, width: int, *, coloured: bool) -> str:
    """Return the explanation in lines of at most *width* columns; a command is never wrapped."""
    lines = [line for finding in explanation.findings for line in _head(finding, width, coloured=coloured)]
    section = explanation.section
    if not section.name:
        return "\n".join([*lines, "no runbook explains it; see the page of its probe"])
    here, missing = explanation.commands
    lines += _part("Means", explanation.fill(section.means), width)
    lines += [f"{'Confirm' if first else '':{LABEL}}{line}" for first, line in _numbered(here)]
    if missing:
        lines += _part("" if here else "Confirm", [f"(not on this host: {', '.join(missing)})"], width)
    lines += _part("Do", explanation.act, width)
    lines += _part("Ends", explanation.fill(section.ends), width)
    lines += _part("Runbook", [section.name], width)
    return "\n".join(lines)


def _head(finding: Mapping[str, Any], width: int, *, coloured: bool) -> Iterator[str]:
    """Yield the finding, its status and its advice."""
    status, advice = sanitize(finding["status"]), sanitize(finding.get("advice", "none"))
    name = sanitize(" ".join(filter(None, (f"{finding['probe']}.{finding['name']}", finding.get("subject")))))
    act = f"  advice: {advice}" if advice != "none" else ""
    yield f"{name}  {paint(status, status, coloured=coloured)}{act}"
    yield from textwrap.wrap(sanitize(finding["summary"]), width, initial_indent="  ", subsequent_indent="  ")


def _part(label: str, paragraphs: Sequence[str], width: int) -> Iterator[str]:
    """Yield *paragraphs* in a column beside *label*."""
    for first, text in _numbered([text for text in paragraphs if text]):
        lead = f"{label if first else '':{LABEL}}"
        hang = " " * (LABEL + 2 * text.startswith("- "))
        yield from textwrap.wrap(
            text, width, initial_indent=lead, subsequent_indent=hang, break_on_hyphens=False
        )


def _numbered(lines: Sequence[str]) -> list[tuple[bool, str]]:
    return [(number == 0, line) for number, line in enumerate(lines)]


def _relevant(act: Sequence[str], advice: frozenset[str]) -> list[str]:
    """Return the points of a list for *advice* only, and what is no such point.

    Without any finding every point is shown; a point for other advice never is.
    """
    points = [(line, found and found[1]) for line in act for found in [POINT.match(line)]]
    return [line for line, of in points if of is None or not advice or of in advice]


def _lacks(command: str) -> str | None:
    """Return the first program of *command* if this host cannot run it."""
    program = command.split(maxsplit=1)[0]
    cannot = program in OF_SYSTEMD and not has_systemd()
    return program if cannot or (shutil.which(program) is None and program != OWN) else None


def _fill(text: str, words: Mapping[str, Sequence[str]], *, quoted: bool = False) -> list[str]:
    """Return *text* with the known words in capitals replaced, once for each value of a word.

    nvidia-smi takes several GPUs at once. A value cannot control the terminal nor, if *quoted*, the shell.
    """
    filled = [text]
    for word, values in words.items():
        shown = [",".join(values)] if word == GPUS else values
        pattern = re.escape(word) if "://" in word else rf"(?<![A-Z_-]){word}(?![A-Z_])"
        filled = [
            re.sub(pattern, _literal(value, quoted=quoted and "://" not in word), line)
            for line in filled
            for value in (shown if re.search(pattern, line) else [""])
        ]
    return filled


def _literal(value: str, *, quoted: bool) -> str:
    """Return *value* for `re.sub`, on one line, and quoted for a shell if it must be."""
    plain = sanitize(value)
    return (shlex.quote(plain) if quoted else plain).replace("\\", r"\\")
