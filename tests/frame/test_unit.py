"""The rule of the unit tests: they start no process and use no network."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import HERE, UNIT, NotInUnitTests, alone, is_unit


def test_every_file_of_unit_tests_is_there() -> None:
    assert sorted(name for name in UNIT if not (HERE / name).is_file()) == []
    assert is_unit(HERE / min(UNIT))
    assert not is_unit(Path(__file__))


def test_a_process_is_refused_and_reported_even_if_the_code_under_test_catches_that() -> None:
    with pytest.raises(NotInUnitTests, match=r"cannot use subprocess\.Popen; remove its file"), alone():
        run_and_catch()


def run_and_catch() -> None:
    with contextlib.suppress(Exception):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_fork_is_refused() -> None:
    with pytest.raises(NotInUnitTests, match=r"os\.fork"), alone():
        os.fork()


@pytest.mark.parametrize("reach", [socket.socket.connect, socket.socket.bind])
def test_the_network_is_refused_also_on_this_host(reach: object) -> None:
    assert callable(reach)
    with socket.socket() as connection, pytest.raises(NotInUnitTests, match=r"socket\."), alone():
        reach(connection, ("127.0.0.1", 0))


def test_a_unix_socket_is_no_network(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, alone():
        listener.bind(str(tmp_path / "socket"))


def test_everything_is_allowed_again_afterwards() -> None:
    with alone():
        pass
    subprocess.run([sys.executable, "-c", ""], check=True)


def test_the_files_are_printed_for_make() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit"], cwd=HERE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(f"tests/{name}" for name in UNIT)
