"""A real nginx with the servers that a test describes."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UP_SECONDS = 120.0
FRAME = """
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {servers}
}}
"""


@contextmanager
def nginx(folder: Path, servers: str, *ports: int) -> Iterator[None]:
    """Run nginx with the blocks *servers* of its configuration, as soon as it listens on *ports*."""
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(FRAME.format(folder=folder, servers=servers), "utf-8")
    command = ["nginx", "-c", str(config), "-e", "stderr"]
    with running(command, *ports):
        yield


@contextmanager
def running(command: list[str], *ports: int, user: str | None = None) -> Iterator[None]:
    """Run *command*, as soon as it listens on *ports*; end it afterwards."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, user=user)
    try:
        for port in ports:
            _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + UP_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < deadline
            time.sleep(0.02)
