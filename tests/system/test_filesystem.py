"""A read-only file system is distinguished from a read-only mount."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlopsd_probes.system import filesystem
from tests.running import GIVE_UP

SANDBOX = """
import ctypes, os, sys
from mlopsd_probes.system import filesystem
libc = ctypes.CDLL(None, use_errno=True)
path = sys.argv[1].encode()
assert libc.unshare(0x00020000) == 0
assert libc.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None) == 0  # nothing reaches the host
assert libc.mount(b"small", path, b"tmpfs", 0, b"size=1m") == 0
link = sys.argv[2]
os.symlink(sys.argv[1], link)
for flags, of in ((32 | 4096 | 1, "mount"), (32 | 1, "superblock")):
    if of == "mount":
        assert libc.mount(path, path, None, 4096, None) == 0
    assert libc.mount(None, path, None, flags, None) == 0
    seen = [bool(statvfs(name).f_flag & os.ST_RDONLY) for name in (sys.argv[1], link)
            for statvfs in (os.statvfs, filesystem.statvfs)]
    print(of, *seen)
"""


def test_it_is_statvfs_where_nothing_is_read_only(tmp_path: Path) -> None:
    ours, theirs = filesystem.statvfs(str(tmp_path)), os.statvfs(tmp_path)
    assert (ours.f_blocks, ours.f_files, ours.f_flag, ours.f_fsid) == (
        theirs.f_blocks,
        theirs.f_files,
        theirs.f_flag,
        theirs.f_fsid,
    )


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.statvfs(str(tmp_path / "none"))


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = descriptors()
    filesystem.statvfs(str(tmp_path))
    assert descriptors() == before


@pytest.mark.needs("root")
def test_a_read_only_mount_of_a_writable_file_system_is_writable(tmp_path: Path) -> None:
    """A mount as in a service with ProtectSystem=strict, also through a symbolic link."""
    (tmp_path / "mount").mkdir()
    command = [sys.executable, "-c", SANDBOX, str(tmp_path / "mount"), str(tmp_path / "link")]
    output = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP)
    assert output.returncode == 0, output.stderr
    assert output.stdout.splitlines() == [
        "mount True False True False",
        "superblock True True True True",
    ]


def tree(tmp_path: Path, fdinfo: str, mountinfo: str) -> Path:
    (tmp_path / "fdinfo").mkdir()
    (tmp_path / "fdinfo" / "7").write_text(fdinfo, "ascii")
    (tmp_path / "mountinfo").write_text(mountinfo, "ascii")
    return tmp_path


@pytest.mark.parametrize(
    ("fdinfo", "options", "read_only"),
    [
        ("pos:\t0\nmnt_id:\t36\n", "rw,size=1024k", False),
        ("pos:\t0\nmnt_id:\t36\n", "ro,errors=remount-ro", True),
        ("pos:\t0\nmnt_id:\t36\n", "rw,errors=remount-ro", False),
        ("pos:\t0\nmnt_id:\t99\n", "rw", True),
        ("pos:\t0\n", "rw", True),
    ],
)
def test_the_super_options_of_its_own_mount_decide(
    tmp_path: Path, fdinfo: str, options: str, *, read_only: bool
) -> None:
    mountinfo = (
        "35 1 8:1 / /a - b ro,relatime shared:1 - ext4 /dev/sda1 ro\n"
        f"36 35 8:2 / /b ro,nosuid master:2 - ext4 /dev/sda2 {options}\n"
    )
    assert filesystem.is_read_only(7, tree(tmp_path, fdinfo, mountinfo)) is read_only
