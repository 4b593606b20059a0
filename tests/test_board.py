"""The board: damping, staleness by its own timer, and the verdict over all probes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import astuple, replace
from datetime import UTC, datetime

import pytest

from mlopsd.board import PAST_READINGS, Board, Readings
from mlopsd.entry import MOST_KEPT, Entry, Terms
from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd.verdict import Verdict
from tests.fakes import Clock
from tests.running import GIVE_UP

H, D, N, U = Status.HEALTHY, Status.DEGRADED, Status.UNKNOWN, Status.UNHEALTHY


class Witness:
    """Writes down every change that the board tells of."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Status, Status]] = []
        self.verdicts: list[tuple[Status, Status]] = []

    def change(self, entry: Entry, before: Entry) -> None:
        if entry.status is not before.status:
            self.changes.append((entry.probe, before.status, entry.status))

    def verdict(self, verdict: Verdict, before: Verdict) -> None:
        self.verdicts.append((before.status, verdict.status))


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
async def board(witness: Witness) -> AsyncIterator[Board]:
    board = Board(on_change=witness.change, on_verdict=witness.verdict)
    yield board
    board.close()


def reading(status: Status, advice: Advice = Advice.NONE, summary: str = "the door") -> Reading:
    return Reading([Finding("door", status, summary, advice=advice)])


def terms(fail_after: int = 1, recover_after: int = 1, *, critical: bool = True) -> Terms:
    return Terms(10, 5, fail_after, recover_after, critical)


def test_a_reading_without_findings_is_no_evidence() -> None:
    assert Reading().status is N
    assert Reading([]).summary == "nothing was found out"


@pytest.mark.parametrize(
    ("advice", "more"),
    [
        ([Advice.REBOOT], ""),
        ([Advice.REBOOT, Advice.NONE], ""),  # the second is a consequence of the first
        ([Advice.REBOOT, Advice.WATCH], " (and 1 more)"),
        ([Advice.NONE, Advice.NONE], " (and 1 more)"),
        ([Advice.NONE, Advice.REBOOT, Advice.FIX_CONFIG], " (and 1 more)"),
    ],
)
def test_a_summary_names_the_cause_and_counts_no_consequence(advice: list[Advice], more: str) -> None:
    findings = [Finding("door", U, str(one), subject=str(at), advice=one) for at, one in enumerate(advice)]
    assert Reading(findings).summary == f"{max(advice)}{more}"


async def test_before_the_first_check_all_is_unknown(board: Board) -> None:
    board.enrol("door", "door", terms())
    assert board["door"].status is N
    assert board.verdict.status is N
    assert board.verdict.summary == "door unknown: not checked yet"


async def test_the_first_reading_counts_at_once_whatever_the_damping(board: Board) -> None:
    board.enrol("door", "door", terms(5, 5))
    assert board.record("door", reading(H), 0.1).status is H


@pytest.mark.parametrize(
    ("fail_after", "recover_after", "raw", "damped"),
    [
        (1, 1, [H, U, H], [H, U, H]),
        (2, 2, [H, U, H, U, U], [H, H, H, H, U]),
        (3, 1, [H, D, D, D, H], [H, H, H, D, H]),
        (2, 2, [U, H, U, H, H], [U, U, U, U, H]),
        (2, 2, [U, U, N, N], [U, U, U, U]),
        (2, 1, [H, D, U, U], [H, H, D, U]),  # two kinds of worse are one run: its mildest holds
        (3, 1, [H, U, D, U, D, U, U], [H, H, H, D, D, D, D]),
        (2, 1, [H, N, U, N, U], [H, H, N, N, N]),
        (3, 1, [H, D, U, H, D, U, D], [H, H, H, H, H, H, D]),  # one good reading ends the run
        (1, 2, [U, D, H, D, H], [U, U, D, D, D]),  # two kinds of better: the worst of the run
        (1, 3, [U, N, D, H, D, D], [U, U, U, U, D, D]),
        (1, 2, [U, D, U, D, N], [U, U, U, U, U]),
        (1, 1, [U, N, N, N, N, H], [U, U, U, U, U, H]),  # unknown is never better
        (1, 2, [U, N, H, N, H, N, H, H], [U, U, U, U, U, U, U, H]),  # a recovery starts over after it
        (1, 3, [U, D, H, N, D, H, D], [U, U, U, U, U, U, D]),
        (2, 2, [D, N, H, N, N, H, H], [D, D, D, D, N, N, H]),  # and it still counts as worse
        (2, 1, [H, U, N, H, N, N], [H, H, N, H, H, N]),
    ],
)
async def test_a_status_worsens_and_recovers_after_a_run_of_readings(
    board: Board, fail_after: int, recover_after: int, raw: list[Status], damped: list[Status]
) -> None:
    board.enrol("door", "door", terms(fail_after, recover_after))
    assert [board.record("door", reading(status), 0).status for status in raw] == damped


