"""Versions whose right answer anyone can compute: each multiplies by a factor of its own."""

from pathlib import Path

from tests.model.models.saved import DO_AND_X, written

COLUMNS = list(DO_AND_X)
SCALED = Path(__file__).with_name("scaled.py")


def made(folder: Path, factor: str) -> Path:
    """Write a version to *folder*; with "nan" it fails its canary, with no number at all its load."""
    return written(folder, SCALED, "factor.txt", factor)
