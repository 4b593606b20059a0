"""Trees that somebody else has shaped, and how nothing of them is left."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from mlopsd import file_tree
from mlopsd.file_tree import remove_tree

AS_NOBODY = """
import os, sys
from pathlib import Path
from mlopsd.file_tree import remove_tree
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(remove_tree(Path(sys.argv[1])))
"""


def nest(folder: Path, depth: int, name: str = "x" * 100, mode: int = 0o777) -> None:
    """Folders in each other below *folder*, made one by one, since no path is long enough."""
    here = os.open(folder, os.O_PATH)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_PATH, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


@contextmanager
def few_descriptors() -> Iterator[None]:
    """No descriptor more afterwards than before."""
    before = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() == before


def test_three_thousand_nested_folders_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    nest(tree, 3000)
    with few_descriptors():
        assert remove_tree(tree) is None
    assert not list(tmp_path.iterdir())


def test_no_link_is_followed(tmp_path: Path) -> None:
    other, tree = tmp_path / "other", tmp_path / "tree"
    (other / "folder").mkdir(parents=True)
    (other / "file").write_text("kept")
    (tree / "inner").mkdir(parents=True)
    (tree / "inner/folder").symlink_to(other)
    (tree / "inner/file").symlink_to(other / "file")
    (tree / "dangling").symlink_to("nowhere")
    assert remove_tree(tree) is None
    link = tmp_path / "link"
    link.symlink_to(other)
    assert remove_tree(link) is None
    assert {path.name for path in tmp_path.iterdir()} == {"other"}
    assert {path.name for path in other.iterdir()} == {"folder", "file"}


def test_files_sockets_pipes_and_odd_names_go_as_well(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (b"\xff\xfe", b"-rf", b"a\nb", b" ", "\u9152".encode() * 80):
        folder = tree / os.fsdecode(name)
        folder.mkdir()
        (folder / "file").touch()
    os.mkfifo(tree / "pipe")
    assert remove_tree(tree) is None
    assert remove_tree(tree) is None, "it is gone already"
    assert remove_tree(tree / "below/what/is/gone") is None
    file = tmp_path / "file"
    file.touch()
    assert remove_tree(file) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("root")
def test_folders_that_their_modes_close_are_removed_by_their_owner() -> None:
    """Root goes through every mode, so it is somebody else here."""
    with TemporaryDirectory() as room:
        os.chown(room, 65534, 65534)
        tree = Path(room, "tree")
        _close_folders(tree)
        done = subprocess.run([sys.executable, "-c", AS_NOBODY, tree], capture_output=True, text=True)
        assert done.stdout == "None\n", done.stderr
        assert not tree.exists()


def _close_folders(tree: Path) -> None:
    (tree / "closed/inner/inmost").mkdir(parents=True)
    (tree / "closed/inner/file").touch()
    (tree / "unwritable").mkdir()
    (tree / "unwritable/file").touch()
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 65534, 65534)
    for path, mode in ((tree / "closed/inner", 0), (tree / "closed", 0), (tree / "unwritable", 0o555)):
        path.chmod(mode)
    tree.chmod(0)


@pytest.mark.needs("root")
def test_what_cannot_be_removed_is_reported_and_the_rest_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a", "b", "c"):
        (tree / name / "inner").mkdir(parents=True)
        (tree / name / "file").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tree / "b/inner")], check=True)
    try:
        left = remove_tree(tree)
    finally:
        subprocess.run(["umount", str(tree / "b/inner")], check=True)
    assert left == f"cannot remove all of {tree}: 'inner': Device or resource busy"
    assert [str(path.relative_to(tree)) for path in tree.rglob("*")] == ["b", "b/inner"]
    assert remove_tree(tree) is None


def test_without_a_descriptor_left_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)

    def no_more(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched, few_descriptors():
        patched.setattr(os, "open", no_more)
        assert remove_tree(tree) == f"cannot remove all of {tree}: 'tree': Too many open files"
    assert remove_tree(tree) is None


def test_a_folder_with_more_folders_than_are_checked_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tree, "AT_A_TIME", 3)
    for number in range(50):
        (tmp_path / f"tree/{number}/inner").mkdir(parents=True)
        (tmp_path / f"tree/{number}/file").touch()
    assert remove_tree(tmp_path / "tree") is None
    assert not list(tmp_path.iterdir())


def test_a_tree_that_somebody_moves_and_fills_meanwhile_costs_nothing_else(tmp_path: Path) -> None:
    """What is beside it stays, whoever wins."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    (other / "kept").mkdir(parents=True)
    over = threading.Event()

    def meddle() -> None:
        while not over.is_set():
            for step in (
                lambda: (tree / "a/b/c/d").mkdir(parents=True),
                lambda: (tree / "a/b").rename(other / "b"),
                lambda: (other / "b").rename(tree / "b"),
                (tree / "a").rmdir,
            ):
                try:
                    step()
                except OSError:
                    continue

    meddling = threading.Thread(target=meddle)
    meddling.start()
    with few_descriptors():
        for _ in range(300):
            remove_tree(tree)
    over.set()
    meddling.join()
    remove_tree(tree)
    assert not tree.exists()
    assert (other / "kept").is_dir()
