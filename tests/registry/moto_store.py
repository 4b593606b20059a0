"""S3 of moto, and a registry in a file that has its versions."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess
from mlopsd_probes.registry.options import RegistryOptions
from tests.model.registry_server import environment
from tests.running import free_port

BUCKET = "models"
REGISTER = """
import sys
from mlflow import MlflowClient
uri, *sources = sys.argv[1:]
client = MlflowClient(uri, uri)
client.create_registered_model("wine")
for source in sources:
    client.create_model_version("wine", source)
"""


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """S3 of moto, which is starting."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def s3(port: int) -> Any:
    """A client of the S3 at *port*."""
    import boto3

    keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)


def port_of(uri: str) -> int:
    return int(uri.rpartition(":")[2])


def use(patch: pytest.MonkeyPatch, uri: str) -> None:
    """Let every client that starts now use the S3 at *uri*."""
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": uri,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
    }.items():
        patch.setenv(name, value)


def registry(folder: Path, *sources: str) -> str:
    """The URI of a registry whose model ``wine`` has a version for each of *sources*."""
    uri = f"sqlite:///{folder}/mlflow.db"
    command = [sys.executable, "-c", REGISTER, uri, *sources]
    subprocess.run(command, check=True, env=environment(Path(sys.executable)), timeout=300)
    return uri


@asynccontextmanager
async def version_in_s3(folder: Path, uri: str, front: str) -> AsyncIterator[tuple[Any, ClientProcess]]:
    """Yield a client of the S3 at *uri*, and a process that fetches a version from it over *front*.

    The bucket has the version's MLmodel only.
    """
    options = RegistryOptions(uri=registry(folder, f"s3://{BUCKET}/1"))
    filled = s3(port_of(uri))
    filled.create_bucket(Bucket=BUCKET)
    filled.put_object(Bucket=BUCKET, Key="1/MLmodel", Body=b"flavors: {}")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, front)
        log = logging.getLogger("mlopsd.test")
        client = ClientProcess(options, folder / "own", 30, name="model", log=log, printed=LogLimiter())
        yield filled, client
        await client.end()
