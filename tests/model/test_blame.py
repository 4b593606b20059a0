"""A version is at fault only on proof: the table of causes, and what counts as proof in a fetch."""

import errno
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from mlopsd.probe import Advice
from mlopsd_probes.causes import CAUSES, REGISTRY, cause_of
from mlopsd_probes.model.mlopsd_host.load_error import explain
from mlopsd_probes.registry.modules import sentence

with warnings.catch_warnings():  # MLflow warns of itself as it is imported
    warnings.simplefilter("ignore")
    from mlflow.entities import FileInfo
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from mlopsd_probes.registry import download
    from mlopsd_probes.registry.errors import classify
    from mlopsd_probes.registry.fault import Fault
    from mlopsd_probes.registry.provenance import Evidence
    from mlopsd_probes.registry.registries import FetchError
    from mlopsd_probes.registry.version import File, digest_of

FILES = {"MLmodel": b"flavors:", "data/weights": b"0123456789"}
Failing = Callable[[str], Exception | None]


class Shelf(ArtifactRepository):
    """A store with *files*; *fails* says what a fetch of a path raises, *cut* how short an answer is.

    *turns* has other contents, each for one fetch.
    """

    def __init__(self, files: dict[str, bytes] = FILES) -> None:
        super().__init__("fake://shelf")
        self.files = files
        self.fails: Failing = lambda path: None
        self.listing_fails: Exception | None = None
        self.listing_fails_later: Exception | None = None
        self.listed_later: dict[str, int | None] = {}
        self.cut: dict[str, list[int]] = {}
        self.page: bytes | None = None
        self.turns: dict[str, list[bytes]] = {}
        self.asked: list[str] = []

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        if self.listing_fails is not None:
            raise self.listing_fails
        sizes: dict[str, int | None] = {name: len(content) for name, content in self.files.items()}
        if self.asked:
            if self.listing_fails_later is not None:
                raise self.listing_fails_later
            sizes |= self.listed_later
        return [FileInfo(name, is_dir=False, file_size=size) for name, size in sizes.items()]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self.asked.append(remote_file_path)
        if (error := self.fails(remote_file_path)) is not None:
            raise error
        cut = self.cut.get(remote_file_path) or [0]
        content = self.files[remote_file_path] if self.page is None else self.page
        if turns := self.turns.get(remote_file_path):
            content = turns.pop(0)
        Path(local_path).write_bytes(content[: len(content) - cut.pop(0)])

    def log_artifact(self, *_: Any) -> None:
        raise NotImplementedError

    def log_artifacts(self, *_: Any) -> None:
        raise NotImplementedError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf()
    monkeypatch.setattr(download, "_repository", lambda uri: made)
    (tmp_path / "own").mkdir()
    (tmp_path / "part").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    return made


NO_EVIDENCE = Evidence()


def fault(folder: Path, evidence: Evidence = NO_EVIDENCE) -> Fault | None:
    """What comes of a fetch into *folder*, told as the registry's process tells it."""
    part = folder / "part"
    try:
        made = download.Download("fake://shelf", "http://registry", part)
        made.checked_by(evidence)
        made.run(lambda pulse: None)
    except Exception as error:  # noqa: BLE001  # as the registry's process does
        return classify(error, ours=[Path.cwd(), part])
    assert {str(path.relative_to(part)) for path in part.rglob("*") if path.is_file()} == set(FILES)
    return None


def blames_the_version(found: Fault | None) -> bool:
    assert found is not None
    return FetchError(found.kind, str(found)).is_of_version


def s3(code: str, status: int) -> Exception:
    kind = importlib.import_module("botocore.exceptions").ClientError
    output = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return cast("Exception", kind(output, "GetObject"))


def gcs(status: int) -> Exception:
    made = importlib.import_module("google.api_core.exceptions").from_http_status
    return cast("Exception", made(status, "said so"))


def azure(name: str) -> Exception:
    return cast("Exception", getattr(importlib.import_module("azure.core.exceptions"), name)("said so"))


def http(status: int, body: bytes, kind: str = "application/json") -> Exception:
    """Return the error as MLflow's client of HTTP stores raises it."""
    response = requests.Response()
    response.status_code = status
    response.url = "http://store/api/2.0/mlflow-artifacts/artifacts/1/model/data/weights"
    response.headers["Content-Type"] = kind
    response._content = body
    return requests.HTTPError("said so", response=response)


