"""What the tests of the places of work stand on: probes in trouble, and nothing left behind."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlopsd.probe import Probe
from tests import fakes
from tests.running import GIVE_UP


@pytest.fixture
def account() -> fakes.Account:
    return fakes.Account()


@pytest.fixture
def troubled(strange_path: Path) -> type[Probe[Any]]:
    import troubled

    found: type[Probe[Any]] = troubled.Troubled
    return found


@pytest.fixture
def async_troubled(strange_path: Path) -> type[Probe[Any]]:
    import troubled

    found: type[Probe[Any]] = troubled.AsyncTroubled
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    """Processes and descriptors are counted before and after each test."""
    me = psutil.Process()
    before = (me.num_fds(), len(me.children(recursive=True)))
    yield
    deadline = time.monotonic() + GIVE_UP
    while (me.num_fds(), len(me.children(recursive=True))) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (me.num_fds(), len(me.children(recursive=True))) <= before, me.children(recursive=True)
