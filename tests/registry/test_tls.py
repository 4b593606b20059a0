"""A registry behind TLS with an authority of its own, which asks its clients for a certificate."""

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from tests.model.registry_server import Shop
from tests.registry.go_betweens import GoBetweens, go_betweens

pytestmark = [pytest.mark.timeout(600), pytest.mark.needs("nginx")]

PATIENCE = 60.0


@pytest.fixture(scope="module")
def between(newest: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoBetweens]:
    with go_betweens(tmp_path_factory.mktemp("between"), newest.uri) as made:
        yield made


@asynccontextmanager
async def client(folder: Path, uri: str, **keys: Any) -> AsyncIterator[ClientProcess]:
    """The process that asks the registry at *uri* with these keys."""
    log = logging.getLogger("mlopsd.test")
    registry = RegistryOptions(uri=uri, **keys)
    made = ClientProcess(registry, folder / "client", 30, name="model", log=log, printed=LogLimiter())
    try:
        yield made
    finally:
        await made.end()


async def resolve(client: ClientProcess) -> Any:
    answer = await client.ask({"do": "resolve", "model": "iris", "candidates": ["@champion"]}, PATIENCE)
    return answer["found"]["number"]


async def test_an_authority_and_a_certificate_of_its_own_reach_a_registry(
    between: GoBetweens, tmp_path: Path
) -> None:
    """Files that are missing or renewed count from the next request, without a restart of the process."""
    made = between.authority.parent
    files = {name: tmp_path / name for name in ("ca_file", "client_cert_file", "client_key_file")}
    async with client(tmp_path, between.uri("asks_certificate"), **files) as asked:
        with pytest.raises(Unanswered, match=r"cannot read .*/ca_file: No such file or directory; make it"):
            await resolve(asked)
        shutil.copy(between.authority, files["ca_file"])
        with pytest.raises(Unanswered, match=r"cannot read .*/client_cert_file: No such file"):
            await resolve(asked)
        shutil.copy(made / "server.pem", files["client_cert_file"])
        shutil.copy(made / "client.key", files["client_key_file"])
        with pytest.raises(Unanswered):  # the key of another certificate
            await resolve(asked)
        shutil.copy(made / "client.pem", files["client_cert_file"])
        assert await resolve(asked) == "1"


async def test_a_key_may_be_in_the_file_of_its_certificate(between: GoBetweens, tmp_path: Path) -> None:
    made = between.authority.parent
    both = tmp_path / "both.pem"
    both.write_bytes((made / "client.pem").read_bytes() + (made / "client.key").read_bytes())
    uri = between.uri("asks_certificate")
    async with client(tmp_path, uri, ca_file=between.authority, client_cert_file=both) as asked:
        assert await resolve(asked) == "1"


async def test_a_redirect_to_another_host_takes_neither_certificate_nor_authorization_along(
    between: GoBetweens, tmp_path: Path
) -> None:
    """The other host would accept a certificate; its own has the same authority."""
    made = between.authority.parent
    (tmp_path / "token").write_text("a-token", "ascii")
    keys = {"token_file": tmp_path / "token", "ca_file": between.authority}
    keys |= {"client_cert_file": made / "client.pem", "client_key_file": made / "client.key"}
    async with client(tmp_path, between.uri("moved"), redirect_hosts=("127.0.0.2",), **keys) as asked:
        assert await resolve(asked) == "1"
    assert set(between.credentials()) == {
        '127.0.0.1 certificate="CN=client" authorization="Bearer a-token"',
        '127.0.0.2 certificate="-" authorization="-"',
    }


async def test_a_redirect_from_https_to_http_is_not_followed(between: GoBetweens, tmp_path: Path) -> None:
    async with client(tmp_path, between.uri("downgrades"), ca_file=between.authority) as asked:
        with pytest.raises(Unanswered, match=r"127\.0\.0\.1 redirects from https to http; ") as caught:
            await resolve(asked)
        assert caught.value.kind == "bad_response"


async def test_the_authority_of_one_registry_is_not_that_of_another(
    between: GoBetweens, tmp_path: Path
) -> None:
    async with client(tmp_path, between.uri("https")) as asked:
        with pytest.raises(Unanswered, match=r"name its authority's file in ca_file") as caught:
            await resolve(asked)
        assert caught.value.kind == "tls"
    async with client(tmp_path / "second", between.uri("https"), ca_file=between.authority) as asked:
        assert await resolve(asked) == "1"