def mlflows(*output: Any) -> Exception:
    return cast("Exception", cast("Any", MlflowException)(*output))


MLFLOWS_404 = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such artifact"}'
NOT_THERE: dict[str, Callable[[], Exception]] = {
    "MLflow's server": lambda: http(404, MLFLOWS_404),
    "a folder": lambda: mlflows("No such artifact: 'x'", RESOURCE_DOES_NOT_EXIST),
    "a folder, older": lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "/srv/x"),
    "S3, by its code": lambda: s3("NoSuchKey", 404),
    "S3, by HEAD": lambda: s3("404", 404),
    "GCS": lambda: gcs(404),
    "Azure": lambda: with_status(azure("ResourceNotFoundError"), 404),
}


def with_status(error: Exception, status: int) -> Exception:
    cast("Any", error).status_code = status
    return error


@pytest.mark.parametrize("store", NOT_THERE)
def test_a_listed_file_that_is_not_there_while_another_is_rejects_the_version(
    shelf: Shelf, tmp_path: Path, store: str
) -> None:
    shelf.fails = lambda path: NOT_THERE[store]() if path == "data/weights" else None
    found = fault(tmp_path)
    assert blames_the_version(found)
    assert str(found).startswith("data/weights is listed and is not there (")
    assert "while MLmodel is; log and register the version again" in str(found)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("store", NOT_THERE)
def test_where_no_file_is_there_the_store_is_at_fault(shelf: Shelf, tmp_path: Path, store: str) -> None:
    """As after a share was unmounted, a bucket emptied, a root renamed: between listing and fetching."""
    shelf.fails = lambda path: NOT_THERE[store]()
    assert not blames_the_version(fault(tmp_path))


@pytest.mark.parametrize("store", NOT_THERE)
def test_a_version_of_one_file_has_no_other_that_could_prove_it(
    shelf: Shelf, tmp_path: Path, store: str
) -> None:
    shelf.files = {"MLmodel": b"flavors:"}
    shelf.fails = lambda path: NOT_THERE[store]()
    assert not blames_the_version(fault(tmp_path))


def test_a_file_that_is_there_when_it_is_asked_for_again_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    left = [s3("NoSuchKey", 404)]
    shelf.fails = lambda path: left.pop() if path == "data/weights" and left else None
    assert fault(tmp_path) is None


@pytest.mark.parametrize(
    "error",
    [
        http(404, b"<html>", "text/html"),
        http(404, b'{"a": 1}'),
        http(404, b"[]"),
        http(403, b"Invalid Host header", "text/plain"),
        http(407, b"", "text/plain"),
        http(500, MLFLOWS_404),
        PermissionError(errno.EACCES, "Permission denied", "/srv/x"),
        OSError(errno.ESTALE, "Stale file handle", "/srv/x"),
        OSError(errno.ENOTCONN, "Transport endpoint is not connected", "/srv/x"),
        OSError(errno.EIO, "Input/output error", "/srv/x"),
        OSError(errno.ENOSPC, "No space left on device"),
        mlflows("mlflow-artifacts: needs a tracking server"),
        ModuleNotFoundError("No module named 'hdfs'", name="hdfs"),
        KeyError("files"),
        TypeError("'NoneType' object is not iterable"),
        RecursionError(),
    ],
    ids=repr,
)
def test_whatever_else_happens_to_a_file_does_not_reject_the_version(
    shelf: Shelf, tmp_path: Path, error: Exception
) -> None:
    shelf.fails = lambda path: error if path == "data/weights" else None
    assert not blames_the_version(fault(tmp_path))
    shelf.fails = lambda path: None
    shelf.listing_fails = error
    assert not blames_the_version(fault(tmp_path))


def test_a_file_of_ours_that_is_gone_is_the_disks_trouble(shelf: Shelf, tmp_path: Path) -> None:
    ours = str(tmp_path / "part" / "data" / "weights")
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", ours)
    shelf.fails = lambda path: gone if path == "data/weights" else None
    found = fault(tmp_path)
    assert found is not None
    assert found.kind == "disk"


