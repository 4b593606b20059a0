"""A download over a line that breaks: it goes on where it was, or starts over if the content has changed."""

import asyncio
import hashlib
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.journal import BOOT_ID
from mlopsd_probes.registry.options import RegistryOptions
from tests.conftest import OLDEST
from tests.model.asking import clients, rest
from tests.model.registrar import Registrar
from tests.model.registry_server import empty
from tests.model.test_blame_live import until_up
from tests.registry.broken_line import BrokenLine
from tests.registry.moto_store import bucket, port_of, s3, use

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]  # three servers start

SIZE = 2_000_000
BREAK = 600_000
SLACK = 150_000  # bytes of headers, lists and buffers that come beside the file
PATIENCE = 60.0
NEWEST, OLD, S3 = "newest", "oldest", "s3"
ALL = [NEWEST, S3, pytest.param(OLD, marks=pytest.mark.needs("oldest"))]


@dataclass
class Place:
    """A server with a version, a line to its files, and a process that fetches them."""

    kind: str
    line: BrokenLine
    client: ClientProcess
    stored: Path | int

    async def fetch(self, folder: Path, *cached: Path) -> str:
        """Fetch the version while *cached* are files of another one; return the SHA-256 of its large file."""
        known = [(str(path), path.stat().st_size, digest(path.read_bytes())) for path in cached]
        question = {
            "do": "fetch",
            "model": self.kind,
            "version": "1",
            "folder": str(folder),
            "cached": known,
        }
        files = (await self.client.ask(question, PATIENCE))["files"]
        found = {path: sha256 for path, _, sha256 in files}
        assert all(found[name] == digest((folder / name).read_bytes()) for name in found)
        assert {str(path.relative_to(folder)) for path in rest(folder) if path.is_file()} == set(found)
        return str(found["weights"])

    async def fail(self, folder: Path) -> None:
        """Fetch over a line that breaks in the large file and is dead then."""
        self.line.break_after(BREAK, then="dead")
        with pytest.raises(Unanswered):
            await self.fetch(folder)
        assert BREAK - SLACK < (folder / "weights").stat().st_size < SIZE
        self.line.behave()

    def replace(self, content: bytes) -> None:
        """Put *content* in the place of the large file in the store."""
        if isinstance(self.stored, int):
            s3(self.stored).put_object(Bucket="models", Key="1/weights", Body=content)
        else:
            fresh = self.stored.with_name("fresh")
            fresh.write_bytes(content)
            fresh.replace(self.stored)


def weights(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


WEIGHTS = digest(weights(1))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    (folder / "MLmodel").write_text("flavors: {}", "utf-8")
    (folder / "weights").write_bytes(weights(1))
    (folder / "many").mkdir()
    for number in range(8):
        (folder / "many" / f"part-{number}").write_bytes(b"%d" % number)
    return folder


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, version: Path) -> Iterator[dict[str, tuple[str, Path]]]:
    """MLflow's servers and moto's S3, which start at the same time and have the version."""
    has_oldest = OLDEST.is_dir()
    with ExitStack() as stack:
        folders = {kind: tmp_path_factory.mktemp(kind) for kind in (NEWEST, OLD, S3)}
        uris = {NEWEST: stack.enter_context(empty(folders[NEWEST], Path(sys.executable)))}
        if has_oldest:
            uris[OLD] = stack.enter_context(empty(folders[OLD], OLDEST / "bin" / "python"))
        uris[S3] = stack.enter_context(bucket(folders[S3]))
        for uri in uris.values():
            until_up(uri)
        for kind in set(uris) - {S3}:
            Registrar(uris[kind], kind).register(version)
        fill(port_of(uris[S3]), version)
        registrar = Registrar(uris[NEWEST], S3)
        registrar._ask("POST", "model-versions/create", {"name": S3, "source": "s3://models/1"})
        yield {kind: (uris[kind], folders[kind]) for kind in uris}


def fill(port: int, version: Path) -> None:
    client = s3(port)
    client.create_bucket(Bucket="models")
    for path in version.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "models", f"1/{path.relative_to(version)}")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ALL)
