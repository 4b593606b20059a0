"""Redirects of a registry or its store: where they may lead, and what they take along."""

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from tests.model import meddler as meddling
from tests.model.meddler import Meddler
from tests.nginx import nginx
from tests.running import free_port

PATIENCE = 60.0
VERSION = {"name": "iris", "version": "1", "status": "READY", "source": "mlflow-artifacts:/1"}
MODEL = {"registered_model": {"name": "iris", "latest_versions": [VERSION]}}
ASKED = {"do": "resolve", "model": "iris", "candidates": ["1"]}
SERVER = """
  server {{
    listen 127.0.0.1:{port};
    location ~ ^/port(/.*) {{ return 301 http://127.0.0.1:{target}$1$is_args$args; }}
    location ~ ^/name(/.*) {{ return 302 http://localhost:{target}$1$is_args$args; }}
    location /cloud/ {{ return 302 http://169.254.169.254/latest/meta-data; }}
  }}
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[Meddler]:
    """What answers as a registry does, and records what it was asked."""
    with Meddler() as one:
        one.rule = lambda path: meddling.status(200, "application/json", json.dumps(MODEL).encode())
        yield one


@pytest.fixture(scope="module")
def front(registry: Meddler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The nginx whose paths redirect."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    target = registry.uri.rpartition(":")[2]
    with nginx(folder, SERVER.format(port=port, target=target), port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def asked(folder: Path, **options: Any) -> AsyncIterator[ClientProcess]:
    log = logging.getLogger("mlopsd.test")
    client = ClientProcess(
        RegistryOptions(**options), folder / "c", PATIENCE / 2, name="model", log=log, printed=LogLimiter()
    )
    try:
        yield client
    finally:
        await client.end()


@pytest.mark.needs("nginx")
async def test_a_redirect_to_another_port_of_the_host_is_followed(front: str, tmp_path: Path) -> None:
    async with asked(tmp_path, uri=f"{front}/port") as client:
        assert (await client.ask(ASKED, PATIENCE))["found"]["number"] == "1"


@pytest.mark.needs("nginx")
@pytest.mark.parametrize(("path", "host"), [("name", "localhost"), ("cloud", "169.254.169.254")])
async def test_a_redirect_to_another_host_is_rejected_with_the_fix(
    front: str, registry: Meddler, tmp_path: Path, path: str, host: str
) -> None:
    registry.asked.clear()
    async with asked(tmp_path, uri=f"{front}/{path}") as client:
        with pytest.raises(
            Unanswered, match=f"redirects to another host, {host}; add it to redirect_hosts"
        ) as it:
            await client.ask(ASKED, PATIENCE)
    assert it.value.kind == "bad_response"
    assert registry.asked == []


@pytest.mark.needs("nginx")
async def test_a_redirect_to_a_listed_host_is_followed_without_credentials(
    front: str, registry: Meddler, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret", "ascii")
    registry.asked.clear()
    options = {"token_file": tmp_path / "token", "redirect_hosts": ["LOCALHOST"]}
    async with asked(tmp_path, uri=f"{front}/name", **options) as client:
        assert (await client.ask(ASKED, PATIENCE))["found"]["number"] == "1"
    assert {one.authorization for one in registry.asked} == {None}


ELSEWHERE = """
import subprocess, sys, threading, warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
warnings.simplefilter("ignore")
import requests
from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.redirects import RedirectGuard

def run(*words): subprocess.run(words, check=True)
run("ip", "link", "set", "lo", "up")
for address in ("192.0.2.1", "192.0.2.2", "169.254.169.254"):
    run("ip", "address", "add", address + "/32", "dev", "lo")

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        to = self.path.partition("?")[2]
        self.send_response(302 if to else 200)
        if to: self.send_header("Location", "http://" + to + ":8000/")
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass

server = HTTPServer(("", 8000), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()
guard = RedirectGuard(["127.0.0.1", "192.0.2.2", "169.254.169.254", "0.0.0.0"])
guard.install()
requests.get("http://192.0.2.2:8000/")
for url in sys.argv[1:]:
    try:
        if url.startswith("127.0.0.2"):
            guard.watch("192.0.2.1")
        print(requests.get("http://" + url).status_code)
    except Fault as fault:
        print(fault)
"""
FROM, METADATA = "192.0.2.1:8000/?", "169.254.169.254"


@pytest.mark.needs("root", "unshare", "ip")
def test_a_listed_host_leads_neither_to_loopback_nor_to_link_local_addresses_from_elsewhere() -> None:
    """In a network of its own, where the registry has an address that is neither."""
    urls = {
        f"{FROM}192.0.2.2": "200",
        f"{FROM}127.0.0.1": "192.0.2.1 leads to 127.0.0.1, a loopback address",
        f"{FROM}0.0.0.0": "192.0.2.1 leads to 0.0.0.0, a loopback address",
        f"{FROM}{METADATA}": f"192.0.2.1 leads to {METADATA}, a link-local address",
        f"127.0.0.1:8000/?{METADATA}": f"127.0.0.1 leads to {METADATA}, a link-local address",
        f"{FROM}192.0.2.9": "192.0.2.1 redirects to another host, 192.0.2.9",
        "127.0.0.2:8000/": "192.0.2.1 leads to 127.0.0.2, a loopback address",
        "127.1:8000/": "192.0.2.1 leads to 127.1, a loopback address",
        "localhost:8000/": "192.0.2.1 leads to localhost, a loopback address",
        "192.0.2.2:8000/": "200",
    }
    command = ["unshare", "--net", sys.executable, "-c", ELSEWHERE, *urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    for line, expected in zip(done.stdout.splitlines(), urls.values(), strict=True):
        assert line.startswith(expected)


@pytest.mark.parametrize(
    "written", ["https://files.example", "files.example:80", "*", "", "a/b", "*.example"]
)
def test_only_a_host_is_a_redirect_host(written: str) -> None:
    with pytest.raises(ValidationError, match="not a host; write its name"):
        RegistryOptions(uri="http://registry", redirect_hosts=(written,))


@pytest.mark.parametrize("written", ["files.example", "10.0.0.1", "fd00::1", "Files.Example."])
def test_a_name_or_an_address_is_a_redirect_host(written: str) -> None:
    found = RegistryOptions(uri="http://registry", redirect_hosts=(written,))
    assert found.redirect_hosts == (written.lower().rstrip("."),)
