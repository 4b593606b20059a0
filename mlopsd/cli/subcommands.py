"""Commands of installed packages, found by the entry-point group ``mlopsd.subcommands`` without an import."""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

GROUP = "mlopsd.subcommands"
OWN_PACKAGE = "mlopsd"
Points = tuple[EntryPoint, ...]


def find(points: Iterable[EntryPoint] | None = None) -> Mapping[str, Points]:
    """Return the entry points of each command by its name; several if several packages have it.

    A command of mlopsd's own package takes precedence over others of its name.
    """
    found: dict[str, Points] = {}
    for point in sorted(set(entry_points(group=GROUP) if points is None else points)):
        found[point.name] = (*found.get(point.name, ()), point)
    return {name: tuple(filter(_is_own, several)) or several for name, several in found.items()}


def package_of(point: EntryPoint) -> str:
    """Return the name of the package that has *point*."""
    return point.value if point.dist is None else point.dist.name


def describe(points: Points) -> str:
    """Return the line of a command in ``mlopsd --help``, which imports no package."""
    return f"a command of the package {' and '.join(map(package_of, points))}; it has --help too"


def _is_own(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == OWN_PACKAGE
