"""The loader module of the versions in chaos runs; it runs in their process."""

from pathlib import Path
from typing import Any

hoard: list[bytearray] = []


def _load_pyfunc(data: str) -> "Scaled":
    return Scaled(float(Path(data, "factor.txt").read_text("ascii")))


class Scaled:
    """Answers with x times its factor; where it is told "eat N" it takes N bytes and keeps them."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, table: Any) -> list[float]:
        """One number a row of ``do`` and ``x``."""
        for what in table["do"]:
            if what:
                hoard.append(bytearray(b"x") * int(what.split()[1]))
        return [x * self.factor for x in table["x"]]
