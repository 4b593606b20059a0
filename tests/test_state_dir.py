"""The state folder: its place, its lock, and what another layout left in it."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlopsd.config.schema import Settings
from mlopsd.state_dir import LAYOUT, StateError, StateFolder, places


def opened(path: Path) -> StateFolder:
    folder = StateFolder(path)
    folder.open()
    return folder


def test_the_places_are_configured_or_systemds_or_the_users() -> None:
    made = {"STATE_DIRECTORY": "/var/lib/x:/other", "RUNTIME_DIRECTORY": "/run/x"}
    assert places(Settings(), made).state == Path("/var/lib/x")
    assert places(Settings(), made).socket == Path("/run/x/mlopsd.sock")
    set_by_hand = Settings(state_dir=Path("/a"), socket=Path("/b/s"))
    assert places(set_by_hand, made).state == Path("/a")
    assert places(set_by_hand, made).socket == Path("/b/s")
    assert places(Settings(state_dir=Path("/a")), {}).socket == Path("/a/mlopsd.sock")
    own = Path("/var/lib/mlopsd") if os.geteuid() == 0 else Path("/x/mlopsd")
    assert places(Settings(), {"XDG_STATE_HOME": "/x"}).state == own


def test_a_second_daemon_is_kept_out_and_shown_who_is_in(tmp_path: Path) -> None:
    folder = opened(tmp_path / "state")
    with pytest.raises(StateError, match=rf"another mlopsd \(pid {os.getpid()}\) uses"):
        opened(tmp_path / "state")
    folder.close()
    opened(tmp_path / "state").close()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    folder = opened(tmp_path / "state")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        folder.close()
        opened(tmp_path / "state").close()
        child.communicate(b"\n")


def test_a_new_folder_gets_the_layout_and_an_old_one_keeps_what_it_has(tmp_path: Path) -> None:
    folder = opened(tmp_path / "state")
    (folder.of_probe("gpu") / "xids").write_text("79", "ascii")
    folder.close()
    assert (tmp_path / "state" / "layout").read_text("ascii") == f"{LAYOUT}\n"
    folder = opened(tmp_path / "state")
    assert (folder.of_probe("gpu") / "xids").read_text("ascii") == "79"
    folder.close()


def test_an_unknown_layout_is_set_aside_loudly_and_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    (state / "probes").mkdir(parents=True)
    (state / "probes" / "old").write_text("kept", "ascii")
    (state / "layout").write_text("99\n", "ascii")
    with caplog.at_level(logging.WARNING):
        opened(state).close()
    (kept,) = (state / "set-aside").iterdir()
    assert (kept / "probes" / "old").read_text("ascii") == "kept"
    assert (kept / "layout").read_text("ascii") == "99\n"
    assert (state / "layout").read_text("ascii") == f"{LAYOUT}\n"
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["found"]) == ("state of another layout set aside", "99")


@pytest.mark.parametrize("damage", [b"", b"\n", b"\0\0", b"\xff\xfe1", b"1 1", b"one", b"-1", b"9" * 4000])
def test_a_damaged_layout_sets_nothing_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    state = tmp_path / "state"
    folder = opened(state)
    (folder.of_probe("gpu") / "xids").write_text("79", "ascii")
    folder.close()
    (state / "layout").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        opened(state).close()
    assert (state / "probes" / "gpu" / "xids").read_text("ascii") == "79"
    assert (state / "layout").read_text("ascii") == f"{LAYOUT}\n"
    assert not (state / "set-aside").exists()
    assert [record.getMessage() for record in caplog.records] == ["state layout repaired"]


def test_the_layout_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that ends before its last step leaves no layout, and the next start finishes it."""
    state = tmp_path / "state"

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fails)
        with pytest.raises(StateError, match="Input/output error"):
            opened(state)
    assert not (state / "layout").exists()
    (state / "layout.writing").write_bytes(b"")  # as a loss of power leaves it
    opened(state).close()
    assert sorted(path.name for path in state.iterdir()) == ["layout", "lock"]


