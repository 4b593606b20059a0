"""What several tests stand on."""

import logging
import os
import shutil
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.measured import measure_children
from tests.unit import alone, is_unit

HERE = Path(__file__).parent
STRANGE = HERE / "strange"
OLDEST = Path(os.environ.get("OLDEST_MLFLOW_VENV") or HERE.parent / ".venv-oldest")  # has mlflow 2.22.0


def pytest_configure() -> None:
    """Ctrl-C ends what the tests start, though a shell that started these in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("asyncio").addFilter(_is_no_stopwatch)
    measure_children()


def _is_no_stopwatch(record: logging.LogRecord) -> bool:
    """What asyncio's debug mode says of a callback that took long is true of any on a busy machine."""
    return not str(record.msg).startswith("Executing %s took")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the unit tests, and outside CI skip a test that needs what is not here; in CI it fails instead.

    The unit tests come last: their files are short, so that all workers end at about the same time.
    """
    for item in items:
        if is_unit(item.path):
            item.add_marker("unit")
    items.sort(key=lambda item: is_unit(item.path))
    if os.environ.get("CI") == "true":
        return
    for item in items:
        for mark in item.iter_markers("needs"):
            if missing := [need for need in mark.args if not has(need)]:
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}; .ci/run installs it"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Let the fixtures of a unit test start no process and use no network."""
    yield from _hold_the_rule_of_unit_tests(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Let a unit test start no process and use no network."""
    yield from _hold_the_rule_of_unit_tests(item)


def _hold_the_rule_of_unit_tests(item: pytest.Item) -> Generator[None, None, None]:
    if "unit" not in item.keywords:
        yield
        return
    with alone():
        yield


def has(need: str) -> bool:
    """Whether this machine has *need*: a program, root's rights, PostgreSQL, or the oldest MLflow."""
    if need == "oldest":
        return (OLDEST / "bin" / "python").exists()
    if need == "postgresql":
        return any(Path("/usr/lib/postgresql").glob("*/bin"))  # not in PATH
    return os.geteuid() == 0 if need == "root" else shutil.which(need) is not None


@pytest.fixture
def strange_path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The misbehaving probes are importable, here and in processes that are started from here."""
    monkeypatch.syspath_prepend(str(STRANGE))
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{STRANGE}{os.pathsep}{known}" if known else str(STRANGE))
    return STRANGE
