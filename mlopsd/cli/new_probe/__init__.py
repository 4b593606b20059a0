"""``mlopsd probes new``: the package of a small working probe, for its author to change."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from string import Template

from mlopsd.cli.errors import CommandError
from mlopsd.config import plugins
from mlopsd.config.schema import PROBE_NAME, TAKEN_NAMES

FILES = Path(__file__).parent / "files"
FORM = "use lower-case letters, digits and single _, start with a letter, end with no _, at most 32"


def write_package(name: str, parent: Path) -> Path:
    """Write the package of the probe *name* below *parent*, and return its folder.

    Raises:
        CommandError: The name is invalid or taken, or the folder exists or cannot be written.
    """
    _check_name(name)
    folder = parent / f"mlopsd-probe-{name.replace('_', '-')}"
    try:
        folder.mkdir(parents=True)
        for path, text in _files(name):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except FileExistsError as error:
        raise CommandError(f"cannot write {folder}: it exists; choose another name or --path") from error
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}; choose another --path") from error
    return folder


def _check_name(name: str) -> None:
    """Check that *name* can be a probe's and is free.

    Raises:
        CommandError: It is not.
    """
    if not PROBE_NAME.fullmatch(name) or "__" in name or name.endswith("_") or name in TAKEN_NAMES:
        raise CommandError(f"cannot write probe {name!r}: not a valid name; {FORM}")
    for plugin in plugins.find():
        if plugin.name == name:
            owner = plugin.distribution or plugin.target
            raise CommandError(f"cannot write probe {name!r}: {owner} provides it; choose another name")


def _files(name: str) -> Iterator[tuple[Path, str]]:
    """Yield each file of the package by its path, with its text."""
    package = f"mlopsd_probe_{name}"
    words = {
        "name": name,
        "package": package,
        "distribution": package.replace("_", "-"),
        "class_name": "".join(part.capitalize() for part in (*name.split("_"), "probe")),
        "needs": needed_range(version("mlopsd")),
    }
    for path in sorted(FILES.rglob("*.in")):
        place = path.relative_to(FILES).with_suffix("")
        parts = (package if part == "package" else part for part in place.parts)
        yield Path(*parts), Template(path.read_text("utf-8")).substitute(words)


def needed_range(installed: str) -> str:
    """Return the versions of mlopsd with the same contract as *installed*: ``mlopsd>=0.1,<0.2``."""
    major, minor = (int(part) for part in installed.split(".")[:2])
    above = f"{major + 1}" if major else f"0.{minor + 1}"
    return f"mlopsd>={major}.{minor},<{above}"
