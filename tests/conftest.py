"""What several tests stand on."""

import logging
import os
import shutil
import signal
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STRANGE = HERE / "strange"
OLDEST = Path(os.environ.get("OLDEST_MLFLOW_VENV") or HERE.parent / ".venv-oldest")  # has mlflow 2.22.0


def pytest_configure() -> None:
    """Ctrl-C ends what the tests start, though a shell that started these in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("asyncio").addFilter(_is_no_stopwatch)


def _is_no_stopwatch(record: logging.LogRecord) -> bool:
    """What asyncio's debug mode says of a callback that took long is true of any on a busy machine."""
    return not str(record.msg).startswith("Executing %s took")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside CI a test that needs what is not here is skipped with the cure; in CI it fails instead."""
    if os.environ.get("CI") == "true":
        return
    for item in items:
        for mark in item.iter_markers("needs"):
            if missing := [need for need in mark.args if not has(need)]:
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}; .ci/run installs it"))


def has(need: str) -> bool:
    """Whether this machine has *need*: a program, the rights of root, or the oldest supported MLflow."""
    if need == "oldest":
        return (OLDEST / "bin" / "python").exists()
    return os.geteuid() == 0 if need == "root" else shutil.which(need) is not None


@pytest.fixture
def strange_path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The misbehaving probes are importable, here and in processes that are started from here."""
    monkeypatch.syspath_prepend(str(STRANGE))
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{STRANGE}{os.pathsep}{known}" if known else str(STRANGE))
    return STRANGE