async def place(
    request: pytest.FixtureRequest,
    servers: dict[str, tuple[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    kind = request.param
    uri, folder = servers[kind]
    with BrokenLine(uri) as line, pytest.MonkeyPatch.context() as patch:
        use(patch, line.uri)
        options = RegistryOptions(uri=servers[NEWEST][0] if kind == S3 else line.uri)
        scratch = tmp_path_factory.mktemp("client") / "folder"
        log = logging.getLogger("mlopsd.test")
        client = ClientProcess(options, scratch, PATIENCE / 2, name="model", log=log, printed=LogLimiter())
        stored = port_of(uri) if kind == S3 else next(folder.rglob("weights"))
        yield Place(kind, line, client, stored)
        await client.end()


@pytest.fixture
def folder(tmp_path: Path, place: Place) -> Iterator[Path]:
    made = tmp_path / "part" / "files"
    made.mkdir(parents=True)
    place.line.behave()
    yield made
    place.replace(weights(1))


async def test_a_line_that_breaks_again_and_again_carries_no_byte_twice(place: Place, folder: Path) -> None:
    if place.kind == OLD:  # it has no ranges: a break ends the attempt
        place.line.break_after(BREAK)
        with pytest.raises(Unanswered, match="broke off"):
            await place.fetch(folder)
        return
    place.line.break_after(BREAK, breaks=3)
    assert await place.fetch(folder) == WEIGHTS
    assert place.line.breaks == 0
    assert place.line.carried < SIZE + SLACK


async def test_the_next_attempt_goes_on_where_the_last_one_broke(place: Place, folder: Path) -> None:
    """A server without ranges sends the broken file again, and it alone."""
    await place.fail(folder)
    small = {path: path.stat().st_ino for path in (folder / "many").iterdir()}
    assert await place.fetch(folder) == WEIGHTS
    assert {path: path.stat().st_ino for path in (folder / "many").iterdir() if path in small} == small
    assert small
    expected = SIZE if place.kind == OLD else SIZE - BREAK
    assert expected - SLACK < place.line.carried < expected + SLACK


async def test_content_that_has_changed_meanwhile_starts_over(place: Place, folder: Path) -> None:
    await place.fail(folder)
    place.replace(weights(2))
    assert await place.fetch(folder) == digest(weights(2))
    assert place.line.carried > SIZE


async def test_bytes_of_an_earlier_boot_without_a_mark_are_not_trusted(place: Place, folder: Path) -> None:
    await place.fail(folder)
    after_another_boot(folder.with_name("journal"))
    assert await place.fetch(folder) == WEIGHTS
    assert place.line.carried > SIZE


def after_another_boot(journal: Path) -> None:
    boot = BOOT_ID.read_text("ascii").strip()
    journal.write_text(journal.read_text("ascii").replace(boot, "another boot"), "ascii")


async def test_a_killed_process_leaves_what_the_next_one_goes_on_from(place: Place, folder: Path) -> None:
    place.line.break_after(BREAK, then="held")
    before = set(clients())
    fetching = asyncio.ensure_future(place.fetch(folder))
    while place.line.breaks or not (folder / "weights").exists():
        await asyncio.sleep(0.01)
    (process,) = set(clients()) - before or before
    os.kill(process, signal.SIGKILL)
    with pytest.raises(Unanswered):
        await fetching
    assert (folder / "weights").stat().st_size < SIZE
    with folder.with_name("journal").open("ab") as journal:
        journal.write(b'["weights",{"validator":"torn')
    place.line.behave()
    assert await place.fetch(folder) == WEIGHTS


async def test_a_complete_download_is_not_fetched_again(place: Place, folder: Path) -> None:
    assert await place.fetch(folder) == WEIGHTS
    place.line.behave()
    assert await place.fetch(folder) == WEIGHTS
    assert place.line.carried < SLACK
    (folder / "weights").write_bytes(weights(3))
    assert await place.fetch(folder) == WEIGHTS, "what changed on disk is fetched again"


async def test_a_file_of_another_version_is_linked_only_if_the_store_names_its_content(
    place: Place, folder: Path, tmp_path: Path
) -> None:
    """The ETag of MLflow's server names a place and a time."""
    cached = tmp_path / "cached"
    cached.write_bytes(weights(1))
    assert await place.fetch(folder, cached) == WEIGHTS
    is_linked = (folder / "weights").samefile(cached)
    assert is_linked == (place.kind == S3)
    assert (place.line.carried < SLACK) == is_linked