def errors_of(module: str) -> Iterator[type[Exception]]:
    """The classes of exceptions of *module*."""
    for _, found in inspect.getmembers(importlib.import_module(module), inspect.isclass):
        if issubclass(found, Exception) and found.__module__.partition(".")[0] == module.partition(".")[0]:
            yield found


def made(kind: type[Exception]) -> Exception:
    """One of *kind*; where its ``__init__`` wants what nobody can make up here, without that."""
    try:
        return kind("said so")
    except Exception:  # noqa: BLE001  # each raises as it likes
        bare: Any = type(
            kind.__name__, (kind,), {"__module__": kind.__module__, "__str__": lambda _: "said so"}
        )
        return cast("Exception", bare.__new__(bare))


STORES = (
    "botocore.exceptions",
    "google.api_core.exceptions",
    "google.auth.exceptions",
    "azure.core.exceptions",
)


@pytest.mark.parametrize("module", STORES)
@pytest.mark.parametrize("everywhere", [True, False])
def test_no_exception_of_a_stores_client_rejects_a_version_by_itself(
    shelf: Shelf, tmp_path: Path, module: str, *, everywhere: bool
) -> None:
    """Only what says "not found", and of one file alone."""
    blamed = set()
    for kind in errors_of(module):
        shelf.fails = lambda path, kind=kind: made(kind) if everywhere or path != "MLmodel" else None  # type: ignore[misc]
        if blames_the_version(fault(tmp_path)):
            blamed.add(kind.__name__)
    assert blamed == ({"NotFound"} if module.startswith("google.api") and not everywhere else set())


@pytest.mark.parametrize(
    "status", [status.value for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST]
)
def test_of_all_codes_of_stores_only_404_can_reject_a_version(
    shelf: Shelf, tmp_path: Path, status: int
) -> None:
    for error in (s3("Said", status), gcs(status), with_status(azure("HttpResponseError"), status)):
        shelf.fails = lambda path, error=error: error if path == "data/weights" else None  # type: ignore[misc]
        assert blames_the_version(fault(tmp_path)) == (status == HTTPStatus.NOT_FOUND)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda: s3("SlowDown", 503), "server_error"),
        (lambda: s3("ExpiredToken", 400), "no_credentials"),
        (lambda: s3("InvalidToken", 403), "no_credentials"),
        (lambda: s3("RequestExpired", 403), "no_credentials"),
        (lambda: s3("Malformed", 400), "other"),
        (lambda: s3("AccessDenied", 403), "forbidden"),
        (lambda: made_of("botocore.exceptions", "NoCredentialsError"), "no_credentials"),
        (lambda: made_of("google.auth.exceptions", "DefaultCredentialsError"), "no_credentials"),
        (lambda: made_of("botocore.exceptions", "CredentialRetrievalError"), "no_credentials"),
        (lambda: made_of("botocore.exceptions", "TokenRetrievalError"), "no_credentials"),
        (lambda: made_of("botocore.exceptions", "SSOTokenLoadError"), "no_credentials"),
        (lambda: made_of("botocore.exceptions", "UnauthorizedSSOTokenError"), "no_credentials"),
        (lambda: made_of("google.auth.exceptions", "RefreshError"), "no_credentials"),
        (
            lambda: importlib.import_module("google.auth.exceptions").RefreshError("said so", retryable=True),
            "other",
        ),
        (lambda: with_status(azure("ClientAuthenticationError"), 401), "no_credentials"),
        (lambda: with_status(azure("HttpResponseError"), 403), "forbidden"),
    ],
)
def test_what_a_store_answers_is_reported_in_its_own_text(
    shelf: Shelf, tmp_path: Path, error: Callable[[], Exception], kind: str
) -> None:
    shelf.fails = lambda path: error()
    found = fault(tmp_path)
    assert found is not None
    assert found.kind == kind
    assert (cause_of("fetch", kind).advice is Advice.FIX_CONFIG) == (kind == "no_credentials")
    assert type(error()).__name__ not in str(found), "an operator does not know the classes of a client"


def made_of(module: str, name: str) -> Exception:
    return made(getattr(importlib.import_module(module), name))


