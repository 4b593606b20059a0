"""The requirements of an installed distribution that are not met."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import InvalidRequirement, Requirement

from mlopsd.code_version import installed_version


def unmet_requirements(package: str) -> list[str]:
    """Return the unmet requirements of *package*, like ``opencv-python>=4``."""
    try:
        declared = requires(package) if package else None
    except PackageNotFoundError:
        declared = None
    return [text for line in declared or () for text in _unmet(line)]


def _unmet(line: str) -> Iterator[str]:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    version = installed_version(requirement.name)
    if version is None:
        yield f"{requirement.name}{requirement.specifier}"  # without its URL, which may hold a password
    elif not requirement.specifier.contains(version, prereleases=True):
        yield f"{requirement.name}{requirement.specifier} ({version} is installed)"
