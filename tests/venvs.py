"""A virtual environment of its own, in which pip installs, upgrades and removes packages."""

import site
import subprocess
import sys
import venv
from pathlib import Path

OPTIONS = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
BECOME = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"


class Venv:
    """A virtual environment that has the packages of this interpreter, and further ones of its own."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (own,) = folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
        (own / "parent.pth").write_text("".join(lines), "utf-8")

    @property
    def through(self) -> tuple[str, ...]:
        """The command before one of this interpreter, which then runs in this environment."""
        return str(self.python), "-c", BECOME

    def run(self, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """``python -m`` with *words*."""
        command = [str(self.python), "-m", *map(str, words)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)

    def install(self, *packages: str | Path) -> None:
        """Install *packages*, or upgrade them: wheels, or folders to build."""
        self._pip("install", *OPTIONS, "--no-build-isolation", *packages)

    def uninstall(self, package: str) -> None:
        self._pip("uninstall", "--yes", "--quiet", package)

    def _pip(self, *words: str | Path) -> None:
        done = self.run("pip", *words)
        assert done.returncode == 0, done.stderr


def wheel(source: Path, folder: Path) -> Path:
    """The wheel of the package in *source*, built into *folder*."""
    command = [sys.executable, "-m", "pip", "wheel", *OPTIONS, "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built
