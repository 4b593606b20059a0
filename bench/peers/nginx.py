"""nginx with the daemon's own answers as files: what this machine can serve at most."""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

from bench.server import Server, program
from tests.running import free_port

CONFIGURATION = """{user}daemon off;
worker_processes 1;
pid {room}/pid;
error_log {room}/log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  gzip_static on;
  default_type text/plain;
  client_body_temp_path {room}/tmp-body;
  proxy_temp_path {room}/tmp-proxy;
  fastcgi_temp_path {room}/tmp-fastcgi;
  uwsgi_temp_path {room}/tmp-uwsgi;
  scgi_temp_path {room}/tmp-scgi;
  server {{
    listen 127.0.0.1:{port};
{locations}  }}
}}
"""
LOCATION = "    location = {path} {{ alias {file}; }}\n"


def place(path: str) -> str:
    """Where the page of *path* is: at a slash nginx looks for a folder."""
    return path.rstrip("/")


def configuration(room: Path, port: int, files: Mapping[str, Path]) -> str:
    """Return the configuration that serves each of *files* at its path, with a ``.gz`` for who takes gzip."""
    locations = "".join(LOCATION.format(path=place(path), file=file) for path, file in files.items())
    user = "user root;\n" if os.geteuid() == 0 else ""  # else its worker may not read the room
    return CONFIGURATION.format(user=user, room=room, port=port, locations=locations)


class Nginx(Server):
    """One worker that serves *pages*, by their path, also packed: *packed* holds those bytes as they are.

    Raises:
        Missing: it is not installed.
    """

    def __init__(self, room: Path, pages: Mapping[str, bytes], packed: Mapping[str, bytes]) -> None:
        command = program("nginx-light", "nginx")
        room.mkdir(parents=True)
        room.chmod(0o755)
        files = {path: room / f"page{number}" for number, path in enumerate(pages)}
        for path, file in files.items():
            file.write_bytes(pages[path])
            if path in packed:
                assert gzip.decompress(packed[path]), path
                file.with_name(f"{file.name}.gz").write_bytes(packed[path])
        port = free_port()
        config = room / "nginx.conf"
        config.write_text(configuration(room, port, files), "utf-8")
        super().__init__([command, "-c", str(config), "-e", str(room / "log")], port, room / "output", {})
