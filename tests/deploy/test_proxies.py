"""Real proxies on the daemon's own host, set up as they are by default: their callers have no identity."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import STRANGE
from tests.installed import installed
from tests.keys import line_of
from tests.nginx import nginx, running
from tests.running import Running, free_port

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.needs("haproxy")]
ACTS = ("/reload", "/health/front/check")
KEY = {"X-API-Key": "sesame-0123456789"}
DISGUISES: tuple[dict[str, str], ...] = (
    {},
    {"Host": "localhost"},
    {"Host": "127.0.0.1"},
    {"Host": "localhost", "X-Real-IP": "127.0.0.1"},
    {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "True-Client-IP": "::1"},
    {"Host": "localhost", "Origin": "http://localhost"},
)
SERVER = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        {settings}
        proxy_pass http://127.0.0.1:{upstream};
    }}
}}
"""
HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen through
    bind 127.0.0.1:{port}
    server daemon 127.0.0.1:{upstream}
"""
NGINXES = {
    "nginx": "",
    "nginx with HTTP/1.1": "proxy_http_version 1.1;",
    "nginx with Host and X-Real-IP": "proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;",
    "nginx with the port in Host": 'proxy_set_header Host "localhost:9178"; proxy_set_header Connection "";',
}
Ports = Mapping[str, int]


@contextmanager
def proxies(folder: Path, upstream: int) -> Iterator[Ports]:
    """The port of each proxy before the port *upstream*."""
    ports = {name: free_port() for name in NGINXES}
    servers = [
        SERVER.format(port=ports[name], upstream=upstream, settings=settings)
        for name, settings in NGINXES.items()
    ]
    with nginx(folder, "".join(servers), *ports.values()):
        port, config = free_port(), folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(port=port, upstream=upstream), "ascii")
        with running(["haproxy", "-db", "-f", str(config)], port):
            yield {**ports, "HAProxy in TCP mode": port}


def post(port: int, path: str, headers: Mapping[str, str]) -> int:
    """The code for *path* over the proxy at *port*."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, b"[1]", {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def host(folder: Path, text: str) -> Running:
    """A daemon with a predictor and the tables *text*."""
    environment = installed(folder, {"cave": "echoing:Echo"}, STRANGE)
    model = '[log]\nformat = "json"\n[probes.front]\nuse = "cave"\nmodel = "fronts"\n'
    return Running(folder, f"{text}{model}", environment=environment)


@pytest.mark.parametrize("top", ["", "debug = true\n"])
@pytest.mark.parametrize(
    ("api", "refused"),
    [
        ("", 403),
        (
            f'[api]\napi_keys = ["{line_of()}"]\n',
            401,
        ),
    ],
)
def test_without_a_key_nobody_predicts_or_acts_through_a_proxy(
    api: str, refused: int, top: str, tmp_path: Path
) -> None:
    with host(tmp_path, f"{top}{api}") as daemon, proxies(tmp_path / "p", daemon.port) as ports:
        codes = {
            (name, path, tuple(disguise.items())): post(port, path, disguise)
            for name, port in ports.items()
            for path in ("/invocations", *ACTS)
            for disguise in DISGUISES
        }
        assert {what: code for what, code in codes.items() if code != refused} == {}
        assert not daemon.events("configuration reloaded")


def test_with_a_key_callers_predict_and_act_through_a_proxy(tmp_path: Path) -> None:
    text = f'[api]\napi_keys = ["{line_of()}"]\n'
    with host(tmp_path, text) as daemon, proxies(tmp_path / "p", daemon.port) as ports:
        for name, port in ports.items():
            for path in ("/invocations", *ACTS):
                assert post(port, path, KEY) == 200, name


def test_with_open_everybody_predicts_through_a_proxy_and_nobody_acts(tmp_path: Path) -> None:
    text = 'debug = true\n[api]\npredictions = "open"\n'
    with host(tmp_path, text) as daemon, proxies(tmp_path / "p", daemon.port) as ports:
        for name, port in ports.items():
            assert post(port, "/invocations", {}) == 200, name
            assert {post(port, path, {"Host": "localhost"}) for path in ACTS} == {403}, name
