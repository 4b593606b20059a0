"""The files of a folder on this host: cloned where the file system shares blocks, copied elsewhere."""

import hashlib
import logging
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess
from mlopsd_probes.registry.options import RegistryOptions
from tests.registry.moto_store import registry

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.needs("root", "mkfs.btrfs", "mount"),
]

DISK = 64 * 1024 * 1024
SIZE = 30 * 1024 * 1024  # twice that does not fit
PATIENCE = 60.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system whose files can share blocks, with the files of a version."""
    folder = tmp_path_factory.mktemp("disk")
    with (folder / "image").open("wb") as image:
        image.truncate(DISK)
    subprocess.run(["mkfs.btrfs", "--quiet", "--mixed", str(folder / "image")], check=True)
    (folder / "mounted").mkdir()
    subprocess.run(["mount", "-o", "loop", str(folder / "image"), str(folder / "mounted")], check=True)
    try:
        version = folder / "mounted" / "version"
        version.mkdir()
        (version / "MLmodel").write_text("flavors: {}", "utf-8")
        with (version / "weights").open("wb") as weights:
            weights.write(random.Random(1).randbytes(SIZE))
            weights.flush()
            os.fsync(weights.fileno())  # it takes its room only then
        yield folder / "mounted"
    finally:
        subprocess.run(["umount", str(folder / "mounted")], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClientProcess]:
    folder = tmp_path_factory.mktemp("registry")
    options = RegistryOptions(uri=registry(folder, str(disk / "version")))
    log = logging.getLogger("mlopsd.test")
    made = ClientProcess(options, folder / "own", 30, name="model", log=log, printed=LogLimiter())
    yield made
    await made.end()


async def fetch(client: ClientProcess, folder: Path) -> None:
    """Fetch the version into *folder*; it must have its own files then, with the digests that it lists."""
    question = {"do": "fetch", "model": "wine", "version": "1", "folder": str(folder)}
    files = (await client.ask(question, PATIENCE))["files"]
    for path, size, sha256 in files:
        content = (folder / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
        assert (folder / path).stat().st_nlink == 1


def made(folder: Path) -> Path:
    (folder / "files").mkdir(parents=True)
    return folder / "files"


async def test_a_clone_needs_no_room_and_keeps_its_content(disk: Path, client: ClientProcess) -> None:
    assert shutil.disk_usage(disk).free < SIZE
    folder = made(disk / "part")
    await fetch(client, folder)
    await fetch(client, folder)
    before = digest(folder / "weights")
    append(disk / "version" / "weights")
    assert digest(folder / "weights") == before
    shutil.rmtree(disk / "part")


async def test_a_file_of_another_file_system_is_copied(client: ClientProcess, tmp_path: Path) -> None:
    await fetch(client, made(tmp_path))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def append(path: Path) -> None:
    """Write into the file *path* in place."""
    with path.open("r+b") as stream:
        stream.write(b"changed")
