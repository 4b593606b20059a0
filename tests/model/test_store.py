"""The cache on disk: whole or not there, whatever ends the daemon, and no more than two versions."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlopsd_probes.model.cache import stamps
from mlopsd_probes.model.cache.contents import CacheContents
from mlopsd_probes.model.cache.files import StoreError
from mlopsd_probes.model.cache.partial import OLDEST_SECONDS
from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.version import File, Version

CONTENT = b"weights"


def version(number: int) -> Version:
    return Version(str(number), "@champion", "http://registry", f"models:/m-{number}", "run", number)


def put(
    store: Store, number: int, mark: str | None = None, before: Callable[[Path], None] = lambda _: None
) -> CachedVersion:
    """Version *number*, fetched and kept; its digests are its own, or those of *mark*.

    *before* is called with its folder at the end of the fetch.
    """
    part = store.part(version(number))
    (part / "data").mkdir()
    (part / "data" / "model").write_bytes(CONTENT)
    (part / "MLmodel").write_bytes(b"{}")
    before(part)
    return store.keep(version(number), files(mark or str(number)))


def files(mark: str) -> tuple[File, ...]:
    return (File("MLmodel", 2, f"aa{mark}"), File("data/model", len(CONTENT), f"bb{mark}"))


def numbers(shelf: CacheContents) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The current version, the previous one, and the others."""
    current, previous = (
        None if one is None else one.version.number for one in (shelf.current, shelf.previous)
    )
    return current, previous, tuple(other.version.number for other in shelf.others)


def left(folder: Path) -> set[str]:
    """Everything below the folder of the model but for what is in the versions."""
    return {path.name for path in (folder / "models" / "iris").iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, "iris")


def test_a_restart_finds_the_current_version_and_the_one_before(tmp_path: Path, store: Store) -> None:
    for number in (1, 2, 3):
        shelf = store.choose(put(store, number))
    assert numbers(shelf) == ("3", "2", ())
    found = Store(tmp_path, "iris").load()
    assert found == shelf
    assert found.current is not None
    assert found.current.files == files("3")
    assert (Path(found.current.folder) / "data" / "model").read_bytes() == CONTENT
    assert left(tmp_path) == {
        "order.json",
        *(f"{version(number).id}{end}" for number in (2, 3) for end in ("", ".json", ".stamps")),
    }


def test_going_back_exchanges_the_two(tmp_path: Path, store: Store) -> None:
    first = put(store, 1)
    store.choose(first)
    store.choose(put(store, 2))
    assert numbers(store.choose(first)) == ("1", "2", ())
    assert numbers(store.choose(first)) == ("1", "2", ())
    assert numbers(Store(tmp_path, "iris").load()) == ("1", "2", ())


def test_what_was_learnt_of_a_version_survives(tmp_path: Path, store: Store) -> None:
    kept = put(store, 1)
    noted = store.note(store.note(kept, proven=True, load_bytes=7), load_bytes=None, cuda=True)
    assert (noted.proven, noted.notes) == (True, {"load_bytes": 7, "cuda": True})
    store.choose(noted)
    assert Store(tmp_path, "iris").load().current == noted


def test_a_note_by_who_does_not_know_an_earlier_one_keeps_it(tmp_path: Path, store: Store) -> None:
    kept = put(store, 1)
    store.note(kept, batching_mismatch=True)
    assert store.note(kept, proven=True, cuda=False).notes == {"batching_mismatch": True, "cuda": False}
    assert store.note(kept, batching_mismatch=True).proven, "a note takes no proof back"
    (found,) = Store(tmp_path, "iris").load()
    assert found.notes == {"batching_mismatch": True, "cuda": False}


def test_a_half_fetched_version_is_never_found(tmp_path: Path, store: Store) -> None:
    store.choose(put(store, 1))
    (store.part(version(2)) / "MLmodel").write_bytes(b"{}")
    assert numbers(Store(tmp_path, "iris").load()) == ("1", None, ())


def test_a_part_keeps_what_came_also_after_a_restart(tmp_path: Path, store: Store) -> None:
    part = store.part(version(1))
    assert part.is_absolute()
    assert list(part.iterdir()) == []
    (part / "rest").write_bytes(b"of a fetch that was cut")
    store.release(version(1))
    assert [path.name for path in Store(tmp_path, "iris").part(version(1)).iterdir()] == ["rest"]
    store.discard(version(1))
    assert not part.parent.exists()
    store.discard(version(1))


def test_a_part_without_a_byte_is_removed(store: Store) -> None:
    part = store.part(version(1))
    (part / "data").mkdir()
    (part / "data" / "empty").touch()
    store.release(version(1))
    assert not part.parent.exists()
    store.release(version(1))


