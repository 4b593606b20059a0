"""The deadline of a test: a probe that hangs costs one test, with a message that says where."""

import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from mlopsd.daemon.event_loop import run_until_done
from mlopsd.worker.loop_use import outwards, package_of, place_of

NOT_THE_AUTHORS = sys.stdlib_module_names | {"mlopsd"}

Result = TypeVar("Result")


def run_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return the result of *function*, run in a thread of its own.

    Raises:
        AssertionError: It takes longer than *seconds*; the message has the line where it is.
    """
    answer: Future[Result] = Future()

    def call() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001  # the test raises it again
            answer.set_exception(error)

    thread = threading.Thread(name="conformance test", target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise AssertionError(f"the probe does not return within {seconds:g} s; it is at {_place_of(thread)}")
    error = answer.exception()
    if error is not None and not isinstance(error, Exception):
        raise AssertionError(
            f"the probe raised {type(error).__name__}; raise ProbeError, or return a reading"
        )
    return answer.result()


def run_coroutine(seconds: float, coroutine: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Return the result of *coroutine* on a loop of its own, which does not wait for tasks that stay.

    Raises:
        AssertionError: It takes longer than *seconds*.
    """
    return run_within(seconds, lambda: run_until_done(coroutine()))


def _place_of(thread: threading.Thread) -> str:
    """Return the line of the author's code that *thread* runs, or of any code if there is none of theirs."""
    frames = list(outwards(sys._current_frames().get(thread.ident or 0)))  # noqa: SLF001  # the documented name
    own = (frame for frame in frames if package_of(frame) not in NOT_THE_AUTHORS)
    return next(map(place_of, own), "") or next(map(place_of, frames), "at its end")
