"""Credentials go only to their own registry."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.environment import client_environment
from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.options import RegistryOptions
from mlopsd_probes.registry.registries import FetchError
from mlopsd_probes.registry.secret_files import token
from tests.model import meddler as meddling
from tests.model.asking import asking, clients
from tests.model.meddler import Meddler
from tests.model.registry_server import Shop
from tests.processes import environment

pytestmark = pytest.mark.timeout(600)  # a registry is filled

SECRETS = ("first-token", "second-password", "third-token", "home-password", "netrc-password")
PATIENT = {"registry_timeout": 30}


@pytest.fixture
def servers(newest: Shop) -> Iterator[list[Meddler]]:
    """Four, which note what they are sent; the last passes it on to the real registry."""
    with ExitStack() as stack:
        made = [stack.enter_context(Meddler(newest.uri)) for _ in range(4)]
        for meddler in made[:3]:
            meddler.meddle("/", meddling.status(401))
        yield made


@pytest.fixture
def home(tmp_path: Path, servers: list[Meddler], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with MLflow's own file of credentials and a .netrc, in an environment that has some too."""
    home = tmp_path / "home"
    (home / ".mlflow").mkdir(parents=True)
    (home / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = home\nmlflow_tracking_password = home-password\n", "ascii"
    )
    (home / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc-password\n", "ascii")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "third-token")
    return home


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"{text}\n", "ascii")
    return str(path)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def sent(meddler: Meddler) -> set[str | None]:
    return {asked.authorization for asked in meddler.asked}


@pytest.mark.parametrize("content", ["sec\x07ret", "s\u00e9cret", "sec\u200bret"])
def test_what_is_no_token_is_the_hosts_fault_and_is_not_quoted(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, "utf-8")
    with pytest.raises(Fault, match="characters that no token has; write the token there") as caught:
        token(str(tmp_path / "token"))
    assert caught.value.kind == "auth"
    assert "ret" not in str(caught.value).replace(str(tmp_path), "")


def test_a_mark_of_the_encoding_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n", "utf-8-sig")
    assert token(str(tmp_path / "token")) == "secret"


async def test_each_registry_is_sent_its_own_and_no_other(
    servers: list[Meddler], home: Path, tmp_path: Path
) -> None:
    token, password = written(tmp_path, "t", "first-token"), written(tmp_path, "p", "second-password")
    tables = [
        {"uri": servers[0].uri, "token_file": token},
        {"uri": servers[1].uri, "username": "me", "password_file": password},
        {"uri": servers[2].uri, "token_file": str(tmp_path / "nonesuch")},
        {"uri": servers[3].uri.replace("http://", "http://other:in-the-uri@")},
    ]
    async with asking(tmp_path / "scratch", *tables, **PATIENT) as (registries, _):
        resolution = await registries.resolve()
        assert resolution.found is not None
        assert resolution.found.registry == servers[3].uri
        assert sent(servers[0]) == {"Bearer first-token"}
        assert sent(servers[1]) == {basic("me:second-password")}
        assert sent(servers[2]) == set()
        assert sent(servers[3]) == {basic("other:in-the-uri")}
        assert [complaint.kind for complaint in resolution.complaints] == ["auth"] * 3
        assert str(tmp_path / "nonesuch") in resolution.complaints[2].reason
        for said in (repr(resolution), *(repr(environment(pid)) for pid in clients())):
            assert not [secret for secret in SECRETS if secret in said]
        assert "in-the-uri" not in repr(resolution)


async def test_a_registry_of_the_table_without_credentials_is_sent_none_of_mlflows(
    servers: list[Meddler], home: Path, tmp_path: Path
) -> None:
    (home / ".netrc").unlink()
    async with asking(tmp_path / "scratch", servers[3].uri, **PATIENT) as (registries, _):
        assert (await registries.resolve()).found is not None
    assert sent(servers[3]) == {None}