def test_only_the_newest_parts_stay(tmp_path: Path, store: Store) -> None:
    for number in (1, 2, 3, 4):
        begun(store, number, age=10.0 - number)
    assert parts(tmp_path) == {2, 3, 4}
    Store(tmp_path, "iris").load()
    assert parts(tmp_path) == {3, 4}
    store.make_room(version(3))
    assert parts(tmp_path) == {3}


def test_a_part_of_last_week_is_removed(tmp_path: Path, store: Store) -> None:
    begun(store, 1, age=OLDEST_SECONDS + 60)
    begun(store, 2, age=OLDEST_SECONDS - 600)
    Store(tmp_path, "iris").load()
    assert parts(tmp_path) == {2}


def test_a_part_that_is_larger_than_what_is_free_is_removed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(store, 1, age=2)
    begun(store, 2, age=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=6000))
    Store(tmp_path, "iris").load()
    assert parts(tmp_path) == {2}


def begun(store: Store, number: int, age: float) -> None:
    """Leave an unfinished download whose last file came *age* seconds ago."""
    part = store.part(version(number))
    (part / "weights").write_bytes(b"x" * 4096)
    journal = part.with_name("journal")
    journal.touch()
    moment = time.time() - age
    os.utime(journal, (moment, moment))


def parts(folder: Path) -> set[int]:
    return {int(path.name.partition("-")[0]) for path in folder.rglob("*.part")}


def test_of_versions_that_were_never_chosen_the_newest_stays(tmp_path: Path, store: Store) -> None:
    store.choose(put(store, 1))
    put(store, 2)
    put(store, 3)
    assert numbers(Store(tmp_path, "iris").load()) == ("1", None, ("3",))
    assert not (tmp_path / "models" / "iris" / version(2).id).exists()


def test_a_version_is_fetched_again_over_one_that_was_of_no_use(tmp_path: Path, store: Store) -> None:
    kept = put(store, 1)
    store.choose(kept)
    (Path(kept.folder) / "data" / "model").write_bytes(b"WEIGHTS")
    again = put(store, 1)
    assert (Path(again.folder) / "data" / "model").read_bytes() == CONTENT
    assert numbers(Store(tmp_path, "iris").load()) == ("1", None, ())


def test_a_shelf_without_a_version_has_nothing_of_it(store: Store) -> None:
    kept = put(store, 1)
    assert numbers(store.choose(kept).without(kept)) == (None, None, ())


def test_to_fetch_a_version_makes_room_of_what_never_served(tmp_path: Path, store: Store) -> None:
    store.choose(put(store, 1))
    store.choose(put(store, 2))
    refused = put(store, 3)
    store.part(version(4), refused.version)
    assert numbers(Store(tmp_path, "iris").load()) == ("2", "1", ("3",))
    store.part(version(4))
    assert numbers(Store(tmp_path, "iris").load()) == ("2", "1", ())


def test_ranks_are_those_of_the_configuration_and_not_of_the_day(store: Store) -> None:
    registry = RegistryOptions(uri=version(1).registry)
    shelf = store.choose(put(store, 1))
    for candidates, rank in (("@champion",), 0), (("@blue", "@champion"), 1), (("@blue",), 1):
        options = ModelOptions(model="iris", registries=(registry,), candidates=candidates)
        assert [kept.version.candidate_rank for kept in shelf.ranked(options)] == [rank]
    elsewhere = ModelOptions(model="iris", registries=(RegistryOptions(uri="http://other"),))
    assert [kept.version.registry_rank for kept in shelf.ranked(elsewhere)] == [1]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _unlink(path: Path) -> None:
    path.unlink()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("place", "harm", "output"),
    [
        ("/data/model", _cut, "has 6 bytes instead of 7"),
        ("/data/model", _unlink, "is missing"),
        ("/MLmodel", _unlink, "is missing"),
        (".json", _cut, "is not a valid manifest"),
        (".json", _garbage, "is not a valid manifest"),
        (".json", _fifo, "is not a valid manifest"),
    ],
)
def test_a_broken_version_is_named_removed_and_not_used(
    tmp_path: Path, store: Store, place: str, harm: Callable[[Path], None], output: str
) -> None:
    store.choose(put(store, 1))
    store.choose(put(store, 2))
    harm(tmp_path / "models" / "iris" / f"{version(2).id}{place}")
    shelf = Store(tmp_path, "iris").load()
    assert numbers(shelf) == (None, "1", ())
    assert [fault.endswith(output) for fault in shelf.broken] == [True]
    assert not [name for name in left(tmp_path) if name.startswith(version(2).id)]


