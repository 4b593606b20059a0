"""The watches as a whole: what a change and the end leave behind."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlopsd.board import Board
from mlopsd.config.probes import ProbeConfig
from mlopsd.daemon.watches import Watches
from mlopsd.predictor import Predictor, PredictorOptions
from mlopsd.probe import Context, Finding, Options, Probe, Reading, Status
from mlopsd.watch import Watch
from tests import fakes
from tests.running import GIVE_UP


class Door(Probe):
    async def check(self) -> Reading:
        return Reading([Finding("door", Status.HEALTHY, "the door is shut")])


class MarkedOptions(Options):
    mark: str = "one"


class Serving(Predictor[PredictorOptions]):
    Options = PredictorOptions

    async def check(self) -> Reading:
        return Reading([Finding("serving", Status.HEALTHY, "version 1 serves")])


class Lingering(Watch):
    """Its end takes until *let_go*, and says that it came."""

    def __init__(self, watch: Watch, let_go: asyncio.Event, closed: list[str]) -> None:
        self.configured = watch.configured
        self._watch, self._let_go, self._ended = watch, let_go, closed

    async def run(self) -> None:
        await self._watch.run()

    async def close(self) -> None:
        await self._let_go.wait()
        await self._watch.close()
        self._ended.append(self.name)


class Stage:
    """A roster of doors in a task group, on *folder*."""

    def __init__(self, group: asyncio.TaskGroup, folder: Path) -> None:
        self.board = Board()
        self.let_go = asyncio.Event()
        self.closed: list[str] = []
        self._folder = folder
        self.roster = Watches(self.board, group, self._make, lambda _name: None)

    def _make(self, configured: ProbeConfig) -> Watch:
        watch = fakes.watch(configured, self._folder, self.board, fakes.Account())
        return Lingering(watch, self.let_go, self.closed)


def doors(*names: str) -> list[ProbeConfig]:
    return [fakes.configured(Door, "loop", name=name) for name in names]


async def test_a_roster_that_is_closed_begins_nothing_more(tmp_path: Path) -> None:
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        stage = Stage(group, tmp_path)
        stage.let_go.set()
        await stage.roster.change(doors("front"))
        await stage.roster.close()
        with pytest.raises(RuntimeError, match="they are closed"):
            await stage.roster.change(doors("front", "back"))
        assert list(stage.roster) == []
    assert stage.closed == ["front"]


async def test_a_change_that_is_under_way_at_the_end_begins_nothing_more(tmp_path: Path) -> None:
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        stage = Stage(group, tmp_path)
        await stage.roster.change(doors("front"))
        change = asyncio.ensure_future(stage.roster.change(doors("back")))
        await asyncio.sleep(0)  # until it waits for the end of the front door
        closing = asyncio.ensure_future(stage.roster.close())
        await asyncio.sleep(0)
        stage.let_go.set()
        await closing
        with pytest.raises(RuntimeError, match="they are closed"):
            await change
        assert list(stage.roster) == []


async def test_a_change_that_is_cancelled_leaves_the_end_of_its_watches_to_the_close(tmp_path: Path) -> None:
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        stage = Stage(group, tmp_path)
        await stage.roster.change(doors("front", "back"))
        change = asyncio.ensure_future(stage.roster.change(doors("back")))
        await asyncio.sleep(0)
        change.cancel()
        await asyncio.wait({change})
        closing = asyncio.ensure_future(stage.roster.close())
        await asyncio.sleep(0.05)
        assert not closing.done(), "the front door is still being closed"
        stage.let_go.set()
        await closing
        assert sorted(stage.closed) == ["back", "front"]


class Marked(Probe[MarkedOptions]):
    """Counts how often it was made."""

    Options = MarkedOptions
    made = 0

    def __init__(self, options: MarkedOptions, context: Context) -> None:
        super().__init__(options, context)
        Marked.made += 1

    async def check(self) -> Reading:
        return Reading([Finding("mark", Status.HEALTHY, self.options.mark)])


async def test_a_probe_whose_terms_change_keeps_what_it_holds(tmp_path: Path) -> None:
    before = fakes.configured(Marked, "loop", name="model")
    longer = replace(before, terms=replace(before.terms, interval=77.0, critical=False))
    other = replace(before, options=MarkedOptions(mark="another"))
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        board = Board()

        def watch(configured: ProbeConfig) -> Watch:
            return fakes.watch(configured, tmp_path, board, fakes.Account())

        roster = Watches(board, group, watch, lambda _name: None)
        await roster.change([before])
        await roster["model"].check()
        made = Marked.made
        assert await roster.change([longer]) == ["probe model is kept, and its terms are updated"]
        assert board["model"].terms.interval == 77.0
        await roster["model"].check()
        assert Marked.made == made
        assert await roster.change([other]) == ["probe model is restarted with its new table"]
        await roster["model"].check()
        assert Marked.made == made + 1
        await roster.close()


class ChosenOptions(Options):
    path: str = "/dev/door"
    limit: float = 1.0


class Chosen(Marked):
    """Says which of its keys it looks at."""

    Options = ChosenOptions  # type: ignore[assignment]
    subject = ("path",)

    async def check(self) -> Reading:
        return Reading([Finding("mark", Status.HEALTHY, "marked")])


class Renamed(Chosen):
    """Another class under the same name."""


@pytest.mark.parametrize(
    ("probe", "table", "is_kept"),
    [
        (Chosen, {"limit": 2.0}, True),
        (Chosen, {"path": "/dev/gate"}, False),
        (Chosen, {"path": "/dev/gate", "limit": 2.0}, False),
        (Renamed, {"limit": 2.0}, False),
        (Marked, {"mark": "another"}, False),  # it does not say which: each key may be
    ],
)
async def test_a_changed_table_keeps_the_status_unless_it_is_about_something_else(
    tmp_path: Path, probe: type[Probe[Any]], table: dict[str, Any], *, is_kept: bool
) -> None:
    before = fakes.configured(Marked if probe is Marked else Chosen, "loop", name="door")
    after = fakes.configured(probe, "loop", table, name="door")
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        board = Board()
        roster = Watches(
            board,
            group,
            lambda configured: fakes.watch(configured, tmp_path, board, fakes.Account()),
            lambda _name: None,
        )
        await roster.change([before])
        known = await roster["door"].check()
        await roster.change([after])
        entry = board["door"]
        assert entry.before_reload == is_kept
        assert entry.status is (Status.HEALTHY if is_kept else Status.UNKNOWN)
        assert (entry.since == known.since) == is_kept
        assert bool(board.past("door")) == is_kept
        assert not (await roster["door"].check()).before_reload
        await roster.close()


@pytest.mark.parametrize(("patience", "is_made_again"), [(77.0, True), (10.0, False)])
async def test_a_predictor_that_is_made_again_starts_unknown_since_it_serves_nothing(
    tmp_path: Path, patience: float, *, is_made_again: bool
) -> None:
    before = fakes.configured(Serving, "loop", {"model": "churn"}, name="model")
    after = replace(before, terms=replace(before.terms, timeout=patience, interval=77.0))
    async with asyncio.timeout(GIVE_UP), asyncio.TaskGroup() as group:
        board = Board()
        roster = Watches(
            board,
            group,
            lambda configured: fakes.watch(configured, tmp_path, board, fakes.Account()),
            lambda _name: None,
        )
        await roster.change([before])
        await roster["model"].check()
        await roster.change([after])
        assert board["model"].status is (Status.UNKNOWN if is_made_again else Status.HEALTHY)
        await roster.close()
