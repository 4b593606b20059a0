"""Who answers in place of a registry is named, and the fix; with real servers."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mlopsd.probe import Advice
from mlopsd_probes.causes import REGISTRY, cause_of
from mlopsd_probes.registry.environment import client_environment
from mlopsd_probes.registry.options import RegistryOptions
from tests.model.asking import asking as connected
from tests.registry.go_betweens import GoBetweens, go_betweens
from tests.registry.servers import ADMIN, API, PASSWORD, MlflowServer, server_with_users
from tests.running import free_port

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    import requests

    from mlopsd_probes.registry.errors import classify
    from mlopsd_probes.registry.redirects import RedirectGuard
    from mlopsd_probes.registry.resolver import Resolver
    from mlopsd_probes.registry.responses import LONGEST_RETRY_AFTER, retry_after

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("nginx")]

USER = "reader"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server with a user without rights, which knows only the host 127.0.0.1."""
    folder = tmp_path_factory.mktemp("guarded")
    hosts = ("--allowed-hosts", "127.0.0.1:{port}")
    with server_with_users(folder, Path(sys.executable), *hosts) as made:
        made.upload(made.register())
        made.ask("POST", f"{API}/users/create", username=USER, password=PASSWORD)
        yield made


def port_of(server: MlflowServer) -> str:
    return server.uri.rpartition(":")[2]


def grant_model(server: MlflowServer) -> None:
    """Let the user read the model, and not the experiment."""
    right = {"resource_type": "registered_model", "resource_id": "iris", "permission": "READ"}
    server.ask("POST", "/api/3.0/mlflow/users/permissions/grant", username=USER, **right)


@pytest.fixture(scope="module")
def between(guarded: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoBetweens]:
    with go_betweens(tmp_path_factory.mktemp("between"), guarded.uri) as made:
        yield made


