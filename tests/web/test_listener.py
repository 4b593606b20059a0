"""Where the daemon listens, and what it says when it cannot."""

import os
import socket
import stat
from pathlib import Path

import pytest

from mlopsd.web.server.listener import Listener, ListenError


def test_port_0_is_any_that_is_free_and_is_reported() -> None:
    listener = Listener.tcp("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", listener.port)):
        assert listener.name == f"127.0.0.1:{listener.port}"
        assert listener.port > 0
    listener.close()


def test_a_name_is_listened_on_at_each_of_its_addresses_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = socket.SOCK_STREAM
    both = [
        (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: both)
    listener = Listener.tcp("localhost", 0)
    assert [listening.getsockname()[1] for listening in listener.sockets] == [listener.port] * 2
    listener.close()


def test_the_ipv6_wildcard_takes_ipv4_as_well() -> None:
    listener = Listener.tcp("::", 0)
    with socket.create_connection(("127.0.0.1", listener.port)):
        assert listener.name == f"[::]:{listener.port}"
    listener.close()


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    holder = Listener.tcp("127.0.0.1", 0)
    place = f"127.0.0.1:{holder.port}"
    with pytest.raises(ListenError) as error:
        Listener.tcp("127.0.0.1", holder.port)
    fix = "stop what holds it or choose another with --port"
    assert str(error.value) == f"cannot listen on {place}: address already in use; {fix}"
    holder.close()
    Listener.tcp("127.0.0.1", holder_port(place)).close()


def holder_port(place: str) -> int:
    return int(place.rpartition(":")[2])


@pytest.mark.parametrize(
    ("host", "output"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1:0: cannot assign requested address; choose an address"),
        (
            "2001:db8::1",
            "cannot listen on [2001:db8::1]:0: cannot assign requested address; choose an address",
        ),
        ("not a host", "cannot listen on not a host:0: "),
    ],
)
def test_an_address_that_is_not_this_machines_is_one_clear_line(host: str, output: str) -> None:
    with pytest.raises(ListenError) as error:
        Listener.tcp(host, 0)
    assert str(error.value).startswith(output)
    assert "--host" in str(error.value)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_a_unix_socket_is_for_its_owner_and_group_and_its_folder_is_made(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "run" / "mlopsd" / "mlopsd.sock"
    before = os.umask(mask)
    try:
        listener = Listener.unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert (listener.name, listener.port, listener.local) == (str(path), 0, True)
    listener.close()
    assert not path.exists()


def test_a_unix_socket_is_never_open_to_others_not_even_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Path, "chmod", lambda path, _mode: seen.append(stat.S_IMODE(path.stat().st_mode)))
    before = os.umask(0)
    try:
        Listener.unix(tmp_path / "s").close()
    finally:
        os.umask(before)
    assert seen == [0o660]


def test_a_socket_that_a_dead_daemon_left_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = Listener.unix(path)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
    listener.close()


@pytest.mark.parametrize("backlog", [8, 0])
def test_a_socket_behind_which_somebody_answers_is_left_alone(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as waiting:
        alive.bind(str(path))
        alive.listen(backlog)
        if backlog == 0:
            waiting.connect(str(path))  # now there is no room for the question
        with pytest.raises(ListenError, match="another process answers there; stop what holds it"):
            Listener.unix(path)
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="the file there is not a socket; remove it or choose another"):
        Listener.unix(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 60)
    with pytest.raises(ListenError, match=r"the path has \d+ bytes; the limit is 107"):
        Listener.unix(path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match=r"cannot listen on .*: .*; choose another with the key socket"):
        Listener.unix(tmp_path / "file" / "s")


def test_closing_leaves_a_socket_that_another_daemon_has_put_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    old = Listener.unix(path)
    path.unlink()
    new = Listener.unix(path)
    old.close()
    assert path.exists()
    new.close()
    assert not path.exists()
