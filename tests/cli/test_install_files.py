"""The files of an installation and their record."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.errors import CommandError
from mlopsd.cli.install.files import InstalledFiles, SetupSteps


def test_a_record_that_was_cut_is_one_line_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "record").write_text('{"/etc/mlopsd/config.toml": "ab', "ascii")
    with pytest.raises(CommandError, match="it is damaged; become root, or remove it"):
        InstalledFiles(tmp_path / "record", SetupSteps(dry_run=True))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that was put there, and that nobody may read; root may read all, hence not by its mode."""
    file = tmp_path / "config.toml"
    file.write_text("mine")
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    return file


@pytest.mark.parametrize("way", ["write", "remove"])
def test_a_dry_run_says_what_it_cannot_read_and_goes_on(
    closed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    files = InstalledFiles(tmp_path / "record", SetupSteps(dry_run=True))
    if way == "write":
        files.write(closed, b"ours")
        files.write(tmp_path / "unit", b"ours")
    else:
        files.remove(closed)
        files.remove_record()
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"would read {closed} first: this user cannot (Permission denied); run it with sudo"
    assert rest == ([f"would write {tmp_path}/unit"] if way == "write" else [])


def test_what_cannot_be_read_is_never_overwritten(closed: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot read .*config\.toml: Permission denied; fix that"):
        InstalledFiles(tmp_path / "record", SetupSteps(dry_run=False)).write(closed, b"ours")


def test_before_the_first_installation_there_is_none(tmp_path: Path) -> None:
    InstalledFiles(tmp_path / "record", SetupSteps(dry_run=True))


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o777, 0o000])
def test_every_user_may_enter_the_folders_that_it_makes_and_others_keep_their_mode(
    tmp_path: Path, umask: int
) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        record = tmp_path / "there" / "etc" / "record"
        files = InstalledFiles(record, SetupSteps(dry_run=False))
        files.write(tmp_path / "there" / "etc" / "mlopsd" / "config.toml", b"ours", 0o640, os.getegid())
    finally:
        os.umask(before)
    there = tmp_path / "there"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there, *there.rglob("*"))}
    assert modes == {"there": 0o700, "etc": 0o755, "mlopsd": 0o755, "config.toml": 0o640, "record": 0o644}