@pytest.mark.parametrize("harm", [_garbage, _fifo])
def test_without_a_readable_order_the_newest_that_proved_themselves_are_found(
    tmp_path: Path, store: Store, harm: Callable[[Path], None]
) -> None:
    store.choose(store.note(put(store, 1), proven=True))
    store.choose(store.note(put(store, 2), proven=True))
    put(store, 3)
    harm(tmp_path / "models" / "iris" / "order.json")
    shelf = Store(tmp_path, "iris").load()
    assert numbers(shelf) == ("2", "1", ("3",))
    assert len(shelf.broken) == 1


@pytest.mark.parametrize(
    "name", ["..", ".", "a/../../b", "a b", "ünïcode — ✓", "%41", "A" * 255, "ü" * 255, "-rf", "order.json"]
)
def test_a_model_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "state"
    store = Store(folder, name)
    shelf = store.choose(put(store, 1))
    assert Store(folder, name).load() == shelf
    assert Store(folder, "another").load() == CacheContents()
    (place,) = (folder / "models").iterdir()
    assert {path.parent for path in tmp_path.rglob("MLmodel")} == {place / version(1).id}


def test_long_names_that_begin_alike_are_two_models(tmp_path: Path) -> None:
    one, other = Store(tmp_path, "A" * 200 + "1"), Store(tmp_path, "A" * 200 + "2")
    one.choose(put(one, 1))
    assert other.load() == CacheContents()


def test_a_version_may_have_any_number(tmp_path: Path) -> None:
    store = Store(tmp_path, "iris")
    odd = replace(version(1), number="../../1")
    part = store.part(odd)
    (part / "MLmodel").write_bytes(b"{}")
    shelf = store.choose(store.keep(odd, [File("MLmodel", 2, "aa")]))
    assert Store(tmp_path, "iris").load() == shelf
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "quota"), (errno.EROFS, "mount it writable")],
)
def test_a_disk_that_will_not_is_reported_with_the_fix_and_changes_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, number: int, fix: str
) -> None:
    before = store.choose(put(store, 1))
    kept = put(store, 2)

    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        for change in (
            lambda: store.choose(kept),
            lambda: store.note(kept, proven=True),
            lambda: store.keep(version(3), ()),
        ):
            store.part(version(3), kept.version)
            with pytest.raises(StoreError, match=f"{os.strerror(number)}; .*{fix}"):
                change()
    assert not list(tmp_path.rglob("*.writing"))
    found = Store(tmp_path, "iris").load()
    assert (found.current, found.others) == (before.current, (kept,))


@pytest.mark.needs("root", "mount")
def test_a_full_disk_is_reported_and_leaves_what_was_there(tmp_path: Path) -> None:
    """A real one of 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        store = Store(tmp_path, "iris")
        kept = put(store, 1)
        store.choose(kept)
        part = store.part(version(2))
        with pytest.raises(OSError, match="No space"):
            (part / "filler").write_bytes(b"x" * 2**21)
        with pytest.raises(StoreError, match="No space left on device; make room"):
            store.note(kept, text="x" * 2**20)
        assert Store(tmp_path, "iris").load().current == kept
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.needs("root", "mount")
def test_what_cannot_be_removed_keeps_no_version_from_being_used_or_fetched(
    tmp_path: Path, store: Store
) -> None:
    kept = put(store, 1)
    store.choose(kept)
    stuck = store.part(version(2)) / "mounted"
    stuck.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(stuck)], check=True)
    try:
        again = Store(tmp_path, "iris")
        assert again.load().current == kept
        again.discard(version(2))
        assert list(again.part(version(2)).iterdir()) == []
        assert again.choose(put(again, 2)).current == put(again, 2)
    finally:
        (mounted,) = tmp_path.rglob("mounted")
        subprocess.run(["umount", str(mounted)], check=True)
    Store(tmp_path, "iris").load()
    assert not list(tmp_path.rglob("mounted"))


def test_a_version_of_deep_folders_is_kept_whole(tmp_path: Path, store: Store) -> None:
    """A registry decides how deep: Python's own walks recurse, and end at a depth of 1,000."""
    part = store.part(version(1))
    folder = part
    for _ in range(1200):
        folder /= "a"
        folder.mkdir()
    (folder / "MLmodel").write_bytes(b"{}")
    name = str((folder / "MLmodel").relative_to(part))
    kept = store.keep(version(1), [File(name, 2, "aa")])
    assert Store(tmp_path, "iris").load().others == (kept,)
    store.choose(put(store, 2))
    store.choose(put(store, 3))
    assert {path.name for path in (tmp_path / "models/iris").iterdir() if version(1).id in path.name} == set()


def test_a_folder_that_is_not_ours_is_reported_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"a file")
    with pytest.raises(
        StoreError, match=r"cannot make room for version 1 in .*/models/iris: Not a directory"
    ):
        Store(tmp_path, "iris").part(version(1))


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from mlopsd import safe_file
from mlopsd_probes.model.cache import files as disk, store as module
from tests.model.test_store import put