async def test_the_entry_shows_the_raw_status_and_its_streak(board: Board) -> None:
    board.enrol("door", "door", terms(3))
    board.record("door", reading(H), 0)
    board.record("door", reading(U), 0)
    entry = board.record("door", reading(U), 0)
    assert (entry.status, entry.reading.status, entry.streak) == (H, U, 2)


async def test_the_entry_counts_what_the_damping_counts(board: Board) -> None:
    board.enrol("door", "door", terms(4, 3))
    raw = [H, D, U, N, H, H, U, U, U, U, D, H]
    entries = [board.record("door", reading(status), 0) for status in raw]
    assert [len(entry.held) for entry in entries] == [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 1, 2]
    assert [entry.streak for entry in entries] == [1, 1, 1, 1, 1, 2, 1, 2, 3, 4, 1, 1]
    assert (
        board.verdict.summary == "door unhealthy: recovering, 2 of 3 readings better; before that: the door"
    )


async def test_no_reading_before_a_silence_counts_for_the_damping_after_it() -> None:
    board = Board()
    board.enrol("door", "door", Terms(interval=0.01, timeout=0.01, fail_after=2))
    board.record("door", reading(H), 0)
    board.record("door", reading(U), 0)
    async with asyncio.timeout(GIVE_UP):
        while not board["door"].stale:
            await asyncio.sleep(0.005)
    assert board["door"].held == ()
    board.record("door", reading(H), 0)
    assert board.record("door", reading(U), 0).status is H
    board.close()


async def test_since_moves_only_when_the_damped_status_changes(board: Board) -> None:
    board.enrol("door", "door", terms(2))
    first = board.record("door", reading(H), 0)
    assert board.record("door", reading(U), 0).since == first.since
    assert board.record("door", reading(U), 0).since > first.since


async def test_every_change_is_reported_exactly_once(board: Board, witness: Witness) -> None:
    board.enrol("door", "door", terms())
    for status in (H, H, U, U, H):
        board.record("door", reading(status), 0)
    assert witness.changes == [("door", N, H), ("door", H, U), ("door", U, H)]
    assert witness.verdicts == [(N, H), (H, U), (U, H)]


async def test_a_dead_watcher_shows_because_the_board_has_a_timer_of_its_own(witness: Witness) -> None:
    clock = Clock()
    board = Board(on_change=witness.change, on_verdict=witness.verdict, clock=clock)
    board.enrol("door", "door", Terms(interval=0.01, timeout=0.01))
    board.record("door", reading(H), 0)
    clock.now += 7
    async with asyncio.timeout(GIVE_UP):
        while board["door"].status is not N:
            await asyncio.sleep(0.005)
    assert board["door"].stale
    assert board["door"].reading.summary.startswith("no reading for 7 s, expected every 0.01 s")
    assert board["door"].reading.samples == ()
    assert witness.changes[-1] == ("door", H, N)
    assert board.verdict.status is N
    assert board.record("door", reading(H), 0).status is H, "a reading after it counts at once"
    board.close()


async def test_a_reading_is_believed_for_three_intervals_and_the_timeout() -> None:
    clock = Clock()
    board = Board(clock=clock)
    board.enrol("door", "door", Terms(interval=10, timeout=5))
    entry = board.record("door", reading(H), 0)
    assert entry.terms.believed == 35
    clock.now += 12.5
    assert board.age(board["door"]) == 12.5
    board.close()


DOOR = ("doors:Door", {"path": "/dev/door"})  # what the probe looks at: its target and its options


