"""The board: damping, staleness by its own timer, and the verdict over all probes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import astuple

import pytest

from mlopsd.board import PAST_READINGS, Board, Readings
from mlopsd.entry import Entry, Terms
from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd.verdict import Verdict
from tests.fakes import Clock

H, D, N, U = Status.HEALTHY, Status.DEGRADED, Status.UNKNOWN, Status.UNHEALTHY


class Witness:
    """Writes down every change that the board tells of."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Status, Status]] = []
        self.verdicts: list[tuple[Status, Status]] = []

    def change(self, entry: Entry, before: Status) -> None:
        self.changes.append((entry.probe, before, entry.status))

    def verdict(self, verdict: Verdict, before: Status) -> None:
        self.verdicts.append((before, verdict.status))


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
        (2, 2, [U, U, N, N], [U, U, U, N]),
        (2, 1, [H, D, U, U], [H, H, D, U]),  # two kinds of worse are one run: its mildest holds
        (3, 1, [H, U, D, U, D, U, U], [H, H, H, D, D, D, D]),
        (2, 1, [H, N, U, N, U], [H, H, N, N, N]),
        (3, 1, [H, D, U, H, D, U, D], [H, H, H, H, H, H, D]),  # one good reading ends the run
        (1, 2, [U, D, H, D, H], [U, U, D, D, D]),  # two kinds of better: the worst of the run
        (1, 3, [U, N, D, H, D, D], [U, U, U, N, D, D]),
        (1, 2, [U, D, U, D, N], [U, U, U, U, N]),
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
    assert board.verdict.summary == "door unhealthy: recovering, 2 of 3 readings better"


async def test_no_reading_before_a_silence_counts_for_the_damping_after_it() -> None:
    board = Board()
    board.enrol("door", "door", Terms(interval=0.01, timeout=0.01, fail_after=2))
    board.record("door", reading(H), 0)
    board.record("door", reading(U), 0)
    async with asyncio.timeout(5):
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


async def test_every_change_is_told_exactly_once(board: Board, witness: Witness) -> None:
    board.enrol("door", "door", terms())
    for status in (H, H, U, U, H):
        board.record("door", reading(status), 0)
    assert witness.changes == [("door", N, H), ("door", H, U), ("door", U, H)]
    assert witness.verdicts == [(N, H), (H, U), (U, H)]


async def test_a_dead_watcher_shows_because_the_board_has_a_timer_of_its_own(witness: Witness) -> None:
    board = Board(on_change=witness.change, on_verdict=witness.verdict)
    board.enrol("door", "door", Terms(interval=0.01, timeout=0.01))
    board.record("door", reading(H), 0)
    async with asyncio.timeout(5):
        while board["door"].status is not N:
            await asyncio.sleep(0.005)
    assert board["door"].stale
    assert board["door"].reading.summary.startswith("no reading for 0 s, expected every 0.01 s")
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
    board.enrol("door", "door", Terms(0.001, 0.001), ("doors:Door", {"path": "/dev/door"}))
    assert (board["door"].status, board["door"].since) == (H, before.since)
    async with asyncio.timeout(5):
        while not board["door"].stale:
            await asyncio.sleep(0.005)


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
    assert board.verdict.summary.startswith("no critical probe is configured; take")
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