def attempt(folder, step):
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename not in (module.__file__, disk.__file__, safe_file.__file__):
            return None
        lines += event == "line"
        if lines == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    os.fsync = lambda descriptor: None  # it takes long, and a kill loses nothing that the kernel has
    store = module.Store(folder, "iris")
    sys.settrace(trace)
    store.choose(store.note(put(store, 3), proven=True))
    os._exit(0)


before, folders, step, status = Path(sys.argv[1]), Path(sys.argv[2]), 0, None
while status != 0:
    step += 1
    shutil.copytree(before, folders / str(step))
    if (pid := os.fork()) == 0:
        attempt(folders / str(step), step)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
"""


@pytest.mark.timeout(300)  # hundreds of processes, on a machine that may be busy
def test_killed_at_any_point_it_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    """A process is killed before the first line of the store that it comes to, another before the second …"""
    before, folders = tmp_path / "before", tmp_path / "after"
    store = Store(before, "iris")
    store.choose(put(store, 1))
    store.choose(put(store, 2))
    command = [sys.executable, "-c", KILLED, str(before), str(folders)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    seen = []
    for folder in sorted(folders.iterdir(), key=lambda path: int(path.name)):
        shelf = Store(folder, "iris").load()
        seen.append(numbers(shelf))
        assert not shelf.broken
        assert Store(folder, "iris").load() == shelf
        assert not [path for path in folder.rglob("*") if path.suffix in (".aside", ".writing")]
    assert len(seen) > 100
    assert list(dict.fromkeys(seen)) == [
        ("2", "1", ()),  # nothing has happened yet
        ("2", "1", ("3",)),  # kept
        ("3", "2", ("1",)),  # chosen, and version 1 not yet removed
        ("3", "2", ()),
    ]


def test_a_file_is_unchanged_until_anything_touches_it(tmp_path: Path, store: Store) -> None:
    kept = put(store, 1)
    store.choose(kept)
    again = Store(tmp_path, "iris")
    again.load()
    names = {file.path for file in kept.files}
    assert again.stamped(kept)[0].unchanged == names, "it was hashed as it came"
    weights = Path(kept.folder) / "data" / "model"
    moments = weights.stat()
    weights.write_bytes(CONTENT[::-1])
    os.utime(weights, ns=(moments.st_atime_ns, moments.st_mtime_ns))  # whoever hides a change
    changed, now = again.stamped(kept)
    assert changed.unchanged == names - {"data/model"}
    again.compared(kept, now)
    assert again.stamped(kept)[0].unchanged == names


def test_after_a_restart_of_the_host_no_file_counts_as_unchanged(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = put(store, 1)
    (tmp_path / "boot").write_text("another", "ascii")
    monkeypatch.setattr(stamps, "BOOT_ID", tmp_path / "boot")
    fresh, now = store.stamped(kept)
    assert fresh.unchanged == frozenset()
    store.compared(kept, now)
    assert store.stamped(kept)[0].unchanged
    for path in (tmp_path / "models" / "iris").glob("*.stamps"):
        path.write_bytes(b"torn")
    assert store.stamped(kept)[0].unchanged == frozenset()


def test_a_file_that_two_versions_share_is_on_disk_once(tmp_path: Path, store: Store) -> None:
    store.choose(put(store, 1, "same"))
    store.choose(put(store, 2, "same"))
    one, two = (Path(kept.folder) for kept in Store(tmp_path, "iris").load())
    assert (one / "data" / "model").samefile(two / "data" / "model")
    for kept in Store(tmp_path, "iris").load():
        assert store.stamped(kept)[0].unchanged == {file.path for file in kept.files}, "a link is no change"


def test_a_file_that_the_download_has_linked_stays_so_and_is_not_hashed_again(
    tmp_path: Path, store: Store
) -> None:
    kept = put(store, 1, "same")
    store.choose(kept)
    original = Path(kept.folder) / "data" / "model"

    def link(folder: Path) -> None:
        (folder / "data" / "model").unlink()
        (folder / "data" / "model").hardlink_to(original)

    fetched = put(store, 2, "same", before=link)
    assert (Path(fetched.folder) / "data" / "model").samefile(original)
    assert not list(tmp_path.rglob("*.linking")), "a rename of a link to itself leaves both names"
    for one in (kept, fetched):
        assert store.stamped(one)[0].unchanged == {file.path for file in one.files}


def test_a_file_that_was_changed_on_disk_is_not_linked(tmp_path: Path, store: Store) -> None:
    kept = put(store, 1, "same")
    store.choose(kept)
    (Path(kept.folder) / "data" / "model").write_bytes(CONTENT[::-1])
    fresh = Path(put(store, 2, "same").folder) / "data" / "model"
    assert fresh.read_bytes() == CONTENT
    assert fresh.stat().st_nlink == 1
