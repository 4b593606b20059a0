"""What an earlier attempt left of a file, and what a disk takes of a write."""

import os
import warnings
from pathlib import Path
from typing import Any

from mlopsd_probes.registry.journal import Journal
from mlopsd_probes.registry.meter import Meter, write_all
from mlopsd_probes.registry.reuse import CachedFiles

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    from mlflow.entities import FileInfo

    from mlopsd_probes.registry.stores import OpenFile
    from mlopsd_probes.registry.transfer import Transfer

CONTENT = b"0123456789"
VALIDATOR = '"1"'


class WholeFiles:
    """A store that has one content, and gives it from any byte on."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def open(self, path: str, offset: int = 0, validator: str | None = None) -> OpenFile:
        self.asked.append(offset)
        return OpenFile(iter([CONTENT[offset:]]), offset, VALIDATOR, len(CONTENT))


def fetched(folder: Path) -> tuple[bytes, list[int]]:
    """Fetch the file ``weights`` into *folder*; return it, and from which bytes on the store was asked."""
    store: Any = WholeFiles()
    nothing: Any = None
    transfer = Transfer(nothing, store, folder, CachedFiles(()), Meter(), at_a_time=1)
    transfer.fetch(FileInfo("weights", is_dir=False, file_size=len(CONTENT)))
    transfer.close()
    return (folder / "weights").read_bytes(), store.asked


def left_over(tmp_path: Path, *, in_ranges: bool) -> Path:
    """Return the folder of an attempt that has the first four bytes of ten."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "weights").write_bytes(CONTENT[:4])
    journal = Journal(folder)
    journal.begin("weights", VALIDATOR)
    if in_ranges:
        journal.reach("weights", 0, 4)
        os.truncate(folder / "weights", len(CONTENT))
    journal.close()
    return folder


def test_the_bytes_of_a_file_that_came_in_one_are_used(tmp_path: Path) -> None:
    assert fetched(left_over(tmp_path, in_ranges=False)) == (CONTENT, [4])


def test_a_file_with_holes_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """The store has given ranges, and gives none any more."""
    assert fetched(left_over(tmp_path, in_ranges=True)) == (CONTENT, [0])


def test_a_write_that_takes_only_a_part_is_continued() -> None:
    class Narrow:
        """A disk that takes three bytes at a time."""

        def __init__(self) -> None:
            self.written = b""

        def write(self, chunk: memoryview) -> int:
            self.written += bytes(chunk[:3])
            return min(3, len(chunk))

    disk: Any = Narrow()
    write_all(disk, CONTENT)
    assert disk.written == CONTENT
