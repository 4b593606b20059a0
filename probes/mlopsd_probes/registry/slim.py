"""Import MLflow without the libraries that only models need, as ``mlflow-skinny`` has it.

MLflow imports them wherever they are installed. They are half of its memory and of its start.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OF_MODELS = ("numpy", "pandas", "pyarrow")  # optional for MLflow itself; they import scipy and others


class _FinderWithout(PathFinder):
    """Python's own finder, for which the modules in `OF_MODELS` are not installed."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what Python's own finder has, or None for a hidden module."""
        return None if fullname in OF_MODELS else super().find_spec(fullname, path, target)


@contextmanager
def without_libraries_of_models() -> Iterator[None]:
    """Hide the libraries in `OF_MODELS` meanwhile; what is imported later, as for a store, finds them."""
    found = sys.meta_path.index(PathFinder)
    sys.meta_path[found] = _FinderWithout
    try:
        yield
    finally:
        sys.meta_path[found] = PathFinder
