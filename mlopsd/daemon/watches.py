"""The running watches by name. A reload touches a watch only if its own table changed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlopsd.board import Board
from mlopsd.config.probes import ProbeConfig
from mlopsd.watch import Watch


@dataclass(frozen=True, slots=True)
class RunningWatch:
    """A watch and the task that runs it."""

    watch: Watch
    task: asyncio.Task[None]


class Watches(Mapping[str, Watch]):
    """The running watches, whose tasks are in *group*.

    *make* makes the watch of a probe; *forget* drops the metrics of a removed probe.
    """

    def __init__(
        self,
        board: Board,
        group: asyncio.TaskGroup,
        make: Callable[[ProbeConfig], Watch],
        forget: Callable[[str], None],
    ) -> None:
        self._board = board
        self._group = group
        self._make = make
        self._forget = forget
        self._running: dict[str, RunningWatch] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __getitem__(self, name: str) -> Watch:
        return self._running[name].watch

    def __iter__(self) -> Iterator[str]:
        return iter(self._running)

    def __len__(self) -> int:
        return len(self._running)

    async def change(self, wanted: Sequence[ProbeConfig]) -> list[str]:
        """Watch exactly the probes *wanted*, and return a sentence for each changed probe.

        Raises:
            RuntimeError: The watches are closed.
        """
        self._refuse_when_closed()
        after = {configured.name: configured for configured in wanted}
        before = {name: running.watch.configured for name, running in self._running.items()}
        gone = [name for name in before if name not in after]
        differing = [name for name in before if name in after and before[name] != after[name]]
        retimed = [name for name in differing if _differ_in_terms_alone(before[name], after[name])]
        reconfigured = [
            name
            for name in differing
            if name not in retimed and await self._reconfigure(before[name], after[name])
        ]
        self._refuse_when_closed()
        changed = [name for name in differing if name not in (*retimed, *reconfigured)]
        new = [name for name in after if name not in before]
        await self._end([*gone, *changed])
        self._refuse_when_closed()
        for name in gone:
            self._board.forget(name)
            self._forget(name)
        for name in [*changed, *new]:
            self._begin(after[name])
        for name in retimed:
            self._board.retime(name, after[name].terms)
            self[name].retime(after[name])
        changes = {
            "no longer watched": gone,
            "restarted with its new table": changed,
            "kept, and its terms are updated": retimed,
            "kept, and its options are updated": reconfigured,
            "now watched": new,
        }
        return [f"probe {name} is {what}" for what, names in changes.items() for name in names]

    async def _reconfigure(self, before: ProbeConfig, after: ProbeConfig) -> bool:
        """Let a predictor take its changed table on while it serves; whether it does.

        What is known of it stays: whatever serves is what served, until the next check tells more.
        """
        same = replace(before, terms=after.terms, options=after.options, table=after.table) == after
        running = self._running.get(after.name)  # None if the watches were closed meanwhile
        if running is None or not same or before.terms.timeout != after.terms.timeout:
            return False
        if not await running.watch.reconfigure(after):
            return False
        self._refuse_when_closed()
        self._board.keep(after.name, after.terms)
        return True

    async def close(self) -> None:
        """End all watches at the same time, within two seconds. No watch starts after that."""
        self._is_closed = True
        await self._end(list(self._running))

    def _begin(self, configured: ProbeConfig) -> None:
        self._board.enrol(configured.name, configured.plugin.name, configured.terms, configured.subject)
        watch = self._make(configured)
        task = self._group.create_task(watch.run(), name=f"watch {configured.name}")
        self._running[configured.name] = RunningWatch(watch, task)

    async def _end(self, names: Sequence[str]) -> None:
        """End the watches *names*. Also wait for those that a cancelled change was still ending."""
        loop = asyncio.get_running_loop()
        for name in names:
            running = self._running.pop(name)
            running.task.cancel()
            closing = loop.create_task(running.watch.close(), name=f"close {name}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if self._closing:
            await asyncio.wait(set(self._closing))

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise RuntimeError("cannot change the watches: they are closed")


def _differ_in_terms_alone(before: ProbeConfig, after: ProbeConfig) -> bool:
    """Return whether the probe itself is unchanged, so that it can keep its model, for example."""
    same = replace(before, terms=after.terms) == after
    return same and before.terms.timeout == after.terms.timeout  # the probe has the timeout in its context