class Asking:
    """Asks as a registry's process does, in this one: importing MLflow takes seconds."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = patch
        for name in list(os.environ):
            if name.startswith("MLFLOW_") or name.lower().endswith("_proxy"):
                patch.delenv(name)

    def ask(self, uri: str, do: str = "resolve", user: str | None = None, password: str = PASSWORD) -> Any:
        """Return the answer of the registry at *uri*."""
        path = self.folder / "password"
        path.write_text(password, "ascii")
        registry = RegistryOptions(uri=uri, username=user, password_file=path if user else None)
        for name, value in client_environment(registry, self.folder, 30).items():
            self.patch.setenv(name, value)
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            self.patch.delenv(name, raising=False)
            self.patch.setenv(name, "")  # the resolver sets them, and this test ends that
        opening = registry.model_dump(mode="json")
        question = {"id": 0, "do": do, "model": "iris", "version": "1", "candidates": ["@champion"]}
        (self.folder / "files").mkdir(exist_ok=True)
        resolver = Resolver(opening, lambda part: None, RedirectGuard(()))
        return resolver.answer({**question, "folder": str(self.folder / "files")})

    def fault(self, uri: str, **how: Any) -> tuple[str, str]:
        """Return the kind and the reason of the fault."""
        fault = self.ask(uri, **how)["fault"]
        reason, semicolon, fix = fault["reason"].rpartition("; ")
        assert (bool(reason), semicolon, bool(fix)) == (True, "; ", True), fault
        assert PASSWORD not in fault["reason"]
        return fault["kind"], fault["reason"]


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    return Asking(tmp_path, monkeypatch)


def advice(kind: str) -> Advice:
    return cause_of(REGISTRY, kind).advice


def test_mlflows_check_of_the_host_is_named(guarded: MlflowServer, asking: Asking) -> None:
    kind, said = asking.fault(f"http://localhost:{port_of(guarded)}")
    assert (kind, advice(kind)) == ("forbidden", Advice.FIX_REGISTRY)
    assert '(403: "Invalid Host header - possible DNS rebinding attack detected")' in said
    assert f"start MLflow's server with --allowed-hosts 'localhost:{port_of(guarded)}'" in said
    assert "credentials" not in said


def test_mlflows_guard_of_origins_is_named(guarded: MlflowServer) -> None:
    """Of a real response to what only a proxy can add: the client itself sends no Origin."""
    response = requests.post(
        f"{guarded.uri}{API}/runs/search", headers={"Origin": "http://elsewhere"}, timeout=60
    )
    fault = classify(requests.HTTPError("said so", response=response))
    assert fault.kind == "forbidden"
    assert '(403: "Cross-origin request blocked"); remove the Origin header in the proxy' in str(fault)
    assert "--cors-allowed-origins" in str(fault)


def test_credentials_that_are_missing_wrong_or_without_a_right_are_told_apart(
    guarded: MlflowServer, asking: Asking
) -> None:
    kind, said = asking.fault(guarded.uri)
    assert (kind, advice(kind)) == ("auth", Advice.FIX_CONFIG)
    assert '(401: "You are not authenticated.' in said
    assert "and none are configured; set username and password_file, or token_file" in said
    kind, said = asking.fault(guarded.uri, user=USER, password="wrong")
    assert kind == "auth"
    assert said.startswith('it rejects the credentials (401: "You are not authenticated.')
    kind, said = asking.fault(guarded.uri, user=USER)
    assert (kind, advice(kind)) == ("forbidden", Advice.FIX_REGISTRY)
    assert (
        said
        == "the user lacks a right (403: \"Permission denied\"); grant READ on the registered model 'iris'"
    )
    grant_model(guarded)
    assert asking.ask(guarded.uri, user=USER)["found"]["number"] == "1"
    kind, said = asking.fault(guarded.uri, do="fetch", user=USER)
    assert kind == "forbidden"
    assert said.startswith('the user lacks a right (403: "Permission denied"); grant READ on ')
    assert "experiment" in said


def test_a_certificate_of_an_unknown_authority_is_named_with_the_variable(
    between: GoBetweens, asking: Asking
) -> None:
    kind, said = asking.fault(between.uri("https"))
    assert (kind, advice(kind)) == ("tls", Advice.FIX_CONFIG)
    assert "its certificate is not accepted (unable to get local issuer certificate)" in said
    assert "ca_file" in said
    asking.patch.setenv("REQUESTS_CA_BUNDLE", str(between.authority))
    assert asking.ask(between.uri("https"), user=ADMIN)["found"]["number"] == "1"
    kind, said = asking.fault(between.uri("https").replace("127.0.0.1", "localhost"))
    assert kind == "tls"
    assert "write a name of the certificate into the uri" in said
    kind, said = asking.fault(between.uri("expired"))
    assert (kind, advice(kind)) == ("bad_certificate", Advice.FIX_REGISTRY)
    assert "(certificate has expired); renew it" in said
    kind, said = asking.fault(f"https://127.0.0.1:{between.ports['page_403']}")
    assert kind == "tls"
    assert "does not answer with TLS" in said


@pytest.mark.parametrize("name", ["asks_certificate", "demands_certificate"])
def test_a_missing_client_certificate_is_named(between: GoBetweens, asking: Asking, name: str) -> None:
    """As nginx tells it by a page, and as others do by an alert of TLS."""
    asking.patch.setenv("REQUESTS_CA_BUNDLE", str(between.authority))
    kind, said = asking.fault(between.uri(name))
    assert (kind, advice(kind)) == ("tls", Advice.FIX_CONFIG)
    assert said.startswith("it wants a client certificate (")
    assert "client_cert_file" in said


def test_a_page_of_a_go_between_is_quoted_by_its_title(between: GoBetweens, asking: Asking) -> None:
    kind, said = asking.fault(between.uri("page_403"))
    assert kind == "forbidden"
    assert '(403: "403 Forbidden"), and no credentials are configured; check what this host' in said
    kind, said = asking.fault(between.uri("page_502"))
    assert kind == "server_error"
    assert 'it answered 502 ("502 Bad Gateway"); check the log of the proxy before it' in said
    kind, said = asking.fault(f"http://127.0.0.1:{between.ports['https']}")
    assert kind == "bad_response"
    assert "400 The plain HTTP request was sent to HTTPS port" in said


def test_a_redirect_to_a_login_is_named(between: GoBetweens, asking: Asking) -> None:
    kind, said = asking.fault(between.uri("login"))
    page = f"http://localhost:{between.ports['login_page']}/signin"
    assert kind == "bad_response"
    assert f'it redirects to {page}, which does not answer as MLflow does (200: "Sign in & go"); ' in said
    assert "let this host pass without a login page" in said


def test_a_proxy_that_wants_credentials_is_named(between: GoBetweens, asking: Asking) -> None:
    """For http it answers itself, for https it does not connect."""
    for name in ("http_proxy", "https_proxy"):
        asking.patch.setenv(name, f"http://user:{PASSWORD}@127.0.0.1:{between.ports['proxy_407']}")
    kind, said = asking.fault("http://registry.example")
    assert (kind, advice(kind)) == ("proxy", Advice.FIX_CONFIG)
    assert '(407: "Who are you?"); write them into http_proxy and https_proxy' in said
    asking.patch.setenv("http_proxy", "http://127.0.0.1:1")
    kind, said = asking.fault("http://registry.example")
    assert kind == "proxy"
    assert "the proxy in http_proxy or https_proxy: connection refused" in said


def test_a_name_that_does_not_resolve_and_a_closed_port_are_told_apart(asking: Asking) -> None:
    kind, said = asking.fault("http://nonesuch.invalid")
    assert (kind, advice(kind)) == ("unresolved", Advice.FIX_CONFIG)
    assert "its name cannot be resolved" in said
    kind, said = asking.fault(f"http://127.0.0.1:{free_port()}")
    assert (kind, advice(kind)) == ("unreachable", Advice.FIX_REGISTRY)
    assert said == "connection refused; check that it runs and can be reached"


def test_who_asks_to_be_asked_less_often_is_heard(between: GoBetweens, asking: Asking) -> None:
    fault = asking.ask(between.uri("busy"))["fault"]
    assert (fault["kind"], fault["retry_after"]) == ("server_error", 77)
    assert 'it asks to be asked less often (429: "slow down")' in fault["reason"]


@pytest.mark.parametrize(
    ("name", "reason", "seconds"),
    [
        ("busy", "it asks to be asked less often (429", 77),
        ("busy_until", "it is not available now (503", LONGEST_RETRY_AFTER),
    ],
)
async def test_a_registry_that_asks_for_a_wait_is_not_asked_meanwhile(
    between: GoBetweens, tmp_path: Path, name: str, reason: str, seconds: float
) -> None:
    """Whether it gives seconds or a date."""
    async with connected(tmp_path / "scratch", between.uri(name), registry_timeout=60) as (
        registries,
        counted,
    ):
        (first,) = (await registries.resolve()).complaints
        (then,) = (await registries.resolve()).complaints
    assert reason in first.reason
    assert first.retry_after == seconds
    assert "; it is asked again in " in then.reason
    assert counted == [("resolve", "server_error")], "no second request, and no retry of the first"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("99999", LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 2999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("soon", None),
        ("9" * 5000, LONGEST_RETRY_AFTER),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
        ("-3", None),
        ("", None),
    ],
)
def test_the_wait_that_a_server_asks_for_is_bounded(header: str, seconds: float | None) -> None:
    response = requests.Response()
    response.headers["Retry-After"] = header
    assert retry_after(response) == seconds


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        (b"\x1b[31mred\x00\nsecond", '"[31mred"'),
        ("é".encode() * 1000, f'"{"é" * 139}…"'),
        (b"token-that-was-sent and more", '"*** and more"'),
        (quote("a b").encode(), '"a%20b"'),
        (b"\n \n", "(418"),
    ],
)
def test_what_is_quoted_is_bounded_printable_and_without_secrets(body: bytes, quoted: str) -> None:
    response = requests.Response()
    response.status_code, response.url, response._content = 403, "http://u:pw@registry/x?secret=1", body
    response.headers["Content-Type"] = "text/plain; charset=utf-8"
    response.encoding = "utf-8"
    response.request = requests.Request(
        "GET", "http://registry/x", headers={"Authorization": "Bearer token-that-was-sent"}
    ).prepare()
    said = str(classify(requests.HTTPError("said so", response=response)))
    assert (quoted in said) == (quoted != "(418")
    assert "pw" not in said
    assert "secret=1" not in said
