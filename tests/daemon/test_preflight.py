"""What is wrong with a configuration on this host, before anything changes."""

from pathlib import Path

import pytest

from mlopsd.config.load import LoadedConfig, load
from mlopsd.daemon.preflight import moved, shared
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
