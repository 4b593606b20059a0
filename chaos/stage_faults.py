"""Faults of what the daemon leans on: disk, registry, driver, clock, a stranger's file, the alias."""

import asyncio
import signal

from chaos.fault import Begin, Ground, Injected


async def fill_disk(ground: Ground) -> Injected:
    """Not one byte is free."""
    ground.daemon.may_fail_to_start = True
    await asyncio.to_thread(ground.stage.fill)

    async def undo() -> None:
        await asyncio.to_thread(ground.stage.make_room)
        ground.daemon.may_fail_to_start = False

    return Injected("the state folder's disk is full", undo)


async def kill_registry(ground: Ground) -> Injected:
    """Kill the registry, and start it again at the end."""
    ground.stage.registry.end()
    return Injected("SIGKILL to the registry", ground.stage.registry.start)


async def freeze_registry(ground: Ground) -> Injected:
    """Make the registry accept and never answer."""
    ground.stage.registry.signal(signal.SIGSTOP)

    async def undo() -> None:
        ground.stage.registry.signal(signal.SIGCONT)

    return Injected("SIGSTOP to the registry", undo)


def driver_that(*lines: str) -> Begin:
    """Add *lines* to the scenario of the cards."""

    async def begin(ground: Ground) -> Injected:
        ground.stage.steer(*lines)

        async def undo() -> None:
            ground.stage.steer()

        return Injected(f"the driver: {'; '.join(lines)}", undo)

    return begin


def step_clock(seconds: float) -> Begin:
    """Move the time of day by *seconds*, and back at the end."""

    async def begin(ground: Ground) -> Injected:
        ground.stage.clock.move(seconds)

        async def undo() -> None:
            ground.stage.clock.move(0)

        return Injected(f"the time of day steps by {seconds:+g} s", undo, lambda: False)

    return begin


async def stop_heart(ground: Ground) -> Injected:
    """Stop what the third party's probe watches."""
    ground.stage.heart_beats = False

    async def undo() -> None:
        ground.stage.heart_beats = True

    return Injected("the stranger's file is not touched any more", undo)


async def move_alias(ground: Ground) -> Injected:
    """Make the other good version the champion."""
    registry = ground.stage.registry
    number = next(number for number in registry.good if number != registry.champion)
    ground.stage.expect_any()
    await asyncio.to_thread(registry.point, number)
    return Injected(f"the champion is version {number}")


def champion_that_fails(step: str) -> Begin:
    """Point the alias at a version that *step* must reject, "canary" or "load"."""

    async def begin(ground: Ground) -> Injected:
        registry = ground.stage.registry
        before = registry.champion
        await asyncio.to_thread(registry.point, registry.bad[step])

        async def undo() -> None:
            await asyncio.to_thread(registry.point, before)

        return Injected(f"the champion is version {registry.champion}, which fails its {step}", undo)

    return begin
