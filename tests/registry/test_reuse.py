"""A file that a cached version has: linked if the bucket's digest is that of its bytes, else fetched."""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlopsd_probes.registry.client import ClientProcess
from tests.model.asking import rest
from tests.model.meddler import Act, Handler, Meddler, kept
from tests.model.test_blame_live import until_up
from tests.registry.moto_store import BUCKET, bucket, version_in_s3

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PART = 5 * 1024 * 1024  # the least that S3 takes
SIZE = 2 * PART + 12_345
PATIENCE = 60.0
KEY = "1/weights"


@dataclass
class Shelf:
    """A version in a bucket, a front of that, and a process that fetches it."""

    front: Meddler
    bucket: Any
    client: ClientProcess

    async def fetch(self, folder: Path, cached: Path, sha256: str) -> tuple[str, bool]:
        """Return the SHA-256 of the large file, and whether its bytes came from the bucket."""
        self.front.asked.clear()
        question = {
            "do": "fetch",
            "model": "wine",
            "version": "1",
            "folder": str(folder),
            "cached": [(str(cached), SIZE, sha256)],
        }
        files = (await self.client.ask(question, PATIENCE))["files"]
        (digest,) = (sha256 for path, _, sha256 in files if path == "weights")
        assert digest == sha256_of((folder / "weights").read_bytes())
        assert {path.name for path in rest(folder)} == {"MLmodel", "weights"}
        return digest, "GET" in [one.method for one in self.front.asked if KEY in one.path]


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def sha256_of(of: bytes) -> str:
    return hashlib.sha256(of).hexdigest()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bucket(tmp_path_factory.mktemp("s3")) as found:
        until_up(found)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shelf(uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shelf]:
    folder = tmp_path_factory.mktemp("registry")
    with Meddler(uri) as front:
        async with version_in_s3(folder, uri, front.uri) as (filled, client):
            yield Shelf(front, filled, client)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for one download."""
    return made(tmp_path / "one")


def made(folder: Path) -> Path:
    (folder / "files").mkdir(parents=True)
    return folder / "files"


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    return written(tmp_path / "cached", content(1))


def written(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def links(path: Path) -> int:
    """Return how many names the file *path* has."""
    return path.stat().st_nlink


def put_whole(at: Any, body: bytes) -> None:
    at.put_object(Bucket=BUCKET, Key=KEY, Body=body)


def put_with_sha256(at: Any, body: bytes) -> None:
    at.put_object(Bucket=BUCKET, Key=KEY, Body=body, ChecksumAlgorithm="SHA256")


def put_in_parts(at: Any, body: bytes) -> None:
    upload = at.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
    to = {"Bucket": BUCKET, "Key": KEY, "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": at.upload_part(Body=part, PartNumber=number, **to)["ETag"]}
        for number, part in enumerate((body[:PART], body[PART : 2 * PART], body[2 * PART :]), 1)
    ]
    at.complete_multipart_upload(MultipartUpload={"Parts": parts}, **to)


@pytest.mark.parametrize("put", [put_whole, put_with_sha256, put_in_parts])
async def test_content_that_is_here_is_linked_and_other_content_of_its_size_is_fetched(
    shelf: Shelf, tmp_path: Path, folder: Path, cached: Path, put: Any
) -> None:
    put(shelf.bucket, content(1))
    known = sha256_of(content(1))
    assert await shelf.fetch(folder, cached, known) == (known, False)
    assert (folder / "weights").samefile(cached)
    put(shelf.bucket, content(2))
    assert await shelf.fetch(made(tmp_path / "other"), cached, known) == (sha256_of(content(2)), True)
    assert (content_of(cached), links(cached)) == (content(1), 2)


async def test_a_cached_file_that_has_changed_on_disk_is_not_linked(
    shelf: Shelf, tmp_path: Path, folder: Path
) -> None:
    put_whole(shelf.bucket, content(2))
    cached = written(tmp_path / "cached", content(2))
    assert await shelf.fetch(folder, cached, sha256_of(content(1))) == (
        sha256_of(content(2)),
        True,
    )
    assert links(cached) == 1, "the store has it, and our own list has other content"


def etag(value: str) -> Act:
    """The real answer with another ETag, as of a bucket whose ETags are not of the content."""

    def act(handler: Handler) -> None:
        status, headers, body = handler.upstream_answer(handler.path)
        length = int(headers["Content-Length"])
        handler.answer(status, headers["Content-Type"], body, length, {**kept(headers), "ETag": value})

    return act


@pytest.mark.parametrize("named", ['"' + "0" * 32 + '"', '"' + "0" * 32 + '-3"', '"1764550000-1"', 'W/"1"'])
async def test_an_etag_that_is_no_digest_of_the_content_links_nothing(
    shelf: Shelf, folder: Path, cached: Path, named: str
) -> None:
    """The same for two versions, as a key of KMS, a proxy or another server may have it."""
    put_in_parts(shelf.bucket, content(2))
    shelf.front.meddle(KEY, etag(named))
    known = sha256_of(content(1))
    assert await shelf.fetch(folder, cached, known) == (sha256_of(content(2)), True)
    shelf.front.behave()


async def test_a_sha256_counts_whatever_the_etag_is(shelf: Shelf, folder: Path, cached: Path) -> None:
    put_with_sha256(shelf.bucket, content(1))
    shelf.front.meddle(KEY, etag('"of a key"'))
    known = sha256_of(content(1))
    assert await shelf.fetch(folder, cached, known) == (known, False)
    shelf.front.behave()


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_a_bucket_that_names_no_content_is_asked_for_the_file(
    shelf: Shelf, folder: Path, cached: Path, status: int
) -> None:
    put_whole(shelf.bucket, content(1))

    def forbid_head(handler: Handler) -> None:
        if handler.command == "HEAD":
            handler.answer(status, "application/xml", b"", 0)
        else:
            handler.pass_on()

    shelf.front.meddle(KEY, forbid_head)
    known = sha256_of(content(1))
    assert await shelf.fetch(folder, cached, known) == (known, True)
    shelf.front.behave()
