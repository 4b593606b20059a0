"""The version of the code in memory, to compare with the code that is installed now."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

SHOWN_FILES = 3


@dataclass(frozen=True, slots=True)
class CodeChange:
    """A difference between the code in memory and the installed code.

    Attributes:
        sentence: "cause; fix".
        restart_helps: True if a restart of mlopsd loads the installed code.
    """

    sentence: str
    restart_helps: bool = True


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """The code of a distribution as it was imported.

    Attributes:
        package: The name of the distribution, or "" without one.
        version: The version of the distribution at the import.
        files: A digest of each imported source file, by its path. An editable installation can change its
            code without a new version.
    """

    package: str = ""
    version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def change(self) -> CodeChange | None:
        """Return how the installed code differs, or None if no difference can be known."""
        installed = installed_version(self.package) if self.package else None
        changed = [Path(path).name for path, digest in self.files.items() if _digest(path) != digest]
        if self.files and self.package and installed is None:
            gone = f"{self.package} is no longer installed, {self.version} is running; install it again"
            return CodeChange(gone, restart_helps=False)
        if installed not in (None, self.version):
            return CodeChange(
                f"{self.package} {installed} is installed, {self.version} is running; restart mlopsd"
            )
        if changed:
            names = ", ".join(sorted(changed)[:SHOWN_FILES])
            more = f" and {len(changed) - SHOWN_FILES} more" if len(changed) > SHOWN_FILES else ""
            code = f"the code of {self.package} {self.version}".rstrip()
            return CodeChange(
                f"{code} has changed on disk since mlopsd loaded it ({names}{more}); restart mlopsd"
            )
        return None


def installed_version(package: str) -> str | None:
    """Return the version of the distribution *package* that is installed now, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def imported_code(package: str, package_version: str, module: str) -> CodeVersion:
    """Return the code of *module* and of the imported modules beside it, which *package* provides."""
    files = {path: digest for path in _sources(module) if (digest := _digest(path))}
    return CodeVersion(package, package_version, files)


def _sources(module: str) -> Iterator[str]:
    """Yield the source file of each imported module in the package of *module*."""
    top = _top_package(module)
    for name, found in list(sys.modules.items()):
        if name == top or name.startswith(f"{top}."):
            path = _file(found)
            if path.endswith(".py"):
                yield path


def _top_package(module: str) -> str:
    """Return the first package of *module* with a file. Several distributions may share one without."""
    parts = module.split(".")
    names = [".".join(parts[: number + 1]) for number in range(len(parts))]
    return next((name for name in names if _file(sys.modules.get(name))), module)


def _file(module: ModuleType | None) -> str:
    return getattr(module, "__file__", None) or ""


def _digest(path: str) -> str | None:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
    except OSError:
        return None
