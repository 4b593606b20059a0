"""S3's errors as an operator reads them: what is wrong, S3's own code and words, and the fix."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from mlopsd.log_limit import LogLimiter
from mlopsd_probes.causes import cause_of
from mlopsd_probes.registry.client import ClientProcess, Unanswered
from mlopsd_probes.registry.options import RegistryOptions
from tests.model import meddler as meddling
from tests.model.meddler import Act, Meddler
from tests.model.test_blame_live import hang_up, until_up
from tests.registry.moto_store import BUCKET, bucket, port_of, registry, s3, use
from tests.running import free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PATIENCE = 60.0
XML = "application/xml"
LIST, GET = "list-type", "/1/weights"
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
RENEW = f"renew AWS_SESSION_TOKEN with {KEYS}, or use a role that renews them"
SLOWER = "lower fetch_parallel, or raise the limit of the store"
REGION = "set AWS_DEFAULT_REGION to the region of the bucket"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an S3 with a version."""
    with bucket(tmp_path_factory.mktemp("s3")) as uri:
        until_up(uri)
        filled = s3(port_of(uri))
        filled.create_bucket(Bucket=BUCKET)
        filled.put_object(Bucket=BUCKET, Key="1/MLmodel", Body=b"flavors: {}")
        filled.put_object(Bucket=BUCKET, Key="1/weights", Body=b"0123456789")
        yield uri


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a registry that names the version, and one in a bucket that does not exist."""
    folder = tmp_path_factory.mktemp("registry")
    return registry(folder, f"s3://{BUCKET}/1", "s3://nonesuch/1")


@asynccontextmanager
async def client_of(named: str, folder: Path) -> AsyncIterator[ClientProcess]:
    options, log = RegistryOptions(uri=named), logging.getLogger("mlopsd.test")
    client = ClientProcess(options, folder / "own", 30, name="model", log=log, printed=LogLimiter())
    yield client
    await client.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(
    store: str, named: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Meddler, ClientProcess]]:
    """A front of the store, and a process that fetches over it."""
    with Meddler(store) as front, pytest.MonkeyPatch.context() as patch:
        use(patch, front.uri)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        async with client_of(named, tmp_path_factory.mktemp("client")) as client:
            yield front, client


async def fault(client: ClientProcess, folder: Path, version: str = "1") -> tuple[str, str]:
    """Return the kind and the sentence with which a fetch of *version* fails."""
    (folder / "files").mkdir(exist_ok=True)
    question = {"do": "fetch", "model": "wine", "version": version, "folder": str(folder / "files")}
    with pytest.raises(Unanswered) as caught:
        await client.ask(question, PATIENCE)
    return caught.value.kind, caught.value.reason


def answer(status: int, code: str, message: str, more: str = "") -> Act:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return meddling.status(status, XML, body.encode())


DENIED = answer(403, "AccessDenied", "Access Denied")


@pytest.mark.parametrize(
    ("part", "act", "kind", "sentence"),
    [
        (
            LIST,
            DENIED,
            "forbidden",
            (
                "the credentials of this host lack a right (403 AccessDenied); "
                "allow s3:ListBucket on the bucket, or check the credentials"
            ),
        ),
        (
            GET,
            DENIED,
            "forbidden",
            (
                "the credentials of this host lack a right (403 AccessDenied); "
                "allow s3:GetObject on the version's files, or check the credentials"
            ),
        ),
        (
            GET,
            answer(403, "AccessDenied", "Request has expired"),
            "no_credentials",
            'the credentials of this host have expired (403 AccessDenied: "Request has expired"); ' + RENEW,
        ),
        (
            LIST,
            answer(404, "NoSuchBucket", "The specified bucket does not exist"),
            "not_found",
            (
                'there is no such bucket (404 NoSuchBucket: "The specified bucket does not exist"); '
                "check the version's source and the endpoint"
            ),
        ),
        (
            "/1/",
            answer(404, "NoSuchKey", "The specified key does not exist."),
            "not_found",
            (
                'there is no such object (404 NoSuchKey: "The specified key does not exist."); '
                "check the store of files"
            ),
        ),
        (
            LIST,
            answer(400, "ExpiredToken", "It has expired."),
            "no_credentials",
            'the credentials of this host have expired (400 ExpiredToken: "It has expired."); ' + RENEW,
        ),
        (
            LIST,
            answer(400, "InvalidToken", "Malformed"),
            "no_credentials",
            f'it does not accept the session token (400 InvalidToken: "Malformed"); {RENEW}',
        ),
        (
            LIST,
            answer(403, "InvalidAccessKeyId", "No record"),
            "no_credentials",
            f'it does not know the access key (403 InvalidAccessKeyId: "No record"); check {KEYS}',
        ),
        (
            GET,
            answer(403, "SignatureDoesNotMatch", ""),
            "no_credentials",
            (
                "the signature is wrong (403 SignatureDoesNotMatch); "
                "check AWS_SECRET_ACCESS_KEY, and that no proxy changes the request"
            ),
        ),
        (
            LIST,
            answer(403, "RequestTimeTooSkewed", "The difference is too large."),
            "no_credentials",
            (
                "the clocks of this host and the store differ too much "
                '(403 RequestTimeTooSkewed: "The difference is too large."); '
                "set the clock of this host, or that of the store if this one is right"
            ),
        ),
        (
            GET,
            answer(503, "SlowDown", "Slow down"),
            "server_error",
            f"it asks to be asked less often (503 SlowDown); {SLOWER}",
        ),
        (
            GET,
            answer(503, "ServiceUnavailable", "Please wait"),
            "server_error",
            'it is not available now (503 ServiceUnavailable: "Please wait"); check the store of files',
        ),
        (
            GET,
            answer(500, "InternalError", "Please try again."),
            "server_error",
            'it has an error of its own (500 InternalError: "Please try again."); check the store of files',
        ),
        (
            LIST,
            answer(301, "PermanentRedirect", "Elsewhere", "<Region>eu-west-1</Region>"),
            "no_credentials",
            f'the bucket is in another region, eu-west-1 (301 PermanentRedirect: "Elsewhere"); {REGION}',
        ),
        (
            LIST,
            answer(400, "AuthorizationHeaderMalformed", "x", "<Region>eu-west-1</Region>"),
            "no_credentials",
            f'the region is wrong, eu-west-1 (400 AuthorizationHeaderMalformed: "x"); {REGION}',
        ),
        (
            GET,
            answer(403, "AllAccessDisabled", "Blocked"),
            "forbidden",
            (
                'it answers with an error (403 AllAccessDisabled: "Blocked"); '
                "check what the credentials of this host may read there"
            ),
        ),
        (
            GET,
            answer(409, "Strange", "Never seen"),
            "other",
            'it answers with an error (409 Strange: "Never seen"); check the store of files',
        ),
        (
            GET,
            meddling.status(502),
            "server_error",
            'it answers with an error (502: "Bad Gateway"); check the store of files',
        ),
    ],
)
async def test_an_answer_of_s3_is_said_plainly(
    front: tuple[Meddler, ClientProcess], tmp_path: Path, part: str, act: Act, kind: str, sentence: str
) -> None:
    meddler, client = front
    meddler.meddle(part, act)
    found = await fault(client, tmp_path)
    meddler.behave()
    assert found == (kind, sentence)
    assert cause_of("fetch", kind).at_fault != "version"


async def test_a_missing_bucket_is_no_proof_against_a_version(
    front: tuple[Meddler, ClientProcess], tmp_path: Path
) -> None:
    """By the real S3."""
    kind, sentence = await fault(front[1], tmp_path, "2")
    assert (kind, sentence.partition(" (")[0]) == ("not_found", "there is no such bucket")


async def test_a_missing_key_beside_another_is_the_versions_fault(
    front: tuple[Meddler, ClientProcess], tmp_path: Path
) -> None:
    meddler, client = front
    meddler.meddle(GET, meddling.instead("weights", "nonesuch"))
    kind, sentence = await fault(client, tmp_path)
    meddler.behave()
    assert kind == "missing"
    assert sentence.startswith("weights is listed and is not there (there is no such object (404 NoSuchKey")


async def test_a_broken_connection_names_the_address(
    front: tuple[Meddler, ClientProcess], tmp_path: Path
) -> None:
    meddler, client = front
    meddler.meddle(LIST, hang_up)
    kind, sentence = await fault(client, tmp_path)
    meddler.behave()
    assert (kind, sentence.partition(": ")[0]) == ("unreachable", meddler.uri)


async def test_an_endpoint_that_cannot_be_reached_is_named_with_what_is_wrong(
    store: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    for endpoint, kind, what in (
        (
            f"http://127.0.0.1:{port}",
            "unreachable",
            "connection refused; check that it runs and can be reach",
        ),
        (store.replace("http", "https"), "tls", "it does not answer with TLS (TLS: "),
        ("http://nonesuch.invalid", "unresolved", "its name cannot be resolved ("),
    ):
        use(monkeypatch, endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        async with client_of(named, tmp_path / kind) as client:
            found, sentence = await fault(client, tmp_path)
        assert (found, sentence.startswith(f"{endpoint}: {what}")) == (kind, True), sentence
        assert "ca_file" not in sentence, "a key of the registry"


async def test_a_host_without_credentials_is_told_what_to_set(
    store: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, store)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with client_of(named, tmp_path / "without") as client:
        assert await fault(client, tmp_path) == (
            "no_credentials",
            (
                'this host has no credentials for S3 ("Unable to locate credentials"); '
                f"set {KEYS}, AWS_PROFILE, or a role of this host"
            ),
        )
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    async with client_of(named, tmp_path / "profile") as client:
        kind, sentence = await fault(client, tmp_path)
    assert (kind, sentence.partition(" (")[0]) == ("no_credentials", "this host has no such profile")
