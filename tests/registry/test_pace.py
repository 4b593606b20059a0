"""The least rate of a download, with a clock of the test's own."""

import asyncio

import pytest

from mlopsd_probes.registry.pace import Pace

IDLE = 500.0  # so long that the loop's own clock ends nothing here


@pytest.mark.parametrize(
    ("steps", "is_slow"),
    [
        ([(0, 0), (1000, 100_000)], False),
        ([(0, 0), (1000, 99_999)], True),
        ([(0, 0), (999, 0)], False),  # the window is not over
        ([(0, 0), (999, 0), (1000, 100_000)], False),  # all in its last second
        ([(0, None), (5000, None), (5000, 0), (5999, 0)], False),  # a long list of files
        ([(0, 0), (1000, 10**9), (1001, 10**9), (2001, 10**9)], True),  # a fast start excuses nothing later
        ([(0, 7_000_000), (1000, 7_050_000)], True),  # what an earlier attempt left counts for nothing
    ],
)
async def test_a_window_below_the_least_rate_ends_a_download(
    steps: list[tuple[float, int | None]], *, is_slow: bool
) -> None:
    clock = [0.0]
    base = asyncio.get_running_loop().time()
    pace = Pace(100, IDLE, lambda: base + clock[0])
    await pace.slow.__aenter__()
    async with pace.idle:
        for alive, (seconds, moved) in enumerate(steps):
            clock[0] = seconds
            pace.pulse({"alive": alive, "moved": moved})
    assert (pace.slow.when() is not None) is is_slow