def test_a_size_that_differs_once_is_fetched_again_at_once(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cut = {"data/weights": [3]}
    assert fault(tmp_path) is None
    assert shelf.asked.count("data/weights") == 2


def test_a_size_that_differs_twice_in_a_row_rejects_the_version(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cut = {"data/weights": [3, 3]}
    found = fault(tmp_path)
    assert blames_the_version(found)
    assert str(found) == (
        "data/weights has 7 bytes twice, the registry lists 10, while MLmodel is whole; "
        "log and register the version again"
    )


def test_a_page_that_answers_200_for_every_file_is_no_proof(shelf: Shelf, tmp_path: Path) -> None:
    shelf.page = b"<html>We are back soon</html>"
    found = fault(tmp_path)
    assert not blames_the_version(found)
    assert found is not None
    assert found.kind == "bad_response"
    assert "check which server answers there" in str(found)


def test_a_version_of_one_file_has_no_other_that_proves_its_size_wrong(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files = {"MLmodel": b"flavors:"}
    shelf.cut = {"MLmodel": [3, 3]}
    assert not blames_the_version(fault(tmp_path))


REGISTERED = digest_of(File(path, len(text), sha256(text).hexdigest()) for path, text in FILES.items())
TAGGED = Evidence("mlopsd.sha256", REGISTERED)


def test_files_with_the_digest_of_the_tag_are_fetched_once(shelf: Shelf, tmp_path: Path) -> None:
    assert fault(tmp_path, TAGGED) is None
    assert sorted(shelf.asked) == sorted(FILES)


def test_a_digest_that_differs_once_is_fetched_again_at_once(shelf: Shelf, tmp_path: Path) -> None:
    shelf.turns = {"data/weights": [b"0123456780"]}
    assert fault(tmp_path, TAGGED) is None
    assert (tmp_path / "part/data/weights").read_bytes() == FILES["data/weights"]


def test_a_digest_that_differs_twice_in_a_row_rejects_the_version(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files = {**FILES, "data/weights": b"0123456780"}
    found = fault(tmp_path, TAGGED)
    assert found is not None
    assert (found.kind, blames_the_version(found)) == ("altered", True)
    altered = [File(path, len(text), sha256(text).hexdigest()) for path, text in shelf.files.items()]
    assert str(found) == (
        f"its files have the digest {digest_of(altered)[:12]}…, and its tag mlopsd.sha256 has "
        f"{REGISTERED[:12]}…; register the right files as a new version, or correct the tag if it is wrong"
    )
    assert sorted(shelf.asked) == sorted([*FILES, *FILES])


def test_files_that_come_with_two_wrong_digests_are_no_proof(shelf: Shelf, tmp_path: Path) -> None:
    shelf.turns = {"data/weights": [b"0123456780", b"0123456781"]}
    found = fault(tmp_path, TAGGED)
    assert found is not None
    assert (found.kind, blames_the_version(found)) == ("bad_response", False)
    assert "the store of files is changing" in str(found)


def test_a_page_of_the_right_size_for_every_file_is_no_proof(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files = {"MLmodel": b"a page", "data/weights": b"a page"}
    found = fault(tmp_path, TAGGED)
    assert found is not None
    assert (found.kind, blames_the_version(found)) == ("bad_response", False)


@pytest.mark.parametrize("size", [12, 7, None])
def test_a_file_that_is_listed_with_another_size_meanwhile_is_no_proof(
    shelf: Shelf, tmp_path: Path, size: int | None
) -> None:
    """As on a share that is still being copied, or where the file is replaced."""
    shelf.cut = {"data/weights": [3, 3]}
    shelf.listed_later["data/weights"] = size
    found = fault(tmp_path)
    assert not blames_the_version(found)
    assert found is not None
    assert found.kind == "bad_response"


def test_a_file_that_comes_with_two_wrong_sizes_is_no_proof(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cut = {"data/weights": [3, 2]}
    found = fault(tmp_path)
    assert not blames_the_version(found)
    assert "data/weights has 7 and then 8 bytes, and 10 were listed before" in str(found)


def test_a_store_that_cannot_be_listed_again_proves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cut = {"data/weights": [3, 3]}
    shelf.listing_fails_later = s3("SlowDown", 503)
    found = fault(tmp_path)
    assert not blames_the_version(found)


def test_a_share_that_stops_growing_in_the_middle_of_a_copy_is_no_proof_while_others_are_cut_too(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.cut = {"data/weights": [3] * 9, "MLmodel": [1] * 9}
    assert not blames_the_version(fault(tmp_path))


def test_an_answer_that_breaks_off_the_second_time_is_no_proof(shelf: Shelf, tmp_path: Path) -> None:
    broken = [None, requests.exceptions.ChunkedEncodingError("Connection broken")]
    shelf.cut = {"data/weights": [3]}
    shelf.fails = lambda path: broken.pop(0) if path == "data/weights" else None
    found = fault(tmp_path)
    assert not blames_the_version(found)
    assert "broke off" in str(found)


@pytest.mark.parametrize("files", [{}, {"data/weights": b"0"}])
def test_a_listing_without_files_or_without_an_mlmodel_is_the_stores(
    shelf: Shelf, tmp_path: Path, files: dict[str, bytes]
) -> None:
    shelf.files = files
    assert not blames_the_version(fault(tmp_path))


@pytest.mark.parametrize(
    ("path", "size", "says"),
    [
        ("data/weights", -1, "with a negative size"),
        ("data//weights", 1, "with a name that no model needs"),
        ("./weights", 1, "with a name that no model needs"),
        ("weights/", 1, "with a name that no model needs"),
    ],
)
def test_a_listing_of_what_no_version_has_is_the_stores(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, size: int, says: str
) -> None:
    listed = [FileInfo("MLmodel", is_dir=False, file_size=1), FileInfo(path, is_dir=False, file_size=size)]
    monkeypatch.setattr(shelf, "list_artifacts", lambda _=None: listed)
    found = fault(tmp_path)
    assert not blames_the_version(found)
    assert says in str(found)
    assert not shelf.asked


@pytest.mark.parametrize(
    ("other", "blamed"),
    [("fake://shelf/2", True), ("fake://elsewhere/2", False), ("fake://shelf/empty", False)],
)
def test_a_version_that_its_store_does_not_list_is_at_fault_only_if_the_store_lists_another(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, *, blamed: bool
) -> None:
    shelf.files = {}
    full = Shelf({} if other.endswith("empty") else FILES)
    full.artifact_uri = other
    monkeypatch.setattr(download, "_repository", lambda uri: full if uri == other else shelf)
    made = download.Download("fake://shelf", "http://registry", tmp_path / "part", others=lambda: [other])
    with pytest.raises(Fault) as caught:
        made.run(lambda pulse: None)
    assert blames_the_version(caught.value) == blamed
    assert (f"it lists those of {other}" in str(caught.value)) == blamed


@pytest.mark.parametrize(
    ("error", "output"),
    [
        (ModuleNotFoundError("No module named 'botocore'", name="botocore"), "'botocore'; install it: "),
        (ModuleNotFoundError("No module named 'botocore.x'", name="botocore.x"), "-m pip install 'boto3'"),
        (ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2"), "pip install 'psycopg2-binary'"),
        (
            ImportError("cannot import name 'storage' from 'google.cloud' (unknown location)"),
            "'google-cloud-storage'",
        ),
        (ModuleNotFoundError("No module named 'strange'", name="strange"), "pip install PACKAGE"),
        (ImportError("libpq.so.5: cannot open shared object file"), "libpq.so.5: cannot open"),
    ],
)
def test_a_missing_module_is_named_with_its_interpreter_and_the_command(
    error: ImportError, output: str
) -> None:
    assert output in sentence(error)
    assert sys.executable in sentence(error)
    found = classify(error)
    assert (found.kind, str(found)[:20]) == ("import_error", sentence(error)[:20])
    assert cause_of(REGISTRY, found.kind).advice == Advice.FIX_CONFIG


def while_importing(error: Exception) -> Exception:
    """*error* as a library raises it while it handles an import that failed."""
    try:
        try:
            importlib.import_module("not_installed_anywhere")
        except ImportError:
            raise error  # noqa: B904  # as MLflow does
    except type(error) as raised:
        return raised
    raise AssertionError("it is installed")


def test_a_missing_module_that_mlflow_rewords_is_one_all_the_same() -> None:
    found = classify(while_importing(mlflows("please install something")))
    assert "no module 'not_installed_anywhere'" in str(found)


def test_an_import_that_a_library_only_tried_is_not_the_cause() -> None:
    assert classify(while_importing(requests.ConnectionError("refused"))).kind == "unreachable"


def test_the_table_of_causes_blames_a_version_only_where_there_is_proof() -> None:
    blamed = {key for key, cause in CAUSES.items() if cause.at_fault == "version"}
    assert blamed == {
        *(("fetch", "missing"), ("fetch", "truncated"), ("thresholds", "error"), ("canary", "error")),
        *(
            ("load", "error"),
            ("load", "died"),
            ("provenance", "untagged"),
            ("provenance", "altered"),
            ("provenance", "unsigned"),
        ),
    }
    for (step, kind), cause in CAUSES.items():
        assert cause_of(step, kind) is cause
        assert (cause.at_fault == "version") <= (cause.retry == "rejected")
        assert (cause.at_fault == "registry") <= (cause.retry == "soon" and step == REGISTRY)
        assert (cause.advice == Advice.FIX_REGISTRY) <= (cause.at_fault != "host")


@pytest.mark.parametrize("step", ["registry", "fetch"])
def test_what_nobody_knows_is_the_registrys(step: str) -> None:
    assert cause_of(step, "nonesuch").at_fault == "registry"


@pytest.mark.parametrize("step", ["load", "canary", "thresholds"])
def test_what_a_model_says_of_itself_and_nobody_knows_is_the_versions(step: str) -> None:
    assert cause_of(step, "nonesuch").at_fault == "version"


def of_class(name: str, words: str = "said so", *bases: type[Exception]) -> Exception:
    """An exception of a library that is not installed here."""
    return cast("Exception", type(name, bases or (RuntimeError,), {})(words))


def wrapped(error: Exception) -> Exception:
    """*error* as a library raises it anew."""
    try:
        try:
            raise error
        except type(error):
            raise mlflows("cannot load it")  # noqa: B904  # as MLflow does
    except MlflowException as raised:
        return raised


def system(number: int) -> Exception:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("as_met", [lambda error: error, wrapped], ids=["bare", "wrapped"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((system(number), "scarce") for number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)),
        *((system(number), "scarce") for number in (errno.ENOMEM, errno.EAGAIN)),
        *((system(number), "io_error") for number in (errno.EIO, errno.ESTALE)),
        (RuntimeError("can't start new thread"), "scarce"),
        (RuntimeError("std::system_error: Resource temporarily unavailable"), "scarce"),
        (RuntimeError("[10:00:00] cannot write: No space left on device"), "scarce"),
        (ImportError("libtorch.so: cannot open shared object file: Too many open files"), "scarce"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (of_class("OutOfMemoryError"), "out_of_memory"),
        (of_class("XGBoostError", "cudaErrorMemoryAllocation: out of memory"), "out_of_memory"),
        (RuntimeError("No CUDA GPUs are available"), "gpu"),
        (RuntimeError("CUDA error: unspecified launch failure"), "gpu"),
        (RuntimeError("Found no NVIDIA driver on your system"), "gpu"),
        (RuntimeError("Attempting to deserialize, but torch.cuda.is_available() is False"), "gpu"),
        (of_class("CUDARuntimeError", "cudaErrorECCUncorrectable"), "gpu"),
        (of_class("AcceleratorError"), "gpu"),
        (of_class("CudaError"), "gpu"),
        (of_class("NVMLError_GpuIsLost", "GPU is lost", of_class("NVMLError").__class__), "gpu"),
        (of_class("Fail", "CUDA failure 100: no CUDA-capable device is detected"), "gpu"),
        (ValueError("no weights"), "error"),
        (system(errno.ENOENT), "error"),
        (system(errno.EACCES), "error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (of_class("AcceleratorError", "CUDA error: device-side assert triggered"), "error"),
        (ConnectionError("no network"), "error"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "import_error"),
    ],
    ids=repr,
)
def test_what_this_host_lacks_is_distinguished_from_what_a_model_does(
    tmp_path: Path, error: Exception, kind: str, as_met: Callable[[Exception], Exception]
) -> None:
    found = explain(as_met(error), tmp_path).kind
    assert found == ("error" if as_met is wrapped and kind == "import_error" else kind)
    expected = {"error": "version"}.get(kind, "host")
    assert cause_of("load", kind).at_fault == cause_of("canary", kind).at_fault == expected