async def test_the_registry_of_the_environment_is_sent_mlflows_own(
    servers: list[Meddler], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".mlflow" / "credentials").unlink()
    (home / ".netrc").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers[3].uri)
    async with asking(tmp_path / "scratch", **PATIENT) as (registries, _):
        resolution = await registries.resolve()
        assert resolution.found is not None
        assert resolution.found.registry == servers[3].uri
        assert not [pid for pid in clients() if b"third-token" in environment(pid)]
    assert sent(servers[3]) == {"Bearer third-token"}


async def test_a_redirect_elsewhere_takes_no_credentials_along(
    servers: list[Meddler], tmp_path: Path
) -> None:
    servers[0].meddle("/", meddling.redirect(servers[3].uri))
    table = {"uri": servers[0].uri, "token_file": written(tmp_path, "t", "first-token")}
    async with asking(tmp_path / "scratch", table, **PATIENT) as (registries, _):
        assert (await registries.resolve()).found is not None
    assert sent(servers[0]) == {"Bearer first-token"}
    assert sent(servers[3]) == {None}


async def test_files_on_another_server_are_asked_for_without_credentials(
    servers: list[Meddler], tmp_path: Path
) -> None:
    """A version may name any place as its source, and MLflow would send the token there."""
    elsewhere = f"{servers[1].uri}/api/2.0/mlflow-artifacts/artifacts/x"
    servers[0].behave()
    servers[0].meddle(
        "get-download-uri",
        meddling.status(200, "application/json", f'{{"artifact_uri": "{elsewhere}"}}'.encode()),
    )
    table = {"uri": servers[0].uri, "token_file": written(tmp_path, "t", "first-token")}
    async with asking(tmp_path / "scratch", table, **PATIENT) as (registries, _):
        version = (await registries.resolve()).found
        assert version is not None
        (tmp_path / "files").mkdir()
        with pytest.raises(FetchError) as caught:
            await registries.fetch(version, tmp_path / "files", lambda size, total: None)
        assert caught.value.kind == "auth"
    assert sent(servers[0]) == {"Bearer first-token"}
    assert sent(servers[1]) == {None}


async def test_a_strange_source_leads_no_credentials_to_another_server(
    servers: list[Meddler], tmp_path: Path
) -> None:
    """Python's own parser finds the host of the registry in it, and `requests` the other one."""
    registry = servers[0].uri.removeprefix("http://")
    elsewhere = json.dumps(
        {"artifact_uri": f"{servers[1].uri}\\@{registry}/api/2.0/mlflow-artifacts/artifacts/x"}
    )
    servers[0].meddle("get-download-uri", meddling.status(200, "application/json", elsewhere.encode()))
    table = {"uri": servers[0].uri, "token_file": written(tmp_path, "t", "first-token")}
    assert await fault_of_fetch(table, tmp_path) == "auth"
    assert sent(servers[1]) == {None}