async def test_new_terms_keep_what_is_known_and_move_the_expiry(board: Board) -> None:
    board.enrol("door", "door", Terms(1000, 1), DOOR)
    before = board.record("door", reading(H), 0)
    board.retime("door", Terms(0.001, 0.001))
    assert (board["door"].status, board["door"].since) == (H, before.since)
    assert not board["door"].before_reload
    async with asyncio.timeout(GIVE_UP):
        while not board["door"].stale:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("old", "new", "age", "left"),
    [
        (Terms(15, 5), Terms(1, 5), 12, 8),  # a whole period of the new terms from now on
        (Terms(15, 5), Terms(1, 5), 45, 5),  # and not longer than before
        (Terms(15, 5), Terms(600, 5), 12, 1793),
        (Terms(15, 5), Terms(15, 1, fail_after=3), 12, 38),
    ],
)
async def test_new_terms_leave_time_for_a_reading_that_comes_by_them(
    old: Terms, new: Terms, age: float, left: float
) -> None:
    clock = Clock()
    board = Board(clock=clock)
    board.enrol("door", "door", old, DOOR)
    board.record("door", reading(D), 0)
    clock.now += age
    board.retime("door", new)
    assert board["door"].believed_until - clock.now == left
    assert not board["door"].stale
    assert board.verdict.status is D
    board.close()


@pytest.mark.parametrize(
    ("plugin", "subject"),
    [
        ("gate", DOOR),
        ("door", ("doors:Door", {"path": "/dev/gate"})),
        ("door", ("doors:NewDoor", {"path": "/dev/door"})),
        ("door", None),
    ],
)
async def test_what_was_found_out_about_something_else_is_forgotten(
    board: Board, witness: Witness, plugin: str, subject: object
) -> None:
    board.enrol("door", "door", terms(), DOOR)
    board.record("door", reading(H), 0)
    board.enrol("door", plugin, terms(), subject)
    entry = board["door"]
    assert (entry.plugin, entry.status, entry.checked_at) == (plugin, N, None)
    assert entry.reading.summary == "not checked yet"
    assert board.past("door") == ()
    assert board.verdict.status is N
    assert witness.changes == [("door", N, H), ("door", H, N)], "the journal has every change"
    assert board.record("door", reading(U), 0).status is U, "its first reading counts at once"


async def test_without_a_word_on_its_subject_nothing_is_taken_for_the_same(board: Board) -> None:
    board.enrol("door", "door", terms())
    board.record("door", reading(H), 0)
    board.enrol("door", "door", terms())
    assert board["door"].status is N


@pytest.mark.parametrize(
    ("shown", "first", "status"),
    [(H, U, U), (H, D, D), (U, H, H), (U, D, D)],
)
async def test_after_a_reload_the_first_known_reading_counts_at_once(
    board: Board, shown: Status, first: Status, status: Status
) -> None:
    board.enrol("door", "door", terms(2, 2), DOOR)
    before = board.record("door", reading(shown, summary="the old door"), 0)
    for _ in range(3):  # several reloads before the first reading
        board.enrol("door", "door", terms(2, 2), DOOR)
    kept = board["door"]
    assert (kept.status, kept.since, kept.reading) == (before.status, before.since, before.reading)
    assert kept.summary == f"{before.summary}, by the table before the reload"
    assert len(board.past("door")) == 1
    after = board.record("door", reading(first), 0)
    assert (after.status, after.before_reload) == (status, False)
    assert "before the reload" not in after.summary


@pytest.mark.parametrize(("shown", "first"), [(H, U), (H, D), (D, H), (U, H), (U, D)])
async def test_a_reading_that_is_undecided_does_not_end_the_mark_of_a_reload(
    board: Board, shown: Status, first: Status
) -> None:
    board.enrol("door", "door", terms(3, 3), DOOR)
    board.record("door", reading(shown), 0)
    board.keep("door", terms(3, 3))
    for _ in range(2):
        after = board.record("door", reading(N, summary="no answer"), 0)
        assert (after.status, after.before_reload) == (shown, True)
        assert after.summary.startswith("no answer")
        assert after.summary.endswith("; the status is by the table before the reload")
    after = board.record("door", reading(first), 0)
    assert (after.status, after.before_reload) == (first, False)
    assert "before the reload" not in after.summary


async def test_a_status_that_the_readings_since_the_reload_made_unknown_has_no_mark(board: Board) -> None:
    board.enrol("door", "door", terms(2, 2), DOOR)
    board.record("door", reading(H), 0)
    board.keep("door", terms(2, 2))
    entries = [board.record("door", reading(N), 0) for _ in range(2)]
    assert [(entry.status, entry.before_reload) for entry in entries] == [(H, True), (N, False)]


