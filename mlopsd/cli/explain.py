"""``mlopsd explain``: the meaning of a finding, the commands that confirm it, and the act, for this host."""

import json
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from mlopsd.cli.client import DaemonClient, DaemonUnreachable, add_connection_options, find_daemon
from mlopsd.cli.errors import CommandError, print_error
from mlopsd.cli.runbook import Runbook, Section, read_runbook
from mlopsd.cli.terminal.explanation import Explanation, format_explanation
from mlopsd.cli.terminal.text import fill_width, is_coloured

Document = Mapping[str, Any]
WORST_FIRST = ("unhealthy", "unknown", "degraded", "healthy")
HOST = "http://HOST:9178"  # as the runbook writes the daemon's address
GPU = re.compile(r"gpu (\d+)")


@dataclass(frozen=True)
class Host:
    """The host that is explained; empty if no daemon answers.

    Attributes:
        address: the daemon's address as curl takes it.
        readings: the reading of each probe.
        plugins: the plugin of each probe.
        is_here: false for a daemon that ``--url`` names: it may be on another host.
    """

    address: str = HOST
    readings: Mapping[str, Document] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)
    is_here: bool = True


@dataclass(frozen=True)
class Case:
    """A finding of a probe on this host."""

    probe: str
    plugin: str
    finding: Document
    reading: Document

    @property
    def is_healthy(self) -> bool:
        """True if nothing is wrong."""
        return bool(self.finding["status"] == "healthy")

    @property
    def rank(self) -> int:
        """Its place, the worst first; the status of a newer daemon comes first."""
        status = self.finding["status"]
        return WORST_FIRST.index(status) if status in WORST_FIRST else -1


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the thing to explain, and the daemon's address."""
    what = "a probe, a finding, PROBE.FINDING or an alert (default: what is wrong on this host)"
    parser.add_argument("what", nargs="?", metavar="WHAT", help=what)
    parser.add_argument("subject", nargs="*", metavar="SUBJECT", help="only the finding about it: gpu 1")
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a list of findings with their section"
    )
    add_connection_options(parser)
    parser.epilog = "exit status: 0 explained, 1 nothing has that name, or no daemon says what is wrong"


def run(arguments: Namespace) -> int:
    """Print the explanation.

    Raises:
        CommandError: Nothing has that name, or no daemon says what is wrong.
    """
    runbook, host = read_runbook(), _ask(arguments)
    cases = sorted(_cases(host, " ".join(arguments.subject)), key=lambda case: case.rank)
    chosen = _chosen(arguments.what, runbook, cases, host)
    if arguments.json:
        explained = [] if isinstance(chosen, str) else [one.as_json() for one in chosen]
        print(json.dumps(explained, indent=2, ensure_ascii=False))
    else:
        print(chosen if isinstance(chosen, str) else "\n\n".join(map(_format, chosen)))
    return 0


def _ask(arguments: Namespace) -> Host:
    """Return what the daemon says; nothing without a daemon, if the thing to explain is named.

    Raises:
        CommandError: No daemon answers, and nothing is named.
    """
    try:
        running, health = find_daemon(arguments)
        info = running.get("/info").body
    except (CommandError, DaemonUnreachable) as error:
        if arguments.what is None:
            fix = "or name a finding or an alert: mlopsd explain xid"
            raise CommandError(*str(error).splitlines(), fix) from error
        print_error(*str(error).splitlines(), "words in capitals stay as they are in the runbook")
        return Host()
    plugins = {probe["name"]: probe["plugin"] for probe in info.get("probes", ())}
    return Host(_address(running), health.body["probes"], plugins, is_here=arguments.url is None)


def _address(running: DaemonClient) -> str:
    """Return the daemon's address with the option that curl needs for a socket."""
    if running.address.startswith("unix:"):
        return f"--unix-socket {running.address.removeprefix('unix:')} http://localhost"
    return running.address


def _cases(host: Host, subject: str) -> Iterator[Case]:
    """Yield each finding, or those about *subject*."""
    for probe, reading in host.readings.items():
        for finding in reading.get("findings", ()):
            if not subject or subject == finding.get("subject"):
                yield Case(probe, host.plugins.get(probe, probe), finding, reading)


