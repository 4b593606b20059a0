"""Who answers on the Unix socket: the command line believes the daemon, and nobody in its place."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import mlopsd
from tests.running import CALM_SYSTEM, Running

FORGER = """
import json, os, socket, sys
path, owner, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if owner >= 0:
    os.setuid(uid)
body = json.dumps({"status": "healthy", "since": "2026-01-01T00:00:00Z", "summary": "FORGED",
                   "advice": "none", "host": "h", "version": "1", "probes": {}}).encode()
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(path)
    os.chmod(path, 0o666)
    listening.listen()
    print("up", flush=True)
    if len(sys.argv) > 4 and os.fork():
        os._exit(0)  # the process that listens has ended, another one answers
    while True:
        asking, _ = listening.accept()
        asking.recv(65536)
        head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: "
        asking.sendall(head + b"%d\\r\\n\\r\\n" % len(body) + body)
        asking.close()
"""
OTHER = 61234


@contextmanager
def forged(*through: str, owner: int = 0, uid: int = 0, gone: bool = False) -> Iterator[Path]:
    """A socket in a folder of *owner*, on which a process of *uid* answers like a healthy daemon."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name) / "run"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        Path(name).chmod(0o755)
        os.chown(folder, owner, owner)
        path = folder / "s"
        command = [*through, sys.executable, "-I", "-S", "-c", FORGER, str(path), "0", str(uid)]
        forger = subprocess.Popen(
            [*command, *(["gone"] * gone)], stdout=subprocess.PIPE, start_new_session=True
        )
        assert forger.stdout is not None
        assert forger.stdout.readline() == b"up\n"
        if gone:
            forger.wait()
        try:
            yield path
        finally:
            os.killpg(forger.pid, 9)
            forger.wait()
            forger.stdout.close()


def status(path: Path, port: int = 1) -> "subprocess.CompletedProcess[str]":
    config = path.parent.parent / "config.toml"
    config.write_text(f'socket = "{path}"\nstate_dir = "{path.parent.parent}/state"\n[api]\nport = {port}\n')
    return mlopsd("status", env={"MLOPSD_CONFIG": str(config)})


pytestmark = [pytest.mark.needs("root", "unshare"), pytest.mark.timeout(120)]


def test_who_is_not_the_user_of_the_folder_is_not_believed() -> None:
    with forged(owner=0, uid=OTHER) as path:
        done = status(path)
    assert done.returncode == 3
    assert "FORGED" not in done.stdout
    assert f"uid {OTHER} listens there, which is not the user of the daemon" in done.stderr


@pytest.mark.parametrize("namespace", ["--net", "--pid", "--user"])
def test_who_is_in_other_namespaces_is_not_believed_although_the_user_is_right(namespace: str) -> None:
    more: Sequence[str] = (
        ("--map-root-user",) if namespace == "--user" else ("--fork",) * (namespace == "--pid")
    )
    with forged("unshare", namespace, *more, owner=OTHER, uid=0) as path:
        done = status(path)
    assert done.returncode == 3
    assert "FORGED" not in done.stdout
    assert "is in other namespaces, as a model is" in done.stderr


def test_a_process_that_has_ended_is_not_believed_although_its_child_answers() -> None:
    with forged(owner=0, uid=0, gone=True) as path:
        done = status(path)
    assert done.returncode == 3
    assert "FORGED" not in done.stdout
    assert "has ended" in done.stderr


def test_the_owner_of_the_folder_in_our_namespaces_is_believed() -> None:
    """That is how root asks a service that runs as a user of its own."""
    with forged(owner=OTHER, uid=OTHER) as path:
        done = status(path)
    assert "FORGED" in done.stdout


def test_the_daemon_is_believed(tmp_path: Path) -> None:
    with Running(tmp_path, CALM_SYSTEM) as daemon:
        done = mlopsd("status", env={"MLOPSD_CONFIG": str(daemon.config)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("healthy")


def test_a_daemon_that_is_asked_over_tcp_since_its_socket_was_taken_comes_with_a_warning(
    tmp_path: Path,
) -> None:
    with Running(tmp_path, CALM_SYSTEM) as daemon, forged(owner=0, uid=OTHER) as path:
        done = status(path, daemon.port)
    assert done.stdout.startswith("healthy")
    assert "FORGED" not in done.stdout
    assert "warning: asked http://127.0.0.1:" in done.stderr
    assert f"uid {OTHER} listens there" in done.stderr