async def test_what_is_of_before_a_reload_expires_as_its_own_table_set(board: Board) -> None:
    board.enrol("door", "door", Terms(interval=0.01, timeout=0.01), DOOR)
    board.record("door", reading(H), 0)
    board.enrol("door", "door", Terms(interval=1000, timeout=1000), DOOR)
    assert board["door"].before_reload
    async with asyncio.timeout(GIVE_UP):
        while not board["door"].stale:
            await asyncio.sleep(0.005)
    assert (board["door"].status, board["door"].before_reload) == (N, False)
    board.enrol("door", "door", Terms(interval=1000, timeout=1000), DOOR)
    assert not board["door"].before_reload, "there is no reading left that could be of before"


async def test_a_probe_that_was_not_checked_yet_is_no_older_than_the_reload(board: Board) -> None:
    board.enrol("door", "door", terms(), DOOR)
    board.enrol("door", "door", terms(), DOOR)
    assert board["door"].summary == "not checked yet"


async def test_the_past_has_each_reading_as_it_was_and_as_it_was_shown(board: Board) -> None:
    board.enrol("door", "door", terms(2))
    assert board.past("door") == ()
    entries = [board.record("door", reading(status), 0.5) for status in (H, U, U)]
    past = board.past("door")
    assert [(seen.status, seen.raw_status, seen.duration) for seen in past] == [
        (H, H, 0.5),
        (H, U, 0.5),
        (U, U, 0.5),
    ]
    assert [seen.at for seen in past] == [entry.checked_at for entry in entries]


async def test_the_past_is_bounded_and_small_and_outlives_new_terms(board: Board) -> None:
    board.enrol("door", "door", terms(), DOOR)
    for number in range(PAST_READINGS + 30):
        board.record("door", reading(H), number)
    board.enrol("door", "door", terms(3), DOOR)
    past = board.past("door")
    assert len(past) == PAST_READINGS == 120
    assert (past[0].duration, past[-1].duration) == (30, PAST_READINGS + 29)
    assert sum(sys.getsizeof(seen) + sys.getsizeof(seen.at) for seen in past) < 16_000
    assert not any(isinstance(part, Reading) for seen in past for part in astuple(seen))


async def test_a_forgotten_probe_has_no_past_when_it_comes_back(board: Board) -> None:
    board.enrol("door", "door", terms(), DOOR)
    board.record("door", reading(H), 0)
    board.forget("door")
    board.enrol("door", "door", terms(), DOOR)
    assert board.past("door") == ()


@pytest.mark.parametrize(
    ("critical", "other", "verdict"),
    [(H, H, H), (H, U, D), (H, N, D), (H, D, D), (D, U, D), (N, U, N), (U, H, U), (N, H, N)],
)
async def test_a_probe_that_is_not_critical_degrades_at_most(
    board: Board, critical: Status, other: Status, verdict: Status
) -> None:
    board.enrol("door", "door", terms())
    board.enrol("lamp", "lamp", terms(critical=False))
    board.record("door", reading(critical), 0)
    board.record("lamp", reading(other), 0)
    assert board.verdict.status is verdict


async def test_without_a_critical_probe_nobody_knows(board: Board) -> None:
    assert board.verdict.summary.startswith("no probe is configured; add a table [probes.system]")
    assert board.verdict.advice is Advice.FIX_CONFIG
    board.enrol("lamp", "lamp", terms(critical=False))
    board.record("lamp", reading(H), 0)
    assert board.verdict.status is N
    assert board.verdict.summary.startswith("no critical probe is configured; set")
    assert board.verdict.advice is Advice.FIX_CONFIG


async def test_unknown_never_hides_unhealthy(board: Board) -> None:
    for name, status in (("a", N), ("b", U), ("c", H)):
        board.enrol(name, name, terms())
        board.record(name, reading(status, summary=f"{name} it is"), 0)
    assert board.verdict.status is U
    assert board.verdict.summary == "b unhealthy: b it is; a unknown: a it is"