async def test_files_of_a_run_on_another_server_are_asked_for_without_credentials(
    servers: list[Meddler], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may make an experiment chooses the place of its files."""
    run = {
        "info": {
            "run_id": "0" * 32,
            "experiment_id": "1",
            "artifact_uri": f"{servers[1].uri}/api/2.0/mlflow-artifacts/artifacts/x",
        }
    }
    answers = {
        "get-download-uri": {"artifact_uri": f"runs:/{'0' * 32}/model"},
        "runs/get": {"run": run},
    }

    def answer(path: str) -> meddling.Act | None:
        found = next((one for part, one in answers.items() if part in path), None)
        body = json.dumps(found).encode()
        return None if found is None else meddling.status(200, "application/json", body)

    servers[0].behave()
    servers[0].rule = answer
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    (home / ".netrc").unlink()
    table = {"uri": servers[0].uri, "token_file": written(tmp_path, "t", "first-token")}
    assert await fault_of_fetch(table, tmp_path) == "auth"
    assert sent(servers[0]) == {"Bearer first-token"}
    assert sent(servers[1]) == {None}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers[0].uri)
    assert await fault_of_fetch(None, tmp_path) == "auth"
    assert basic("home:home-password") in sent(servers[0])
    assert sent(servers[1]) == {None}


async def fault_of_fetch(table: dict[str, str] | None, tmp_path: Path) -> str:
    """The kind of the fault of a fetch from the registry of *table*, without one from that of MLflow."""
    tables = [] if table is None else [table]
    async with asking(tmp_path / "scratch", *tables, **PATIENT) as (registries, _):
        version = (await registries.resolve()).found
        assert version is not None
        (tmp_path / "files").mkdir(exist_ok=True)
        with pytest.raises(FetchError) as caught:
            await registries.fetch(version, tmp_path / "files", lambda size, total: None)
    return caught.value.kind


async def test_changed_credentials_need_no_restart(servers: list[Meddler], tmp_path: Path) -> None:
    servers[3].behave()
    path = written(tmp_path, "t", "first-token")
    table = {"uri": servers[3].uri, "token_file": path}
    async with asking(tmp_path / "scratch", table, **PATIENT) as (registries, _):
        await registries.resolve()
        before = clients()
        written(tmp_path, "t", "another-token")
        await registries.resolve()
        assert clients() == before
    assert [asked.authorization for asked in servers[3].asked][-1] == "Bearer another-token"


def test_the_environment_is_that_of_one_registry(tmp_path: Path) -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/home/op",
        "AWS_SECRET_ACCESS_KEY": "for the store of files",
        "HTTPS_PROXY": "http://proxy",
        "MLFLOW_TRACKING_TOKEN": "secret",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_RUN_ID": "of somebody else",
        "DATABRICKS_TOKEN": "secret",
        "MLOPSD_API__API_KEYS": "secret",
        "NOTIFY_SOCKET": "/run/systemd/notify",
    }
    given = client_environment(RegistryOptions(uri="http://here"), tmp_path, 2.5, ours)
    assert not [name for name, value in given.items() if value == "secret"]
    assert {"MLFLOW_RUN_ID", "NOTIFY_SOCKET", "MLFLOW_TRACKING_USERNAME"}.isdisjoint(given)
    assert given["MLFLOW_TRACKING_URI"] == given["MLFLOW_REGISTRY_URI"] == "http://here"
    assert (given["HOME"], given["TMPDIR"]) == (str(tmp_path), str(tmp_path))
    assert given["AWS_SECRET_ACCESS_KEY"] == "for the store of files"
    assert given["AWS_SHARED_CREDENTIALS_FILE"] == "/home/op/.aws/credentials"
    assert given["HTTPS_PROXY"] == "http://proxy"
    assert given["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "2"
    databricks = client_environment(RegistryOptions(uri="databricks"), tmp_path, 2.5, ours)
    assert databricks["DATABRICKS_TOKEN"] == "secret"


def test_only_the_registry_of_the_environment_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here")
    assert type(ModelOptions(model="iris").registries[0]).__name__ == "InheritedRegistry"
    written = ModelOptions(model="iris", registries=({"uri": "http://here"},))  # type: ignore[arg-type]
    assert type(written.registries[0]).__name__ == "RegistryOptions"


def test_what_a_table_names_counts_before_the_environment() -> None:
    ours = {"MLFLOW_WORKSPACE": "ours", "MLFLOW_TRACKING_INSECURE_TLS": "true"}
    plain = RegistryOptions(uri="https://registry")
    assert "MLFLOW_WORKSPACE" not in client_environment(plain, Path("/scratch"), 5, ours)
    assert client_environment(plain, Path("/scratch"), 5, ours)["MLFLOW_TRACKING_INSECURE_TLS"] == "true"
    table = RegistryOptions(uri="https://registry", ca_file=Path("/ca.pem"), workspace="theirs")
    found = client_environment(table, Path("/scratch"), 5, ours)
    assert found["MLFLOW_WORKSPACE"] == "theirs"
    assert "MLFLOW_TRACKING_INSECURE_TLS" not in found


def test_a_database_password_goes_only_to_a_database() -> None:
    ours = {"PGPASSWORD": "secret", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path"}
    database = client_environment(RegistryOptions(uri="postgresql+psycopg://db/m"), Path("/s"), 5, ours)
    server = client_environment(RegistryOptions(uri="https://registry"), Path("/s"), 5, ours)
    assert database["PGPASSWORD"] == "secret"
    assert "PGPASSWORD" not in server
    assert server["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
