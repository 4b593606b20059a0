"""What a store must not hand out: links, pipes and names. None of it is proof against a version."""

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.causes import cause_of
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from tests.conftest import OLDEST
from tests.model import meddler as meddling
from tests.model.asking import rest
from tests.model.meddler import Meddler
from tests.model.registrar import Registrar
from tests.model.registry_server import empty
from tests.model.test_blame_live import until_up
from tests.registry.moto_store import registry

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PATIENCE = 60.0
SECRET = b"a secret of this host"
Put = Callable[[Path, Path], object]


def link_to(target: str) -> Put:
    return lambda at, outside: at.symlink_to(target.format(outside=outside))


def pipe(at: Path, outside: Path) -> None:
    os.mkfifo(at)


def socket_of(at: Path, outside: Path) -> None:
    """A socket, made by a short name: its path may be longer than the kernel takes."""
    with socket.socket(socket.AF_UNIX) as one:
        descriptor = os.open(at.parent, os.O_PATH)
        one.bind(f"/proc/self/fd/{descriptor}/{at.name}")
        os.close(descriptor)


def device(at: Path, outside: Path) -> None:
    os.mknod(at, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends


def named(name: bytes) -> Put:
    return lambda at, outside: Path(os.fsdecode(os.fsencode(at.parent) + b"/" + name)).write_bytes(b"0")


OUT, NOWHERE = "is a link that leads out of the version's folder", "is a link that leads nowhere"
NAMES = (b"two\nlines", b"back\\slash", b"100%25", b"a%20b", b"what?", b"a#b", b"not \xff UTF-8")
IRREGULAR, NAME = "is not a regular file", "with a name that no model needs"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of this host that no model may see."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    return tmp_path / "outside"


def version(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}", "utf-8")
    (folder / "weights").write_bytes(b"0123456789")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "model"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClientProcess]:
    """A process that fetches the version in *source*."""
    folder = tmp_path_factory.mktemp("registry")
    client = made(registry(folder, str(source)), folder)
    yield client
    await client.end()


def made(uri: str, folder: Path) -> ClientProcess:
    log = logging.getLogger("mlopsd.test")
    return ClientProcess(
        RegistryOptions(uri=uri), folder / "own", 30, name="model", log=log, printed=LogLimiter()
    )


async def fault(
    client: ClientProcess, folder: Path, model: str = "wine", limit: float = PATIENCE
) -> Unanswered:
    """Return how a fetch fails; nothing of a secret is in *folder* then."""
    question = {"do": "fetch", "model": model, "version": "1", "folder": str(empty_folder(folder))}
    with pytest.raises(Unanswered) as caught:
        await client.ask(question, limit)
    fetched = (path for path in rest(folder / "part") if path.is_file())
    assert SECRET not in b"".join(path.read_bytes() for path in fetched)
    return caught.value


def empty_folder(folder: Path) -> Path:
    (folder / "part" / "files").mkdir(parents=True)
    return folder / "part" / "files"


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (link_to("{outside}/secret"), OUT),
        (link_to("{outside}"), OUT),
        (link_to("../../../../../../../../../../etc/passwd"), OUT),
        (link_to("/proc/self/environ"), OUT),
        (link_to("nonesuch"), NOWHERE),
        (link_to("strange"), NOWHERE),
        (link_to("{outside}/nonesuch"), OUT),
        (pipe, IRREGULAR),
        (socket_of, IRREGULAR),
        (device, IRREGULAR),
        (named(b"two\nlines"), NAME),
        (named(b"back\\slash"), NAME),
        (named(b"not \xff UTF-8"), NAME),
    ],
)
async def test_what_is_no_file_of_the_version_is_the_stores_fault(
    local: ClientProcess, source: Path, tmp_path: Path, outside: Path, put: Put, says: str
) -> None:
    with placed(source):
        put(source / "strange", outside)
        found = await fault(local, tmp_path)
    assert (found.kind, says in found.reason) == ("bad_response", True), found
    assert cause_of("fetch", found.kind).at_fault == "registry"