async def test_the_advice_is_the_most_drastic_of_those_that_are_unwell(board: Board) -> None:
    for name, status, advice in (
        ("a", D, Advice.WATCH),
        ("b", U, Advice.FREE_RESOURCES),
        ("c", H, Advice.REPLACE_HARDWARE),
    ):
        board.enrol(name, name, terms())
        board.record(name, reading(status, advice), 0)
    assert board.verdict.advice is Advice.FREE_RESOURCES


@pytest.mark.parametrize(
    ("probes", "advice"),
    [
        # each: critical, and the findings with their advice; the status of the probe is that of its worst one
        ([(True, [(N, Advice.NONE)]), (False, [(U, Advice.FREE_RESOURCES)])], Advice.NONE),  # of another
        ([(True, [(U, Advice.FIX_CONFIG)]), (True, [(N, Advice.REBOOT)])], Advice.FIX_CONFIG),
        ([(True, [(U, Advice.RESTART_APP), (D, Advice.FIX_MODEL)])], Advice.RESTART_APP),
        (
            [(True, [(D, Advice.WATCH)]), (False, [(U, Advice.REBOOT)])],
            Advice.REBOOT,
        ),  # it counts as degraded
        ([(True, [(D, Advice.WATCH)]), (False, [(N, Advice.FIX_CONFIG)])], Advice.FIX_CONFIG),
        ([(True, [(H, Advice.NONE)]), (False, [(U, Advice.WATCH), (D, Advice.RESET_GPU)])], Advice.RESET_GPU),
        ([(True, [(H, Advice.REPLACE_HARDWARE)])], Advice.NONE),
        ([(True, [(U, Advice.NONE)])], Advice.NONE),
    ],
)
async def test_the_advice_is_that_of_the_findings_that_make_the_verdict(
    board: Board, probes: list[tuple[bool, list[tuple[Status, Advice]]]], advice: Advice
) -> None:
    for number, (critical, findings) in enumerate(probes):
        name = f"probe{number}"
        board.enrol(name, name, terms(critical=critical))
        given = [
            Finding(f"door{at}", status, "the door", advice=given)
            for at, (status, given) in enumerate(findings)
        ]
        board.record(name, Reading(given), 0)
    assert board.verdict.advice is advice


async def test_a_finding_that_the_damping_holds_back_gives_no_advice(board: Board) -> None:
    board.enrol("door", "door", terms(2, 2))
    board.record("door", reading(H), 0)
    entry = board.record("door", reading(D, Advice.FIX_CONFIG, "it is open"), 0)
    assert (entry.status, board.verdict.advice) == (H, Advice.NONE)
    assert entry.summary == "it is open (1 of 2 readings worse)"
    board.record("door", reading(U, Advice.FIX_CONFIG, "it is gone"), 0)
    assert (board.verdict.status, board.verdict.advice) == (D, Advice.FIX_CONFIG)


async def test_a_probe_that_recovers_names_the_cause_and_what_it_still_finds(board: Board) -> None:
    board.enrol("door", "door", terms(1, 3))
    board.record("door", reading(U, Advice.FIX_CONFIG, "it is gone"), 0)
    board.record("door", reading(D, Advice.FREE_RESOURCES, "it is open"), 0)
    assert (
        board.verdict.summary == "door unhealthy: recovering, 1 of 3 readings better; before that: it is gone"
    )
    assert str(board.verdict.advice) == "free_resources"
    board.record("door", reading(H, summary="it is shut"), 0)
    assert (
        board.verdict.summary == "door unhealthy: recovering, 2 of 3 readings better; before that: it is gone"
    )
    assert str(board.verdict.advice) == "watch", "the next reading decides"
    assert board.record("door", reading(D, summary="it is open"), 0).summary == "it is open"
    board.record("door", reading(H), 0)
    assert (
        board.verdict.summary == "door degraded: recovering, 1 of 3 readings better; before that: it is open"
    )


async def test_a_forgotten_probe_no_longer_counts(board: Board) -> None:
    board.enrol("door", "door", terms())
    board.enrol("lamp", "lamp", terms())
    board.record("door", reading(H), 0)
    board.record("lamp", reading(U), 0)
    board.forget("lamp")
    assert board.verdict.status is H
    assert "lamp" not in board


async def test_probes_see_the_readings_of_the_board_as_they_are_now(board: Board) -> None:
    view = Readings(board)
    assert dict(view) == {}
    board.enrol("door", "door", terms())
    assert view["door"].status is N
    board.record("door", reading(U), 0)
    assert view["door"].status is U
    assert len(view) == 1


