"""A daemon as one would write it first: a model is loaded in a thread of the process that has the event loop.

``python -m bench.threaded FIRST SECOND`` has FIRST loaded, samples its loop while it loads SECOND and for
as long after that, and prints both.
"""

import asyncio
import json
import sys

from bench.troubles import STEP


async def _sampled(until: "asyncio.Future[object]") -> list[float]:
    """How late each sleep was until *until* is done."""
    loop, lags = asyncio.get_running_loop(), []
    while not until.done():
        began = loop.time()
        await asyncio.sleep(STEP)
        lags.append(loop.time() - began - STEP)
    return lags


async def _main(first: str, second: str) -> None:
    from mlflow import pyfunc  # noqa: PLC0415  # seconds, before anything is measured

    pyfunc.load_model(first)
    loop = asyncio.get_running_loop()
    began = loop.time()
    loading = await _sampled(asyncio.ensure_future(asyncio.to_thread(pyfunc.load_model, second)))
    seconds = loop.time() - began
    idle = await _sampled(asyncio.ensure_future(asyncio.sleep(seconds)))
    print(json.dumps({"loading": loading, "idle": idle, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
