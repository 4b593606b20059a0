"""The training of the demo's model in its own process, since the daemon must never import MLflow."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from mlopsd.cli.demo.folder import DemoFolder
from mlopsd.cli.errors import CommandError
from mlopsd.cli.terminal.progress import ProgressLine, draw_bar
from mlopsd.format import format_age

TRAINING = "mlopsd_probes.model.demo"  # run by its name and never imported
STEPS = 6  # the number of steps that a first training reports
REDRAW = 0.2  # seconds
NEEDED = {"mlflow": 3, "scikit-learn": 1}  # distributions and their oldest major version
FIX = "pip install 'mlopsd[demo]'"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version with the alias champion; *metrics* are known only after a training."""

    version: str
    metrics: Mapping[str, float] = field(default_factory=dict)


def check_packages() -> None:
    """Check that the packages for the training are installed and recent enough.

    Raises:
        CommandError: A package is missing or too old.
    """
    for name, oldest in NEEDED.items():
        try:
            found = version(name)
        except PackageNotFoundError as error:
            raise CommandError(f"cannot train the demo's model: {name} is not installed; {FIX}") from error
        if int(found.partition(".")[0]) < oldest:
            reason = f"{name} {found} is older than {oldest}"
            raise CommandError(f"cannot train the demo's model: {reason}; pip install '{name}>={oldest}'")


def train(folder: DemoFolder, experiment: str | None, progress: ProgressLine, *, new: bool) -> Champion:
    """Return the champion in *folder*'s registry; train one if there is none, or if it must be *new*.

    Raises:
        CommandError: The training failed.
    """
    last: dict[str, Any] = {}
    with _start_training(folder, _command(folder, experiment, new=new)) as lines:
        for last in _follow(lines, progress):
            if "version" in last:
                return Champion(last["version"], last["metrics"] or {})
    reason = last.get("failed", "the training ended without a result")
    raise CommandError(f"cannot set up the demo: {reason}; see {folder.log}")


def _command(folder: DemoFolder, experiment: str | None, *, new: bool) -> list[str]:
    named = [] if experiment is None else [f"--experiment={experiment}"]
    command = [sys.executable, "-m", TRAINING, str(folder.path), "--model", folder.MODEL]
    return [*command, *named, *(["--new"] if new else [])]


@contextmanager
def _start_training(folder: DemoFolder, command: list[str]) -> Iterator["queue.SimpleQueue[str]"]:
    """Yield a queue of the lines that *command* prints, then "". The process ends with this one."""
    with (
        folder.log.open("wb") as log,
        subprocess.Popen(
            command,
            cwd=folder.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            yield lines
        finally:
            process.stdin.close()  # this ends the process


def _read_lines(stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _follow(lines: "queue.SimpleQueue[str]", progress: ProgressLine) -> Iterator[dict[str, Any]]:
    """Yield the messages of the training, and show the current step."""
    step, number, began = "", 0, time.monotonic()
    while line := _next_line(lines):
        if line != "\n":
            message = json.loads(line)
            yield message
            step, number, began = message.get("step", step), number + 1, time.monotonic()
        if step:
            elapsed = format_age(time.monotonic() - began)
            progress.show(f"{draw_bar((number - 1) / STEPS)} {step} … {elapsed}", plain=step)


def _next_line(lines: "queue.SimpleQueue[str]") -> str:
    """Return the next line, or an empty one after `REDRAW` seconds."""
    try:
        return lines.get(timeout=REDRAW)
    except queue.Empty:
        return "\n"
