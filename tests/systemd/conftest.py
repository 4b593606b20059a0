"""A real systemd with mlopsd installed in it from a wheel, as an operator would, in a throw-away box."""

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.systemd.machine import DROP_IN, MLOPSD, VENV, Box

BOX = Path(__file__).with_name("box")
ROOT = BOX.parents[2]
BOX_SECONDS = 900  # the most that all tests of one session may take
END_SECONDS = 60
LINGERING = Path(__file__).with_name("lingering.py")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def box(wheel: Path) -> Iterator[Box]:
    """Booted, with a virtual environment at ``/opt/mlopsd`` that has the wheel and what it depends on."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [BOX, str(BOX_SECONDS)], stdin=pipe, stdout=pipe, start_new_session=True
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdin is not None
        first = launcher.stdout.readline()
        assert first, "the box did not boot; it needs root, systemd and overlayfs"
        machine = Box(int(first))
        _equip(machine, wheel)
        yield machine
        launcher.stdin.close()
        os.killpg(launcher.pid, signal.SIGTERM)  # somebody else may hold its standard input open
        try:
            launcher.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()  # the box's first process dies with it
            raise


@pytest.fixture
def installed(box: Box) -> Iterator[Box]:
    """``mlopsd install`` has been run, the service is stopped, and nothing of another test is left."""
    _clean(box)
    box.run(MLOPSD, "install")
    yield box
    _clean(box)


@pytest.fixture
def service(installed: Box) -> Box:
    """The service runs."""
    installed.run("systemctl", "start", "mlopsd")
    return installed


def _clean(box: Box) -> None:
    box.run("systemctl", "kill", "-s", "KILL", "stuck.scope", "asleep.service", check=False)
    box.run("systemctl", "stop", "mlopsd", check=False)
    box.run("rm", "-rf", str(Path(DROP_IN).parent), "/etc/mlopsd", "/var/lib/mlopsd")
    box.run("rm", "-f", "/etc/systemd/system/mlopsd.service", "/etc/sysusers.d/mlopsd.conf")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "reset-failed", check=False)


def _equip(box: Box, wheel: Path) -> None:
    """Make the virtual environment; the interpreter may lie where only this box's root can open the way."""
    for folder in Path(sys.base_prefix, "lib").resolve().parents:
        box.run("chmod", "o+x", str(folder))
    box.run(f"{sys.base_prefix}/bin/python3", "-m", "venv", VENV)
    packages = f"{VENV}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    box.run("tar", "-x", "-C", packages, stdin=_archive(_needed("mlopsd", {"system"}) - {"mlopsd"}))
    box.run("sh", "-c", 'cat >"$1"', "sh", f"/opt/{wheel.name}", stdin=wheel.read_bytes())
    box.run(f"{VENV}/bin/pip", "install", "--no-index", "--no-deps", f"/opt/{wheel.name}")
    entry = "[mlopsd.probes]\nlingering = lingering:Lingering\n"
    about = "Metadata-Version: 2.1\nName: lingering\nVersion: 1\n"
    box.write(f"{packages}/lingering-1.dist-info/METADATA", about)
    box.write(f"{packages}/lingering-1.dist-info/entry_points.txt", entry)
    box.write(f"{packages}/lingering.py", LINGERING.read_text("utf-8"))


def _needed(name: str, extras: set[str]) -> set[str]:
    """The distributions that *name* with *extras* needs on this machine, itself included."""
    found, waiting = set(), [(name, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        found.add(name)
        for requirement in map(Requirement, distribution(name).requires or ()):
            applies = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in wanted | {""}
            )
            if applies and requirement.name not in found:
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def _archive(names: set[str]) -> bytes:
    """The installed files of the distributions *names*, as they lie in site-packages."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(names):
            _add(archive, distribution(name))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, installed: Distribution) -> None:
    for file in installed.files or ():
        path = Path(str(installed.locate_file(file)))
        if ".." not in file.parts and path.is_file():
            archive.add(path, arcname=str(file))
