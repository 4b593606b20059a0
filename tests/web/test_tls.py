"""TLS on the TCP listeners: certificates that are renewed, broken, asked of clients, or not there."""

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlopsd.config.load import load, secret_files
from mlopsd.config.schema import Settings
from mlopsd.daemon.preflight import unencrypted, unusable_tls
from mlopsd.web.app import make_app
from mlopsd.web.server import renewal
from mlopsd.web.server.connection import Timeouts
from mlopsd.web.server.listener import Listener, ListenError
from mlopsd.web.server.renewal import TlsRenewal
from mlopsd.web.server.server import HttpServer
from mlopsd.web.server.site import Site
from mlopsd.web.server.tls import RenewableContext, TlsFiles
from tests.certificates import Authority, Pair
from tests.cli.command import mlopsd
from tests.keys import KEY, line_of
from tests.running import CALM_SYSTEM, Running, free_port
from tests.web.fakes import House, until


def serial(port: int, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new connection to *port* gets."""
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as plug,
    ):
        return str((plug.getpeercert() or {})["serialNumber"])


def tables(port: int, pair: Pair | None, **api: Any) -> Settings:
    tls = {} if pair is None else {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    return Settings(api={"port": port, **tls, **api}, metrics={"port": api.pop("metrics", None)})  # type: ignore[arg-type]


@asynccontextmanager
async def served(tmp_path: Path, settings: Settings) -> AsyncIterator[tuple[House, HttpServer]]:
    house = House()
    house.settings = settings
    server = HttpServer(house.parts)
    await server.open(settings, tmp_path / "s")
    try:
        yield house, server
    finally:
        await server.close(0)


@asynccontextmanager
async def renewing(house: House, server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(renewal, "PAUSE", 0.01)
    task = asyncio.create_task(TlsRenewal(server, house.parts).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def status(port: int, context: ssl.SSLContext | None, path: str = "/livez") -> int:
    scheme = "http" if context is None else "https"
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{scheme}://127.0.0.1:{port}{path}", ssl=context or True) as answer,
    ):
        return answer.status


async def test_the_api_and_the_metrics_have_tls_and_the_unix_socket_is_plain(tmp_path: Path) -> None:
    authority, port, metrics = Authority(tmp_path), free_port(), free_port()
    pair = authority.issue("server")
    settings = Settings(
        api={"port": port, "tls_cert": str(pair.cert), "tls_key": str(pair.key)},  # type: ignore[arg-type]
        metrics={"port": metrics},  # type: ignore[arg-type]
    )
    async with served(tmp_path, settings):
        assert await status(port, authority.trust()) == 200
        assert await status(metrics, authority.trust(), "/metrics") == 200
        for each in (port, metrics):
            with pytest.raises(aiohttp.ClientError):
                await status(each, None)
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await status(each, ssl.create_default_context())
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "s"))) as client,
            client.get("http://mlopsd/livez") as answer,
        ):
            assert answer.status == 200


async def test_a_new_certificate_is_taken_and_open_connections_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, port = Authority(tmp_path), free_port()
    pair = authority.issue("server")
    kept = http.client.HTTPSConnection("127.0.0.1", port, context=authority.trust(), timeout=20)

    def ask() -> tuple[int, int]:
        kept.request("GET", "/livez")
        answer = kept.getresponse()
        answer.read()
        assert kept.sock is not None
        return answer.status, kept.sock.fileno()

    async with (
        served(tmp_path, tables(port, pair)) as (house, server),
        renewing(house, server, monkeypatch),
    ):
        first = await asyncio.to_thread(ask)
        before = await asyncio.to_thread(serial, port, authority.trust())
        authority.issue("server")
        while await asyncio.to_thread(serial, port, authority.trust()) == before:
            pass
        assert first == await asyncio.to_thread(ask)
        assert house.info.tls_error is None
        kept.close()


BROKEN: dict[str, Callable[[Pair, Authority], object]] = {
    "another key": lambda pair, authority: authority.issue("other").key.replace(pair.key),
    "an empty certificate": lambda pair, _: pair.cert.write_bytes(b""),
    "half a certificate": lambda pair, _: pair.cert.write_bytes(pair.cert.read_bytes()[:300]),
    "no key": lambda pair, _: pair.key.unlink(),
    "a key that is none": lambda pair, _: pair.key.write_text("none"),
}


@pytest.mark.parametrize("harm", BROKEN)
async def test_a_broken_new_pair_keeps_the_old_one_and_is_reported_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    authority, port = Authority(tmp_path), free_port()
    pair = authority.issue("server")
    async with (
        served(tmp_path, tables(port, pair)) as (house, server),
        renewing(house, server, monkeypatch),
    ):
        before = await asyncio.to_thread(serial, port, authority.trust())
        BROKEN[harm](pair, authority)
        await until(lambda: house.info.tls_error)
        assert await asyncio.to_thread(serial, port, authority.trust()) == before
        (record,) = [one for one in caplog.records if one.getMessage() == "TLS certificate not renewed"]
        assert record.__dict__["reason"].startswith("cannot use TLS: ")
        assert house.metrics.errors == ["tls"]
        authority.issue("server")
        await until(lambda: house.info.tls_error is None)
        assert await asyncio.to_thread(serial, port, authority.trust()) != before


async def test_a_client_needs_a_certificate_of_the_authority_that_is_named(tmp_path: Path) -> None:
    authority, others, port = Authority(tmp_path), Authority(tmp_path, "others"), free_port()
    pair, own, foreign = authority.issue("server"), authority.issue("own"), others.issue("foreign")
    async with served(tmp_path, tables(port, pair, client_ca=str(authority.file))):
        assert await status(port, authority.trust(own)) == 200
        for context in (authority.trust(), authority.trust(foreign)):
            with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
                await status(port, context)


async def test_a_change_of_the_configuration_begins_and_ends_tls_and_cuts_nobody(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    pair = authority.issue("server")
    async with served(tmp_path, tables(port, None)) as (_, server), aiohttp.ClientSession() as kept:
        url = f"http://127.0.0.1:{port}/livez"
        assert (await kept.get(url)).status == 200
        await server.change(tables(port, pair))
        async with kept.get(url) as answer:  # on the connection from before
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await status(port, authority.trust()) == 200
        with pytest.raises(aiohttp.ClientError):
            await status(port, None)
        await server.change(tables(port, None))
        assert await status(port, None) == 200


async def test_a_change_to_a_broken_pair_changes_nothing(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    pair = authority.issue("server")
    async with served(tmp_path, tables(port, pair)) as (_, server):
        broken = Pair(pair.cert, authority.issue("other").key)
        with pytest.raises(ListenError, match="key values mismatch; write a certificate chain and its key"):
            await server.change(tables(free_port(), broken))
        assert server.places["api"].endswith(str(port))
        assert await status(port, authority.trust()) == 200


async def test_handshakes_that_never_end_are_as_few_as_connections_and_end(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context = RenewableContext.around(TlsFiles(pair.cert, pair.key, None).make_context())
    house, listener = House(), Listener.tcp("127.0.0.1", 0)
    app = make_app(house.parts, local=False)
    async with Site(app, listener, most_connections=4, timeouts=Timeouts(head=0.5), tls=context):
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(8)]
        ended = [reader.read() for reader, _ in silent[4:]]
        assert await asyncio.gather(*ended, return_exceptions=True)
        assert await asyncio.gather(*(reader.read() for reader, _ in silent[:4])) == [b""] * 4
        assert await status(listener.port, authority.trust()) == 200
        for _, writer in silent:
            writer.close()
    house.board.close()


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('host = "0.0.0.0"', ["api.host"]),
        ('host = "::"', ["api.host"]),
        ('host = "gpu1.example"', ["api.host"]),
        ('host = "127.0.0.2"', []),
        ('host = "localhost"', []),
        ('host = "0.0.0.0"\ntls_cert = "/nowhere"', []),
        ('reading = "key"\n[metrics]\nhost = "0.0.0.0"\nport = 1', ["metrics.host"]),
        ('[metrics]\nhost = "0.0.0.0"\nport = 1', []),
    ],
)
def test_keys_in_clear_text_on_other_addresses_than_loopback_are_warned_of(
    tmp_path: Path, text: str, warned: list[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[api]\napi_keys = ["{line_of()}"]\n{text}\n')
    assert [issue.key for issue in unencrypted(load(config, {}, {}))] == warned
    config.write_text(f"[api]\n{text}\n")
    assert list(unencrypted(load(config, {}, {}))) == []


def test_config_check_warns_of_clear_text_and_refuses_what_cannot_be_served(tmp_path: Path) -> None:
    pair, config = Authority(tmp_path).issue("server"), tmp_path / "config.toml"
    config.write_text(f'[api]\nhost = "0.0.0.0"\napi_keys = ["{line_of()}"]\n[probes.system]\n')
    done = mlopsd("config", "check", "--config", config)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "callers send their API keys there in clear text; set [api] tls_cert and tls_key" in done.stderr
    config.write_text(f'[api]\ntls_cert = "{pair.cert}"\ntls_key = "{pair.cert}"\n[probes.system]\n')
    done = mlopsd("config", "check", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot use TLS" in done.stderr
    assert list(unusable_tls(load(config, {}, {})))


def test_the_key_of_the_certificate_is_a_secret_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[api]\ntls_cert = "/c"\ntls_key = "/k"\n')
    assert Path("/k") in secret_files(load(config, {}, {}))
    config.write_text('[api]\ntls_cert = "/c"\n')
    assert Path("/c") in secret_files(load(config, {}, {}))


def test_a_daemon_renews_its_certificate_and_the_command_line_asks_it_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, own = authority.issue("server"), authority.issue("own")
    (tmp_path / "key").write_text(KEY)
    api = (
        f'[api]\ntls_cert = "{pair.cert}"\ntls_key = "{pair.key}"\nclient_ca = "{authority.file}"\n'
        f'reading = "key"\napi_keys = ["{line_of(role="read")}"]\n'
    )
    with Running(tmp_path, api + CALM_SYSTEM) as daemon:
        url = f"https://127.0.0.1:{daemon.port}"
        trust = ("--cacert", authority.file, "--client-cert", own.cert, "--client-key", own.key)
        done = mlopsd("status", "--url", url, "--key-file", tmp_path / "key", *trust)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("healthy")
        for fewer, reason in (
            (trust[2:], "its certificate is not trusted"),
            (trust[:2], "--client-cert"),
        ):
            done = mlopsd("status", "--url", url, "--key-file", tmp_path / "key", *fewer)
            assert done.returncode == 3
            assert reason in done.stderr
        done = mlopsd("status", "--url", url, *trust)
        assert done.returncode == 3
        assert "an API key is needed" in done.stderr
        before = serial(daemon.port, authority.trust(own))
        authority.issue("server")
        renewed = daemon.logged("TLS certificate renewed")
        assert serial(daemon.port, authority.trust(own)) != before
        assert renewed["file"] == str(pair.cert)
        pair.key.write_text("none")
        daemon.logged("TLS certificate not renewed")
        connection = http.client.HTTPSConnection("127.0.0.1", daemon.port, context=authority.trust(own))
        connection.request("GET", "/info", headers={"X-API-Key": KEY})
        assert b'"tls":{"certificate":' in connection.getresponse().read().replace(b'": ', b'":')
        connection.close()