XID = Finding("xid", U, "gpu 3 had XID 79, 5 s ago", "gpu 3", advice=Advice.REBOOT, lasting=True)
ROWS = Finding("rows", D, "gpu 3 has a row pending", "gpu 3", advice=Advice.RESET_GPU, lasting=True)
HOT = Finding("heat", U, "gpu 3 is at 95 \N{DEGREE SIGN}C", "gpu 3", advice=Advice.FREE_RESOURCES)
SILENT = Reading([Finding("timeout", N, "no answer within 10 s", advice=Advice.WATCH)])


def found(name: str, status: Status, subject: str | None = "gpu 3") -> Finding:
    return Finding(name, status, f"{name} of {subject} is {status}", subject)


@pytest.mark.parametrize(
    ("after", "stay"),
    [
        (SILENT, ["xid", "rows"]),
        (Reading(), ["xid", "rows"]),
        (
            Reading([found("door", H)], status=N, summary="cannot tell"),
            ["xid", "rows"],
        ),  # it says of itself that it cannot tell
        (Reading([found("answers", N)]), ["xid", "rows"]),
        (Reading([found("answers", N), found("door", U, "gpu 1")]), ["xid", "rows"]),  # blind for gpu 3
        (Reading([found("driver", N, None), found("door", U)]), ["xid", "rows"]),  # blind for all
        (Reading([found("xid", N)]), ["xid", "rows"]),
        (Reading([found("answers", N), found("rows", H)]), ["xid"]),
        (Reading([found("answers", N), found("rows", D)]), ["xid"]),
        (Reading([found("answers", N, "gpu 1")]), ["xid", "rows"]),  # not a word on gpu 3
        (Reading([found("answers", N, "gpu 1"), found("answers", H)]), []),
        (Reading([found("door", H)]), []),
        (Reading([found("door", U)]), []),
    ],
)
async def test_a_lasting_finding_stays_where_a_reading_is_undecided(
    board: Board, after: Reading, stay: list[str]
) -> None:
    board.enrol("gpu", "gpu", terms(1, 2))
    board.record("gpu", Reading([XID, ROWS, HOT]), 0)
    entry = board.record("gpu", after, 0)
    assert [one.name for one in entry.reading.findings if one.lasting] == stay
    assert Readings(board)["gpu"] is entry.reading, "other probes see it too"
    assert entry.reading.status is after.status, "the reading's own status is its own"
    assert (board.verdict.advice is Advice.REBOOT) == bool(stay)
    if stay:
        assert entry.status is U
        assert entry.summary.startswith(f"{after.summary}; before that: gpu 3 had XID 79, 5 s ago (as of ")
        assert " UTC)" in entry.summary
        assert "before that: gpu 3 had XID 79" in board.verdict.summary


async def test_a_lasting_finding_stays_through_any_number_of_unknown_readings(board: Board) -> None:
    board.enrol("gpu", "gpu", terms(1, 2))
    board.record("gpu", Reading([XID, found("door", H)]), 0)
    entries = [board.record("gpu", SILENT, 0) for _ in range(50)]
    assert {entry.status for entry in entries} == {U}
    assert len({entry.summary for entry in entries}) == 1, "nothing is added at each reading"
    assert "recovering" not in board.verdict.summary
    assert [seen.raw_status for seen in board.past("gpu")][1:] == [N] * 50
    well = [board.record("gpu", Reading([found("xid", H)]), 0) for _ in range(2)]
    assert [entry.status for entry in well] == [U, H]
    assert well[0].kept == ()
    assert board.verdict.advice is Advice.NONE


@pytest.mark.parametrize("status", [H, D, N, U])
async def test_only_a_trouble_lasts(board: Board, status: Status) -> None:
    board.enrol("gpu", "gpu", terms())
    board.record("gpu", Reading([Finding("door", status, "the door", lasting=True)]), 0)
    entry = board.record("gpu", SILENT, 0)
    assert [one.name for one in entry.kept] == (["door"] if status in (D, U) else [])


