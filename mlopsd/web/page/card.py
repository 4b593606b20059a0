"""One probe on the page: its status and why, what to do, its last readings, and all else that it told."""

from collections.abc import Sequence
from datetime import datetime

from mlopsd.board import Board
from mlopsd.entry import Entry
from mlopsd.probe import Advice, Finding, Status
from mlopsd.web.api.readings import reload_state
from mlopsd.web.context import ReloadLike
from mlopsd.web.page.facts import facts_table
from mlopsd.web.page.markup import advice_line, age, duration_text, moment_of, said, since, text, word
from mlopsd.web.page.plot import plot
from mlopsd.web.page.versions import version_lines

MOST_FINDINGS = 100  # of each list; the rest is in the JSON


def card(board: Board, entry: Entry, reload: ReloadLike | None) -> str:
    """*entry* as an article; what is well and what is only worth knowing is folded away."""
    name, now = entry.probe, board.now()
    findings = sorted(entry.reading.findings, key=lambda finding: (-finding.status, -finding.advice))
    unwell = [finding for finding in findings if finding.status != Status.HEALTHY]
    lines = version_lines(entry.facts, now)
    rest = {key: value for key, value in entry.facts.items() if key not in lines}
    return (
        f'<article id="probe-{name}" class="card {entry.status}" aria-labelledby="name-{name}" '
        f'data-name="{name}" data-status="{entry.status}">\n'
        f"{_trouble(entry, unwell)}{_reload(reload, now)}{_versions(lines)}{plot(board.past(name))}"
        f"{_well(name, findings[len(unwell) :])}{facts_table(name, rest)}{_times(board, entry)}</article>\n"
    )


def _trouble(entry: Entry, unwell: Sequence[Finding]) -> str:
    """The status, and all that is not well."""
    name = entry.probe
    return (
        f'<h2 id="name-{name}"><a href="/health/{name}">{name}</a> {word(entry.status)}</h2>\n'
        f"{_summary(entry, unwell)}{_before_reload(entry)}{_held(entry)}"
        f"{_advice(unwell)}{_listed(name, unwell)}"
    )


def _summary(entry: Entry, unwell: Sequence[Finding]) -> str:
    """The sentence of the reading, unless the list of findings begins with it."""
    said_below = unwell and unwell[0].summary and entry.reading.summary.startswith(unwell[0].summary)
    return "" if said_below else f"<p>{text(entry.reading.summary)}</p>\n"


def _before_reload(entry: Entry) -> str:
    """Whose limits the reading was judged by, if no longer those of today."""
    return '<p class="held">By the table before the reload.</p>\n' if entry.before_reload else ""


def _held(entry: Entry) -> str:
    """How far the last readings have come towards another status."""
    if not entry.held:
        return ""
    worse = entry.held[-1] > entry.status
    needed = entry.terms.fail_after if worse else entry.terms.recover_after
    kind = "worse" if worse else "better"
    return (
        f'<p class="held">Still {entry.status}: {len(entry.held)} of {needed} readings {kind}, '
        f"the last one {word(entry.held[-1])}.</p>\n"
    )


def _advice(unwell: Sequence[Finding]) -> str:
    return advice_line(max((finding.advice for finding in unwell), default=Advice.NONE))


def _reload(reload: ReloadLike | None, now: datetime) -> str:
    if reload is None:
        return ""
    state = reload_state(reload)
    began = moment_of(state["started_at"])
    detail = f": {text(state['detail'])}" if "detail" in state else ""
    begun = f", begun {since(began, now)}" if began is not None else ""
    return f"<p>Reload {state['state']}{detail}{begun}</p>\n"


def _listed(probe: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    more = len(findings) - MOST_FINDINGS
    rest = f'<li><a href="/health/{probe}">and {more} more</a></li>\n' if more > 0 else ""
    return f'<ul class="findings">\n{"".join(map(_finding, findings[:MOST_FINDINGS]))}{rest}</ul>\n'


def _well(probe: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    many = "1 healthy finding" if len(findings) == 1 else f"{len(findings)} healthy findings"
    return f'<details id="well-{probe}">\n<summary>{many}</summary>\n{_listed(probe, findings)}</details>\n'


def _finding(finding: Finding) -> str:
    subject = f" ({text(finding.subject)})" if finding.subject else ""
    todo = "" if finding.advice == Advice.NONE else f' <span class="todo">→ {said(finding.advice)}</span>'
    key = text(f"{finding.name} {finding.subject}")
    return (
        f'<li data-key="{key}">{word(finding.status)} <span class="name">{text(finding.name)}{subject}</span>'
        f": {text(finding.summary)}{todo}</li>\n"
    )


def _versions(lines: dict[str, str]) -> str:
    return f'<dl class="versions">\n{"".join(lines.values())}</dl>\n' if lines else ""


def _times(board: Board, entry: Entry) -> str:
    weight = "" if entry.terms.critical else "<br>not critical: the host is degraded by it at most"
    since_when = f"{entry.status} since {since(entry.since, board.now())}"
    return f'<p class="soft">{_checked(board, entry)}<br>{since_when}{weight}</p>\n'


def _checked(board: Board, entry: Entry) -> str:
    passed = board.age(entry)
    if passed is None:
        return f"not checked yet, expected every {entry.terms.interval:g} s"
    took = "" if entry.duration is None else f", took {duration_text(entry.duration)}"
    return f"checked {age(passed)} ago{took}, every {entry.terms.interval:g} s"