@pytest.mark.timeout(30)
def test_a_fifo_as_layout_does_not_hang_the_start(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "layout").unlink()
    os.mkfifo(tmp_path / "layout")
    os.mkfifo(tmp_path / "layout.writing")
    opened(tmp_path).close()
    assert (tmp_path / "layout").read_text("ascii") == f"{LAYOUT}\n"


@pytest.mark.timeout(30)
def test_a_fifo_as_lock_is_refused_with_the_fix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(StateError, match="lock: it is not a regular file; remove it"):
        opened(tmp_path)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(
        StateError, match="contains files of other programs; choose an empty folder as state_dir"
    ):
        opened(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, cause in (
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "state", "Not a directory"),
    ):
        with pytest.raises(StateError) as caught:
            opened(place)
        fix = "move the file at that path away, or set state_dir"
        assert str(caught.value) == f"cannot use the state folder {place}: {cause}; {fix}"


@pytest.mark.parametrize(
    ("code", "fix"),
    [(errno.EACCES, "make it writable for this user"), (errno.ENOSPC, "make room")],
)
def test_the_fix_is_that_of_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fix: str
) -> None:
    folder = opened(tmp_path / "state")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StateError, match=f"cannot create .*: {os.strerror(code)}; {fix}$"):
            folder.of_probe("gpu")
    folder.close()


@pytest.mark.parametrize(
    "name",
    ["lost+found", ".snapshot", ".snapshots", "aquota.user", "aquota.group", ".Trash-0", ".Trash-1000"],
)
def test_what_a_file_system_has_at_its_top_is_no_file_of_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    opened(tmp_path).close()
    (tmp_path / "probes").mkdir()
    (tmp_path / "layout").write_text("99", "ascii")
    opened(tmp_path).close()
    assert (tmp_path / name).is_dir()
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert {path.name for path in kept.iterdir()} == {"probes", "layout"}


@pytest.mark.needs("root", "mkfs.ext4", "mount")
def test_a_file_system_of_its_own_can_be_the_state_folder(tmp_path: Path) -> None:
    image, mounted = tmp_path / "image", tmp_path / "state"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(2**23)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        opened(mounted).close()
        assert {path.name for path in mounted.iterdir()} == {"lost+found", "layout", "lock"}
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.needs("root", "mount")
def test_what_is_mounted_in_the_folder_stays_and_every_start_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("probes", "z"):
        (tmp_path / name).mkdir()
    (tmp_path / "layout").write_text("99\n", "ascii")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "probes")], check=True)
    try:
        (tmp_path / "probes" / "file").touch()
        for _ in range(2):
            opened(tmp_path).close()
        assert (tmp_path / "probes" / "file").exists()
    finally:
        subprocess.run(["umount", str(tmp_path / "probes")], check=True)
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert {path.name for path in kept.iterdir()} == {"z", "layout"}
    (record,) = caplog.records
    assert record.__dict__["left_in_place"] == [str(tmp_path / "probes")]


@pytest.mark.parametrize("busy", ["probes", "layout"])
@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV])
def test_what_cannot_move_stays_and_the_rest_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, busy: str
) -> None:
    for name in ("a", "probes", "z"):
        (tmp_path / name).mkdir()
    (tmp_path / "layout").write_text("99\n", "ascii")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == busy:
            raise OSError(code, os.strerror(code))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    opened(tmp_path).close()
    opened(tmp_path).close()
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert {path.name for path in kept.iterdir()} == {"a", "probes", "z", "layout"} - {busy}
    assert (tmp_path / "layout").read_text("ascii") == f"{LAYOUT}\n"


def test_what_cannot_be_set_aside_leaves_the_layout_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    for name in ("a", "probes", "z"):
        (state / name).mkdir(parents=True)
    (state / "layout").write_text("99\n", "ascii")
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "probes":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        with pytest.raises(StateError, match="No space left on device"):
            opened(state)
    assert (state / "layout").read_text("ascii") == "99\n"
    opened(state).close()
    kept = {path.name for folder in (state / "set-aside").iterdir() for path in folder.iterdir()}
    assert kept == {"a", "probes", "z", "layout"}
