"""Registries as platform teams run them: on PostgreSQL, with users, workspaces, and other stores of files."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from mlopsd_probes.registry.registries import FetchError, Registries
from mlopsd_probes.registry.version import Version
from tests.conftest import OLDEST
from tests.model.asking import asking
from tests.nginx import running
from tests.registry.servers import API, PASSWORD, MlflowServer, postgresql, server, server_with_users
from tests.running import free_port

pytestmark = pytest.mark.timeout(900)  # servers start, and make their databases

PATIENT = {"registry_timeout": 120}
USER = "reader"
NEWEST = Path(sys.executable)
AWS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


async def resolved(registries: Registries) -> Version:
    resolution = await registries.resolve()
    assert resolution.found is not None, resolution.complaints
    assert resolution.complaints == ()
    return resolution.found


async def fetched(registries: Registries, version: Version, folder: Path) -> list[str]:
    files = await registries.fetch(version, folder, lambda *_: None)
    return [file.path for file in files]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


# A server on PostgreSQL, whose files are in a folder of this host


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URI of a database, without its scheme and the driver."""
    with postgresql() as port:
        yield f"postgres:{PASSWORD}@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def on_postgresql(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("postgresql")
    stores = ("--no-serve-artifacts", "--default-artifact-root", str(folder / "artifacts"))
    with server(folder, NEWEST, *stores, backend=f"postgresql+psycopg://{database}") as made:
        place = Path(made.register())
        place.mkdir(parents=True)
        (place / "MLmodel").write_text("flavors: {}", "ascii")
        yield made


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("driver", [None, "postgresql", "postgresql+psycopg"])
async def test_a_registry_on_postgresql_answers_through_its_server_and_straight(
    on_postgresql: MlflowServer, database: str, tmp_path: Path, files: Path, driver: str | None
) -> None:
    uri = on_postgresql.uri if driver is None else f"{driver}://{database}"
    async with asking(tmp_path / "scratch", uri, **PATIENT) as (registries, _):
        version = await resolved(registries)
        assert PASSWORD not in version.registry
        assert (await registries.metrics(version))["accuracy"].value == 0.7
        assert await fetched(registries, version, files) == ["MLmodel"]


@pytest.mark.needs("postgresql")
async def test_a_missing_driver_and_a_wrong_password_of_postgresql_are_named(
    on_postgresql: MlflowServer, database: str, tmp_path: Path
) -> None:
    wrong = database.replace(PASSWORD, "wrong-password")
    uris = (f"postgresql+psycopg2://{database}", f"postgresql+psycopg://{wrong}")
    async with asking(tmp_path / "scratch", *uris, **PATIENT) as (registries, _):
        driver, password = (await registries.resolve()).complaints
    assert driver.kind == "import_error"
    assert f"{sys.executable} has no module 'psycopg2'; install it: " in driver.reason
    assert password.kind == "auth"
    assert "password authentication failed" in password.reason
    assert password.reason.endswith("; check the user and the password in the uri")
    for complaint in (driver, password):
        assert PASSWORD not in repr(complaint)
        assert "wrong-password" not in repr(complaint)


# A server whose clients ask S3 themselves


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port):
        yield f"http://127.0.0.1:{port}"


async def test_files_in_s3_are_fetched_straight(
    bucket: str, tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {name.lower(): value for name, value in AWS.items()}
    keys["region_name"] = keys.pop("aws_default_region")
    s3: Any = boto3.client("s3", endpoint_url=bucket, **keys)
    s3.create_bucket(Bucket="models")
    for name, value in {**AWS, "MLFLOW_S3_ENDPOINT_URL": bucket}.items():
        monkeypatch.setenv(name, value)
    stores = ("--no-serve-artifacts", "--default-artifact-root", "s3://models/store")
    with server(tmp_path, NEWEST, *stores) as made:
        source = made.register()
        assert source.startswith("s3://models/store/")
        key = source.removeprefix("s3://models/")
        s3.put_object(Bucket="models", Key=f"{key}/MLmodel", Body=b"flavors: {}")
        async with asking(tmp_path / "scratch", made.uri, **PATIENT) as (registries, _):
            version = await resolved(registries)
            assert await fetched(registries, version, files) == ["MLmodel"]
            monkeypatch.setenv("AWS_PROFILE", "nonesuch")
            with pytest.raises(FetchError) as caught:
                await fetched(registries, version, files)
    assert caught.value.kind == "no_credentials"


# The oldest MLflow with users


@pytest.mark.needs("oldest")
async def test_the_rights_that_lack_at_the_oldest_server_are_named(tmp_path: Path, files: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD, "ascii")
    with server_with_users(tmp_path, OLDEST / "bin" / "python") as made:
        made.upload(made.register())
        made.ask("POST", f"{API}/users/create", username=USER, password=PASSWORD)
        registry = {"uri": made.uri, "username": USER, "password_file": str(tmp_path / "password")}
        async with asking(tmp_path / "scratch", registry, **PATIENT) as (registries, _):
            (lacks,) = (await registries.resolve()).complaints
            assert lacks.kind == "forbidden"
            assert "grant READ on the registered model 'iris'" in lacks.reason
            right = {"username": USER, "permission": "READ"}
            made.ask("POST", f"{API}/registered-models/permissions/create", name="iris", **right)
            version = await resolved(registries)
            with pytest.raises(FetchError, match=r"the user lacks a right .* grant READ on ") as caught:
                await fetched(registries, version, files)
            assert "experiment" in str(caught.value)
            assert (caught.value.kind, caught.value.is_of_version) == ("forbidden", False)
            made.ask("POST", f"{API}/experiments/permissions/create", experiment_id="0", **right)
            assert await fetched(registries, version, files) == ["MLmodel"]
            assert (await registries.metrics(version))["accuracy"].value == 0.7


# A server with workspaces


async def test_a_model_is_found_in_its_workspace_alone(tmp_path: Path, files: Path) -> None:
    stores = ("--artifacts-destination", str(tmp_path / "artifacts"), "--enable-workspaces")
    with server(tmp_path, NEWEST, *stores) as made:
        made.ask("POST", "/api/3.0/mlflow/workspaces", name="team")
        inside = MlflowServer(made.uri, {"X-MLFLOW-WORKSPACE": "team"})
        experiment = inside.ask("POST", f"{API}/experiments/create", name="training")["experiment_id"]
        inside.upload(inside.register(experiment=experiment))
        tables = ({"uri": made.uri}, {"uri": made.uri, "workspace": "team"})
        async with asking(tmp_path / "scratch", *tables, **PATIENT) as (registries, _):
            resolution = await registries.resolve()
            assert [complaint.kind for complaint in resolution.complaints] == ["absent"]
            assert resolution.found is not None
            assert resolution.found.registry_rank == 1
            assert await fetched(registries, resolution.found, files) == ["MLmodel"]
