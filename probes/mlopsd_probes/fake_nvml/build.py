"""Build the simulated library, and find its scenarios; a process sees a scenario's GPUs as its own."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "c"
SCENARIOS = HERE / "scenarios"
SUFFIX = ".scenario"
LIBRARY = "libnvidia-ml.so.1"  # the name under which every program loads NVML
COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    *("-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"),
    f"-Wl,-soname,{LIBRARY}",
)


class NoFake(Exception):
    """The simulated library or its scenario is not available; the text is one line."""


def library(folder: Path, *flags: str) -> Path:
    """Return the compiled library below *folder*, in a separate folder for ``LD_LIBRARY_PATH``.

    Compile it unless it exists for these sources and *flags*; two processes may do so at the same time.

    Raises:
        NoFake: there is no C compiler, or it failed.
    """
    home = folder / f"fake-nvml-{_fingerprint(flags)}"
    if not (home / LIBRARY).exists():
        home.mkdir(parents=True, exist_ok=True)
        _compile(home, flags)
    return home / LIBRARY


def scenarios() -> list[str]:
    """Return the names of the included scenarios."""
    return sorted(path.stem for path in SCENARIOS.glob(f"*{SUFFIX}"))


def scenario(name: str) -> Path:
    """Return the file of the scenario *name*, which may also be the path of a file.

    Raises:
        NoFake: there is no such scenario.
    """
    for path in (SCENARIOS / f"{name}{SUFFIX}", Path(name)):
        if path.is_file():
            return path.absolute()
    raise NoFake(f"cannot find the scenario '{name}': there are {', '.join(scenarios())}; or name a file")


def environment(
    path: Path, folder: Path, inherited: Mapping[str, str] = os.environ, *, calls: Path | None = None
) -> dict[str, str]:
    """Return the variables with which a process sees the GPUs of the scenario at *path*.

    The scenario's time begins now, for all processes with this environment. *folder* keeps the library.
    *calls* is a file for the counts of calls, one line ``NAME NUMBER`` each.

    Raises:
        NoFake: see `library`.
    """
    known = inherited.get("LD_LIBRARY_PATH")
    home = str(library(folder).parent)
    needed = {
        "LD_LIBRARY_PATH": f"{home}{os.pathsep}{known}" if known else home,
        "FAKE_NVML_SCENARIO": str(path.absolute()),
        "FAKE_NVML_EPOCH": f"{time.time():.3f}",
    }
    return needed if calls is None else {**needed, "FAKE_NVML_CALLS": str(calls.absolute())}


def steer(path: Path, text: str) -> None:
    """Replace the scenario at *path* atomically; a process on it reads it again at its next call."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(draft).replace(path)


def _fingerprint(flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((FLAGS, flags, os.uname().machine)).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(home: Path, flags: tuple[str, ...]) -> None:
    """Compile to a temporary name and rename the result, so that no process loads an incomplete library."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoFake(f"cannot build the fake GPUs: no C compiler ({', '.join(COMPILERS)}); install gcc")
    draft = home / f".{os.getpid()}-{time.monotonic_ns()}"
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    command = [compiler, *FLAGS, *flags, "-o", str(draft), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoFake(f"cannot build the fake GPUs: {compiler}: {_first_line(done.stderr)}")
    draft.replace(home / LIBRARY)


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0] if lines else "it failed without output"
