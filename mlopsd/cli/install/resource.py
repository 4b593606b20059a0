"""Files that are shipped beside the code: in the wheel below ``mlopsd/data``, in a checkout at its root."""

from pathlib import Path

import mlopsd
from mlopsd.cli.errors import CommandError


def resource(name: str) -> bytes:
    """The shipped file *name*.

    Raises:
        Failure: this installation lacks it.
    """
    package = Path(mlopsd.__file__).parent
    for place in (package / "data", package.parent):
        path = place / name
        if path.is_file():
            return path.read_bytes()
    raise CommandError(
        f"cannot find the shipped {name}: this installation lacks it; pip install mlopsd again"
    )