def placed(source: Path) -> ExitStack:
    """The files of a version in *source*, until the end."""
    version(source)
    stack = ExitStack()
    stack.callback(remove, source)
    return stack


def remove(folder: Path) -> None:
    for path in sorted(rest(folder), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    folder.rmdir()


async def test_links_within_the_version_are_followed_and_circles_of_folders_end(
    local: ClientProcess, source: Path, tmp_path: Path
) -> None:
    with placed(source):
        (source / "data").mkdir()
        (source / "data" / "relative").symlink_to("../weights")
        (source / "data" / "absolute").symlink_to(source / "weights")
        (source / "data" / "circle").symlink_to("..")
        folder = empty_folder(tmp_path)
        question = {"do": "fetch", "model": "wine", "version": "1", "folder": str(folder)}
        files = (await local.ask(question, PATIENCE))["files"]
    assert [path for path, _, _ in files] == ["MLmodel", "data/absolute", "data/relative", "weights"]
    assert not any(path.is_symlink() for path in rest(folder)), "the cache has files of its own"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, Path]]]:
    """The URI of the newest and the oldest MLflow's server, and the folder of its files."""
    pythons = {"newest": Path(sys.executable), "oldest": OLDEST / "bin" / "python"}
    with ExitStack() as stack:
        found = {}
        for name, python in pythons.items():
            if python.exists():
                folder = tmp_path_factory.mktemp(name)
                found[name] = stack.enter_context(empty(folder, python)), folder / "artifacts"
        for uri, _ in found.values():
            until_up(uri)
        yield found


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["newest", pytest.param("oldest", marks=pytest.mark.needs("oldest"))],
)
async def served(
    request: pytest.FixtureRequest,
    servers: dict[str, tuple[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Meddler, Path, ClientProcess]]:
    """A front of a server, the folder of its version, and a process that fetches that."""
    uri, artifacts = servers[request.param]
    folder = tmp_path_factory.mktemp("client")
    Registrar(uri, "wine").register(version(folder / "version"))
    with Meddler(uri) as front:
        client = made(front.uri, folder)
        yield front, next(artifacts.rglob("MLmodel")).parent, client
        await client.end()


@pytest.mark.parametrize(
    "put",
    [link_to("nonesuch"), link_to("strange"), link_to("."), *map(named, NAMES)],
    ids=["nowhere", "itself", "circle", *map(repr, NAMES)],
)
async def test_what_a_server_finds_in_its_folder_does_not_reject_the_version(
    served: tuple[Meddler, Path, ClientProcess], tmp_path: Path, put: Put
) -> None:
    _, folder, client = served
    put(folder / "strange", tmp_path)
    try:
        found = await fault(client, tmp_path)
    finally:
        for path in rest(folder):
            if path.name not in ("MLmodel", "weights") and path.parent == folder:
                path.unlink()
    assert cause_of("fetch", found.kind).at_fault == "registry", found


async def test_a_server_that_waits_for_a_pipe_does_not_reject_the_version(
    served: tuple[Meddler, Path, ClientProcess], tmp_path: Path
) -> None:
    _, folder, client = served
    os.mkfifo(folder / "strange")
    try:
        found = await fault(client, tmp_path, limit=5)
        with suppress(OSError):  # let the server go
            os.close(os.open(folder / "strange", os.O_WRONLY | os.O_NONBLOCK))
    finally:
        (folder / "strange").unlink()
    assert cause_of("fetch", found.kind).at_fault == "registry", found


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/passwd", "data/../../outside", "two\nlines", "a\\..\\b", "%2e%2e/outside", ""],
)
async def test_a_path_that_a_hostile_server_lists_is_the_servers_fault(
    served: tuple[Meddler, Path, ClientProcess], tmp_path: Path, path: str
) -> None:
    front, _, client = served
    front.meddle("artifacts?path=", meddling.listing(("MLmodel", 11), (path, 3)))
    found = await fault(client, tmp_path)
    front.behave()
    assert cause_of("fetch", found.kind).at_fault == "registry", found
    outside = {one for one in rest(tmp_path) if one.is_file()}
    assert {one.name for one in outside} <= {"journal", "MLmodel"}