def _chosen(
    what: str | None, runbook: Runbook, cases: Sequence[Case], host: Host
) -> str | Sequence[Explanation]:
    """Return the explanations of *what*, or a sentence if all is well.

    Raises:
        CommandError: Nothing has that name.
    """
    alerts = {name.lower(): section for name, section in runbook.sections.items()}
    if what is not None and what.lower() in alerts:
        return [_explain(alerts[what.lower()], _of_section(alerts[what.lower()], cases), host)]
    named = [case for case in cases if what is None or what in _names(case)]
    if wrong := [case for case in named if not case.is_healthy]:
        return list(_explain_each(wrong, runbook, host))
    if what is None or what in (*host.readings, *host.plugins.values()):
        found = ", ".join(sorted({f"{case.probe}.{case.finding['name']}" for case in named}))
        return f"nothing is wrong; this can be explained: {found or 'nothing yet'}"
    if named:
        return list(_explain_each(named[:1], runbook, host))
    plugin, _, finding = what.rpartition(".")
    section = next(filter(None, (runbook.find(one, finding) for one in _plugins(plugin, runbook))), None)
    if section is not None:
        return [_explain(section, [], host)]
    if of_plugin := sorted(f"{what}.{name}" for name in _findings_of(what, runbook)):
        return f"these can be explained: {', '.join(of_plugin)}"
    raise CommandError(f"cannot explain {what!r}: nothing has that name; {_nearest(what, runbook, cases)}")


def _names(case: Case) -> set[str]:
    """Return the names by which a case can be asked for."""
    finding = case.finding["name"]
    return {case.probe, case.plugin, finding, f"{case.probe}.{finding}", f"{case.plugin}.{finding}"}


def _plugins(plugin: str, runbook: Runbook) -> Iterable[str]:
    """Return the plugins of a name: its own, or all that the runbook knows."""
    known = {one for section in runbook.sections.values() for one, _ in section.findings}
    return [plugin] if plugin else sorted(known)


def _findings_of(plugin: str, runbook: Runbook) -> set[str]:
    """Return the findings of *plugin* that the runbook knows."""
    return {
        name
        for section in runbook.sections.values()
        for one, name in section.findings
        if plugin and one == plugin
    }


def _nearest(what: str, runbook: Runbook, cases: Iterable[Case]) -> str:
    known = {name for case in cases for name in _names(case)} | set(runbook.sections)
    for section in runbook.sections.values():
        known |= {name for _, name in section.findings}
        known |= {f"{plugin}.{name}" for plugin, name in section.findings if plugin}
    found = get_close_matches(what, sorted(known), n=1)
    return f"did you mean {found[0]}?" if found else "mlopsd status -v lists the findings"


def _of_section(section: Section, cases: Iterable[Case]) -> list[Case]:
    """Return the cases that *section* is about, if they are not healthy."""
    about = [case for case in cases if (case.plugin, case.finding["name"]) in section.findings]
    return [case for case in about if not case.is_healthy]


def _explain_each(cases: Iterable[Case], runbook: Runbook, host: Host) -> Iterator[Explanation]:
    """Yield an explanation for each section and probe, with all its cases."""
    grouped: dict[tuple[str, str], list[Case]] = {}
    sections: dict[tuple[str, str], Section] = {}
    for case in cases:
        section = runbook.find(case.plugin, case.finding["name"]) or Section("")
        key = (case.probe, section.name or case.finding["name"])
        sections[key] = section
        grouped.setdefault(key, []).append(case)
    for key, several in grouped.items():
        yield _explain(sections[key], several, host)


def _explain(section: Section, cases: Sequence[Case], host: Host) -> Explanation:
    """Return the section with this host's names in place of the words in capitals."""
    each = list(map(_words, cases)) or [_sole_probe(section, host)]
    words = {
        word: list(dict.fromkeys(one[word] for one in each if word in one)) for one in each for word in one
    }
    advice = {case.finding.get("advice", "none") for case in cases}
    heads = [{**case.finding, "probe": case.probe} for case in cases]
    return Explanation(heads, section, {**words, HOST: [host.address]}, frozenset(advice), host.is_here)


def _sole_probe(section: Section, host: Host) -> dict[str, str]:
    """Return the name of the only probe that *section* can be about."""
    plugins = {plugin for plugin, _ in section.findings}
    probes = [probe for probe, plugin in host.plugins.items() if plugin in plugins]
    return {"PROBE": probes[0]} if len(probes) == 1 else {}


def _words(case: Case) -> dict[str, str]:
    """Return what stands for the words in capitals of the runbook."""
    facts, subject = case.reading.get("facts", {}), case.finding.get("subject") or ""
    words: dict[str, Any] = {"PROBE": case.probe}
    if subject.startswith("/"):
        words["PATH"] = subject
    if index := GPU.fullmatch(subject):
        gpu: Document = next((one for one in facts.get("gpus", ()) if str(one.get("index")) == index[1]), {})
        words |= {"N": index[1], "BUS": gpu.get("bus_id")}
    served = facts.get("served") or facts.get("desired") or {}
    words |= {"MODEL": facts.get("model"), "VERSION": served.get("version")}
    if str(registry := served.get("registry") or "").startswith("http"):  # the runbook asks it with curl
        words["REGISTRY"] = registry
    return {word: str(value) for word, value in words.items() if value}


def _format(explanation: Explanation) -> str:
    return format_explanation(explanation, fill_width(), coloured=is_coloured(sys.stdout))