async def test_what_is_degraded_and_lasts_worsens_to_unknown_and_keeps_its_advice(board: Board) -> None:
    board.enrol("gpu", "gpu", terms(2, 2))
    board.record("gpu", Reading([ROWS]), 0)
    assert [board.record("gpu", SILENT, 0).status for _ in range(3)] == [D, N, N]
    assert board.verdict.advice is Advice.RESET_GPU


async def test_an_unhealthy_probe_that_no_longer_answers_says_why_it_was(board: Board) -> None:
    board.enrol("gpu", "gpu", terms(1, 2))
    board.record("gpu", Reading([HOT]), 0)
    board.record("gpu", Reading([found("heat", H)]), 0)
    entries = [board.record("gpu", SILENT, 0) for _ in range(3)]
    output = {(entry.status, entry.summary) for entry in entries}
    assert output == {(U, f"no answer within 10 s; before that: {HOT.summary}")}
    assert board.verdict.advice is Advice.WATCH, "it may have cooled down: its own advice is no longer sure"


async def test_what_lasts_outlives_a_silence_and_the_status_is_unknown_then() -> None:
    board = Board()
    board.enrol("gpu", "gpu", Terms(interval=0.01, timeout=0.01))
    board.record("gpu", Reading([XID, HOT]), 0)
    async with asyncio.timeout(GIVE_UP):
        while not board["gpu"].stale:
            await asyncio.sleep(0.005)
    entry = board["gpu"]
    assert (entry.status, [one.name for one in entry.reading.findings]) == (N, ["stale", "xid"])
    assert "expected every 0.01 s; restart mlopsd; before that: gpu 3 had XID 79" in entry.summary
    assert board.verdict.advice is Advice.REBOOT
    assert board.record("gpu", SILENT, 0).status is U
    assert board.record("gpu", Reading([found("xid", H)]), 0).kept == ()
    board.close()


async def test_what_lasts_outlives_a_reload_and_not_another_subject(board: Board) -> None:
    board.enrol("gpu", "gpu", terms(), DOOR)
    board.record("gpu", Reading([XID]), 0)
    board.enrol("gpu", "gpu", terms(), DOOR)
    assert [one.name for one in board.record("gpu", SILENT, 0).kept] == ["xid"]
    board.enrol("gpu", "gpu", terms(), ("doors:Door", {"path": "/dev/gate"}))
    assert board.record("gpu", SILENT, 0).kept == ()


async def test_somebody_who_has_acted_ends_what_lasts(board: Board) -> None:
    board.enrol("gpu", "gpu", terms())
    board.record("gpu", Reading([XID]), 0)
    board.record("gpu", SILENT, 0)
    board.end_lasting("gpu")
    assert board["gpu"].status is U, "until the next reading"
    assert board.record("gpu", SILENT, 0).kept == ()
    board.end_lasting("nobody")


async def test_what_lasts_is_bounded_and_the_worst_is_kept(board: Board) -> None:
    board.enrol("gpu", "gpu", terms())
    for number in range(3 * MOST_KEPT):
        new = Finding("rows", D, "a row", f"row {number}", lasting=True)
        board.record("gpu", Reading([new, *([XID] if number == 7 else []), found("driver", N, None)]), 0)
    entry = board.record("gpu", SILENT, 0)
    assert len(entry.kept) == MOST_KEPT
    assert entry.kept[0].name == "xid"


async def test_a_finding_stands_since_it_appeared_with_its_status() -> None:
    minutes = 0
    board = Board(now=lambda: datetime(2026, 1, 2, 3, minutes, tzinfo=UTC))
    board.enrol("gpu", "gpu", terms())

    def since(*findings: Finding) -> list[int]:
        """Record *findings* a minute later; return for how many minutes each stands."""
        nonlocal minutes
        minutes += 1
        entry = board.record("gpu", Reading(findings), 0)
        return [minutes - entry.since_of(one).minute for one in entry.reading.findings]

    door, lock = found("door", D), found("lock", D)
    assert since(door) == [0]
    assert since(door, lock) == [1, 0], "a second finding has a time of its own"
    assert since(replace(door, summary="it moved"), found("door", D, "gpu 4")) == [2, 0]
    assert since(found("door", U)) == [0], "another status is another time"
    assert since(door) == [0], "and an earlier one starts over"
    assert since(XID) == [0]
    assert since(*SILENT.findings) == [0, 1], "what lasts keeps its time"
    assert since(*SILENT.findings) == [1, 2]
    board.close()
