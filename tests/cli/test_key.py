"""``mlopsd key``: a key that the caller gets once, and the line that the daemon keeps."""

import os
import stat
from pathlib import Path

import pytest

from mlopsd.config.api_keys import SHORTEST, find_key, parse_line
from tests.cli.command import mlopsd


def test_the_key_is_printed_once_and_its_line_does_not_hold_it() -> None:
    done = mlopsd("key", "new", "grafana", "--role", "read")
    key = done.stdout.strip()
    line = done.stderr.strip().removeprefix("mlopsd: line for [api] api_keys_file: ")
    found = find_key(key, [parse_line(line)])
    assert found is not None
    assert (found.name, found.role) == ("grafana", "read")
    assert len(key) >= SHORTEST
    assert key not in line
    assert mlopsd("key", "new", "grafana").stdout.strip() != key


def test_lines_are_appended_to_the_file_which_only_its_group_may_read(tmp_path: Path) -> None:
    file = tmp_path / "api_keys"
    first = mlopsd("key", "new", "ci", "--file", file).stdout.strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.chmod(0o600)
    with file.open("a") as stream:
        stream.write("# the next line lacks its end\n# so")
    second = mlopsd("key", "new", "app", "--role", "predict", "--file", file).stdout.strip()
    keys = [parse_line(line) for line in file.read_text().splitlines() if not line.startswith("#")]
    assert [(key.name, key.role) for key in keys] == [("ci", "act"), ("app", "predict")]
    assert [find_key(given, keys) for given in (first, second)] == keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.timeout(60)
def test_what_cannot_be_done_is_one_line_and_gives_no_key(tmp_path: Path) -> None:
    file = tmp_path / "api_keys"
    mlopsd("key", "new", "ci", "--file", file)
    os.mkfifo(tmp_path / "fifo")
    for arguments, reason in (
        (("ci", "--file", file), "has one of the name ci; choose another"),
        (("a:b",), "not a valid name"),
        (("ci", "--file", tmp_path / "fifo"), "it is not a regular file"),
        (("ci", "--file", tmp_path / "no" / "folder"), "No such file or directory"),
    ):
        done = mlopsd("key", "new", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
    assert len(file.read_text().splitlines()) == 1
