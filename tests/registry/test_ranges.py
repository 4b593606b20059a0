"""A large file from S3 comes in ranges: each goes on where it was, and all have the same content."""

import asyncio
import hashlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.journal import BOOT_ID
from tests.model.asking import clients
from tests.model.test_blame_live import until_up
from tests.registry.broken_line import BrokenLine
from tests.registry.moto_store import BUCKET, bucket, version_in_s3

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

MIB = 1024 * 1024
RANGE = 16 * MIB
SIZE = 5 * RANGE + 12_345
AT_A_TIME = 4
SLACK = 2 * MIB  # what comes beside the file, and what is on its way as a line breaks
PATIENCE = 120.0
KEY = "1/weights"


@dataclass
class Place:
    """A version in a bucket, a line to it, and a process that fetches it."""

    line: BrokenLine
    bucket: Any
    client: ClientProcess

    async def fetch(self, folder: Path, at_a_time: int = AT_A_TIME) -> str:
        """Fetch the version; return the SHA-256 of its large file, which is what is on disk."""
        question = {"do": "fetch", "model": "wine", "version": "1", "folder": str(folder)}
        files = (await self.client.ask({**question, "parallel": at_a_time}, PATIENCE))["files"]
        (found,) = (sha256 for path, _, sha256 in files if path == "weights")
        assert found == digest((folder / "weights").read_bytes())
        return str(found)

    async def fail(self, folder: Path) -> None:
        """Fetch over lines that break one after the other and are dead then."""
        self.line.break_after(10 * MIB, breaks=AT_A_TIME, then="dead")
        with pytest.raises(Unanswered):
            await self.fetch(folder)
        assert self.line.carried > AT_A_TIME * 8 * MIB
        self.line.behave()

    def put(self, body: bytes) -> None:
        self.bucket.put_object(Bucket=BUCKET, Key=KEY, Body=body)


def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


def digest(of: bytes) -> str:
    return hashlib.sha256(of).hexdigest()


FIRST, SECOND = digest(content(1)), digest(content(2))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bucket(tmp_path_factory.mktemp("s3")) as found:
        until_up(found)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("registry")
    with BrokenLine(uri) as line:
        async with version_in_s3(folder, uri, line.uri) as (filled, client):
            found = Place(line, filled, client)
            found.put(content(1))
            yield found


@pytest.fixture
def folder(tmp_path: Path, place: Place) -> Path:
    made = tmp_path / "part" / "files"
    made.mkdir(parents=True)
    place.line.behave()
    return made


def starts(folder: Path) -> set[int]:
    """Return where the ranges of the journal begin."""
    lines = map(json.loads, folder.with_name("journal").read_text("ascii").splitlines())
    return {line[1] for line in lines if len(line) == 3}


@pytest.mark.parametrize("at_a_time", [1, AT_A_TIME])
async def test_a_large_file_comes_in_ranges(place: Place, folder: Path, at_a_time: int) -> None:
    assert await place.fetch(folder, at_a_time) == FIRST
    assert starts(folder) == set(range(0, SIZE, RANGE))
    assert place.line.carried < SIZE + SLACK


async def test_lines_that_break_again_and_again_carry_no_byte_twice(place: Place, folder: Path) -> None:
    place.line.break_after(5 * MIB, breaks=6)
    assert await place.fetch(folder) == FIRST
    assert place.line.breaks == 0
    assert place.line.carried < SIZE + SLACK


async def test_the_next_attempt_goes_on_in_each_range(place: Place, folder: Path) -> None:
    await place.fail(folder)
    assert await place.fetch(folder) == FIRST
    assert place.line.carried < SIZE - AT_A_TIME * 8 * MIB + SLACK


async def test_a_killed_process_costs_at_most_what_was_not_noted(place: Place, folder: Path) -> None:
    place.line.break_after(12 * MIB, breaks=AT_A_TIME, then="held")
    before = set(clients())
    fetching = asyncio.ensure_future(place.fetch(folder))
    while place.line.breaks:
        await asyncio.sleep(0.01)
    (process,) = set(clients()) - before or before
    await noted(folder, AT_A_TIME)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(Unanswered):
        await fetching
    place.line.behave()
    assert await place.fetch(folder) == FIRST
    assert place.line.carried < SIZE - AT_A_TIME * 8 * MIB + SLACK


async def noted(folder: Path, ranges: int) -> None:
    """Wait until the journal has some bytes of *ranges* ranges."""
    while len(reached(folder)) < ranges:
        await asyncio.sleep(0.01)


def reached(folder: Path) -> set[int]:
    lines = folder.with_name("journal").read_bytes().splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return {line[1] for line in whole if len(line) == 3 and line[2] > line[1]}


async def test_content_that_changes_between_two_attempts_starts_over(place: Place, folder: Path) -> None:
    await place.fail(folder)
    place.put(content(2))
    try:
        assert await place.fetch(folder) == SECOND
        assert place.line.carried > SIZE
    finally:
        place.put(content(1))


async def test_content_that_changes_under_way_starts_over(place: Place, folder: Path) -> None:
    place.line.break_after(5 * MIB, breaks=1, then="held")
    fetching = asyncio.ensure_future(place.fetch(folder))
    while place.line.breaks:
        await asyncio.sleep(0.01)
    place.put(content(2))
    place.line.behave()
    try:
        assert await fetching == SECOND
    finally:
        place.put(content(1))


@pytest.mark.parametrize("is_whole", [True, False])
async def test_after_another_boot_only_bytes_with_a_noted_digest_count(
    place: Place, folder: Path, *, is_whole: bool
) -> None:
    """The first range is complete; then its bytes on disk are as they were, or not."""
    place.line.break_after(10 * MIB, breaks=2, then="dead")  # in the first range, and in the second
    with pytest.raises(Unanswered):
        await place.fetch(folder, 1)
    place.line.behave()
    after_another_boot(folder.with_name("journal"))
    if not is_whole:
        overwrite(folder / "weights")
    assert await place.fetch(folder) == FIRST
    least = SIZE - RANGE if is_whole else SIZE
    assert least <= place.line.carried < least + SLACK


def after_another_boot(journal: Path) -> None:
    boot = BOOT_ID.read_text("ascii").strip()
    journal.write_text(journal.read_text("ascii").replace(boot, "another boot"), "ascii")


def overwrite(path: Path) -> None:
    """Lose a block, as a power cut does."""
    with path.open("r+b") as stream:
        stream.seek(MIB)
        stream.write(bytes(4096))
