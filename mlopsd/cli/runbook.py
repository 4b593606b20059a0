"""The sections of the runbook, and of the runbooks that packages of probes bring."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from mlopsd.cli.install.files import read_shipped

PROBES = "mlopsd.probes"  # the entry-point group; mlopsd.config.plugins, which has it too, takes 0.2 s
OWN = "docs/operations/runbook.md"
PACKAGED = "runbook.md"  # in the folder of the package
SECTION = re.compile(r"^### (\S+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
PART = re.compile(r"\*\*(Means|Look|Do|Ends|Findings)\*\*\s*(.*?)(?=^\*\*|\Z)", re.MULTILINE | re.DOTALL)
FINDING = re.compile(r"`([\w-]+\.)?(\w+)`")
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
QUERY = re.compile(r"\w+(?: by)? ?[({]|\w+:\w")  # a line for Prometheus, not for a shell
FENCE = re.compile(r"(```|~~~)\n(.*?)\1", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A section of a runbook.

    Attributes:
        name: the name of its alert, or of what it explains.
        means: the meaning, one line.
        look: the commands that confirm it.
        act: what to do, one line for each paragraph or point of a list.
        ends: when it ends.
        findings: the findings that it explains, each with its plugin; "" for any plugin.
    """

    name: str
    means: str = ""
    look: tuple[str, ...] = ()
    act: tuple[str, ...] = ()
    ends: str = ""
    findings: frozenset[tuple[str, str]] = frozenset()


class Runbook:
    """The sections of all runbooks of this installation."""

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self.sections = sections

    def find(self, plugin: str, finding: str) -> Section | None:
        """Return the section of a finding: the one of its plugin, else one for any plugin."""
        for wanted in ((plugin, finding), ("", finding)):
            for section in self.sections.values():
                if wanted in section.findings:
                    return section
        return None


def read_runbook() -> Runbook:
    """Read the shipped runbook and those of the packages of probes.

    Raises:
        CommandError: This installation lacks its runbook.
    """
    texts = [read_shipped(OWN).decode("utf-8"), *_of_packages()]
    return Runbook({section.name: section for text in texts for section in parse(text)})


def parse(text: str) -> Iterator[Section]:
    """Yield the sections of a runbook in Markdown."""
    for name, body in SECTION.findall(text):
        parts = {part: content.strip() for part, content in PART.findall(body)}
        commands = FENCE.search(parts.get("Look", ""))
        findings = FINDING.findall(parts.get("Findings", ""))
        yield Section(
            name,
            _plain(parts.get("Means", "")),
            tuple(commands[2].splitlines()) if commands else (),
            tuple(map(_plain, _paragraphs(parts.get("Do", "")))),
            _plain(parts.get("Ends", "")),
            frozenset((plugin.removesuffix("."), finding) for plugin, finding in findings),
        )


def _of_packages() -> Iterator[str]:
    """Yield the runbook of each package of probes that has one, without importing it."""
    for package in sorted({point.module.partition(".")[0] for point in entry_points(group=PROBES)}):
        spec = importlib.util.find_spec(package)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            file = Path(folder, PACKAGED)
            if file.is_file():
                yield file.read_text("utf-8", "replace")


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs and the points of lists, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\n|\n(?=- )", text) if part.strip()]


def _plain(text: str) -> str:
    """Return Markdown as text: links without their targets."""
    return LINK.sub(r"\1", " ".join(text.split())).replace("**", "")
