"""The watches that are running, by name: changed as a whole, each one only if its own table changed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlopsd.board import Board
from mlopsd.plugins import Configured
from mlopsd.watch import Watch


@dataclass(frozen=True, slots=True)
class Running:
    """A watch and the task that drives it."""

    watch: Watch
    task: asyncio.Task[None]


class Roster(Mapping[str, Watch]):
    """Starts and ends watches in *group*; *make* builds one, *forget* drops what else is kept of one."""

    def __init__(
        self,
        board: Board,
        group: asyncio.TaskGroup,
        make: Callable[[Configured], Watch],
        forget: Callable[[str], None],
    ) -> None:
        self._board = board
        self._group = group
        self._make = make
        self._forget = forget
        self._running: dict[str, Running] = {}

    def __getitem__(self, name: str) -> Watch:
        return self._running[name].watch

    def __iter__(self) -> Iterator[str]:
        return iter(self._running)

    def __len__(self) -> int:
        return len(self._running)

    async def change(self, wanted: Sequence[Configured]) -> list[str]:
        """Watch *wanted* and nothing else; a sentence for each probe that was touched."""
        after = {configured.name: configured for configured in wanted}
        before = {name: running.watch.configured for name, running in self._running.items()}
        gone = [name for name in before if name not in after]
        changed = [name for name in before if name in after and before[name] != after[name]]
        new = [name for name in after if name not in before]
        await self._end([*gone, *changed])
        for name in gone:
            self._board.forget(name)
            self._forget(name)
        for name in [*changed, *new]:
            self._begin(after[name])
        told = {"no longer watched": gone, "watched anew with its changed table": changed, "now watched": new}
        return [f"probe {name} is {what}" for what, names in told.items() for name in names]

    async def close(self) -> None:
        """End every watch, all at the same time, within two seconds."""
        await self._end(list(self._running))

    def _begin(self, configured: Configured) -> None:
        self._board.enrol(configured.name, configured.plugin.name, configured.terms)
        watch = self._make(configured)
        task = self._group.create_task(watch.run(), name=f"watch {configured.name}")
        self._running[configured.name] = Running(watch, task)

    async def _end(self, names: Sequence[str]) -> None:
        ended = [self._running.pop(name) for name in names]
        for running in ended:
            running.task.cancel()
        await asyncio.gather(*(running.watch.close() for running in ended))
