"""The digest of a version: the same for each host, store and copy, and for coreutils."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from mlopsd_probes.registry.registries import FetchError
from mlopsd_probes.registry.version import File, digest_of
from tests.model.asking import asking
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop, environment

PAGE = Path(__file__).parents[2] / "docs/reference/probes/model.md"
FILES = {
    "MLmodel": b"flavors:",
    "data/weights": b"\0" * 100_000,
    "data-1": b"before the folder, as - is before /",
    "data/ä ö": b"beyond ASCII",
    "data/a  two  spaces and 'quotes' $HOME": b"",
    "Z": b"capitals come first",
    "code/link": b"flavors:",
}
COPY = """
import sys
from mlflow import MlflowClient

uri, source, target = sys.argv[1:]
client = MlflowClient(uri, uri)
if source.startswith("models:/"):
    print(client.copy_model_version(source, target).version)
else:
    client.create_registered_model(target)
    print(client.create_model_version(target, source).version)
"""


def listed(files: Mapping[str, bytes]) -> list[File]:
    return [File(path, len(content), sha256(content).hexdigest()) for path, content in files.items()]


def by_coreutils(folder: Path) -> str:
    """Return what the documented command prints for *folder*."""
    text = PAGE.read_text("utf-8")
    (command,) = re.findall(r"^```\n(\(\n  cd FOLDER.*?)^```$", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["sh", "-c", command.replace("FOLDER", f"'{folder}'")], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_documented_command_has_the_same_digest(tmp_path: Path) -> None:
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "code/link").unlink()
    (tmp_path / "code/link").symlink_to("../MLmodel")
    (tmp_path / "empty").mkdir()
    assert by_coreutils(tmp_path) == digest_of(listed(FILES))


def test_the_order_of_a_download_does_not_count() -> None:
    assert digest_of(reversed(listed(FILES))) == digest_of(listed(FILES))


@pytest.mark.parametrize(
    "changed",
    [
        {**FILES, "MLmodel": b"flavorz:"},
        {**FILES, "more": b""},
        {path: content for path, content in FILES.items() if path != "Z"},
        {("z" if path == "Z" else path): content for path, content in FILES.items()},
        {**FILES, "MLmodel": FILES["data-1"], "data-1": FILES["MLmodel"]},
    ],
)
def test_any_change_of_the_files_is_another_digest(changed: dict[str, bytes]) -> None:
    assert digest_of(listed(changed)) != digest_of(listed(FILES))


async def fetched(folder: Path, uri: str, model: str, candidate: str) -> str:
    """Return the digest of a version that a host of its own fetched into *folder*; check it by coreutils."""
    files = folder / "files"
    os.makedirs(files)  # noqa: PTH103  # nothing else runs on this loop
    async with asking(folder / "scratch", uri, model=model, candidates=[candidate]) as (registries, _):
        version = (await registries.resolve()).found
        assert version is not None
        found = digest_of(await registries.fetch(version, files, lambda size, total: None))
    assert by_coreutils(files) == found
    return found


def copied(uri: str, source: str, name: str) -> str:
    """Return the version of *name* that has the files of *source*, a version or a folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COPY, uri, source, name],
        env=environment(Path(sys.executable)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.timeout(600)
async def test_the_digest_is_the_same_for_two_hosts_and_for_a_copy(
    newest: Shop, embedded: Shop, tmp_path: Path
) -> None:
    first = await fetched(tmp_path / "one", newest.uri, "iris", "1")
    assert await fetched(tmp_path / "two", newest.uri, "iris", "1") == first
    assert await fetched(tmp_path / "other", newest.uri, "iris", "2") != first
    number = copied(newest.uri, "models:/iris/1", "a copy")
    assert await fetched(tmp_path / "three", newest.uri, "a copy", number) == first
    number = copied(embedded.uri, str(tmp_path / "one/files"), "in a folder")
    assert await fetched(tmp_path / "four", embedded.uri, "in a folder", number) == first


@pytest.mark.timeout(600)
async def test_a_file_that_was_changed_in_the_store_after_the_tag_was_set_is_not_had(
    newest: Shop, tmp_path: Path
) -> None:
    folder = tmp_path / "logged"
    for path, content in FILES.items():
        os.makedirs((folder / path).parent, exist_ok=True)  # noqa: PTH103  # nothing else runs on this loop
        (folder / path).write_bytes(content)
    model = Registrar(newest.uri, "changed later")
    number = model.register(folder)
    with pytest.raises(FetchError) as untagged:
        await tagged(newest.uri, model, tmp_path / "untagged", "f" * 64)
    assert untagged.value.kind == "altered"
    assert f"its tag mlopsd.sha256 has {'f' * 12}…" in str(untagged.value)
    assert await tagged(newest.uri, model, tmp_path / "right", by_coreutils(folder)) == number
    (stored,) = [path for path in newest.folder.rglob("data-1") if path.is_file()]
    stored.write_bytes(b"B" + FILES["data-1"][1:])
    with pytest.raises(FetchError) as changed:
        await tagged(newest.uri, model, tmp_path / "changed", by_coreutils(folder))
    assert changed.value.is_of_version


async def tagged(uri: str, model: Registrar, folder: Path, digest: str) -> str:
    """Return the number of version 1 of *model*, which was fetched with *digest* as its tag."""
    model.tag("1", "mlopsd.sha256", digest)
    os.makedirs(folder)  # noqa: PTH103  # nothing else runs on this loop
    options = {"model": model.name, "candidates": ["1"], "digest_tag": "mlopsd.sha256"}
    async with asking(folder / "scratch", uri, **options) as (registries, _):
        version = (await registries.resolve()).found
        assert version is not None
        await registries.fetch(version, folder, lambda size, total: None)
        return version.number
