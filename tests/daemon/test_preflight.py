"""What is wrong with a configuration on this host, before anything changes."""

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlopsd.cli import config
from mlopsd.config.load import LoadedConfig, load
from mlopsd.daemon import preflight
from mlopsd.daemon.daemon import _find_warnings
from mlopsd.daemon.preflight import moved, shared, writable_code
from mlopsd.state_dir import Places


def loaded(folder: Path, text: str) -> LoadedConfig:
    """The configuration *text*, read from a file in *folder*."""
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return load(path, {}, {})


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('state_dir = "/here/state"\nsocket = "/here/s"\n', []),
        ('state_dir = "/there/state"\nsocket = "/here/s"\n', ["state_dir"]),
        ('state_dir = "/here/state"\nsocket = "/there/s"\n', ["socket"]),
        ('state_dir = "/there/state"\nsocket = "/there/s"\n', ["state_dir", "socket"]),
    ],
)
def test_only_a_restart_moves_the_state_and_the_socket(tmp_path: Path, text: str, keys: list[str]) -> None:
    now = Places(Path("/here/state"), Path("/here/s"))
    issues = list(moved(now, loaded(tmp_path, text)))
    assert [issue.key for issue in issues] == keys
    assert all("cannot move from /here/" in str(issue) for issue in issues)
    assert all("restart the daemon" in str(issue) for issue in issues)


@pytest.mark.parametrize(
    ("mode", "keys"), [(0o700, []), (0o770, []), (0o777, ["socket"]), (0o1777, ["socket"])]
)
def test_a_folder_of_the_socket_that_every_user_may_write_to_is_warned_of(
    tmp_path: Path, mode: int, keys: list[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    assert [issue.key for issue in shared(Places(tmp_path, folder / "s"))] == keys


def test_a_folder_of_the_socket_that_is_not_there_yet_is_not_warned_of(tmp_path: Path) -> None:
    assert list(shared(Places(tmp_path, tmp_path / "nowhere" / "s"))) == []


@pytest.fixture
def plain_user() -> Iterator[int]:
    """This process as a user without rights of its own, which it is anyway or becomes for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(61234)
    yield os.geteuid()
    os.seteuid(before)


def test_code_that_its_own_user_may_write_is_warned_of(tmp_path: Path, plain_user: int) -> None:
    own = Path(f"/tmp/mlopsd-code-{os.getpid()}")
    own.mkdir()
    try:
        (issue,) = writable_code([Path("/proc"), own])
        assert issue.value == str(own)
        assert f"everything that runs as uid {plain_user} may change the daemon's own code" in str(issue)
        own.chmod(0o500)
        assert list(writable_code([own])) == []
    finally:
        own.rmdir()


def test_the_folders_of_root_are_not_warned_of(plain_user: int) -> None:
    assert list(writable_code([Path("/usr"), Path("/proc")])) == []


async def test_the_start_and_config_check_warn_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 61234)
    monkeypatch.setattr(preflight, "_code_folders", lambda: iter([tmp_path]))
    configuration = loaded(tmp_path, "[probes.system]\n")
    found = await _find_warnings(configuration, [], Places(tmp_path, tmp_path / "s"))
    assert [issue.value for issue in found if issue.key == "python"] == [str(tmp_path)]
    assert config.run(Namespace(what="check", config=configuration.path)) == 0
    assert f"warning: python = {tmp_path}: everything that runs as uid" in capsys.readouterr().err
