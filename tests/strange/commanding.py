"""Probes that run a command, each in a place of its own; imported by name."""

from typing import Any

from mlopsd.commands import CommandOutput, run, run_async
from mlopsd.probe import Finding, Options, Probe, Reading, Schedule, Status


class CommandOptions(Options):
    """*script* is what a shell runs, within *limit* seconds; *mark* shows in the environment of all of it."""

    script: str
    mark: str
    limit: float = 60


class Commander(Probe[CommandOptions]):
    """Says what its script says."""

    Options = CommandOptions
    schedule = Schedule(interval=0.2, timeout=20, fail_after=1, recover_after=1)

    def check(self) -> Reading:
        return said(run(["sh", "-c", self.options.script], **limits(self.options)))


class AsyncCommander(Probe[CommandOptions]):
    """The same as a coroutine."""

    Options = CommandOptions

    async def check(self) -> Reading:
        return said(await run_async(["sh", "-c", self.options.script], **limits(self.options)))


def limits(options: CommandOptions) -> dict[str, Any]:
    return {"timeout": options.limit, "environment": {"PATH": "/usr/bin:/bin", "MARK": options.mark}}


def said(output: CommandOutput) -> Reading:
    return Reading([Finding("script", Status.HEALTHY, output.stdout.strip() or "nothing")])
