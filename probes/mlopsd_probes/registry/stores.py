"""The stores of a version's files: each file can be read from any byte on, if its store supports that.

An offset counts only together with the validator that the store gave for the first bytes. If the content has
changed since, the store starts at its beginning.
"""

import base64
import errno
import fcntl
import os
import posixpath
import re
import stat
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
import urllib3
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.request_utils import augmented_raise_for_status
from mlflow.utils.rest_utils import http_request

from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.reuse import ContentDigest

CHUNK = 1024 * 1024
ARTIFACTS = "/mlflow-artifacts/artifacts"  # of MLflow's server
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
SECOND = timedelta(seconds=1)
OWN_FILE = "log and register the version with the file itself"
FICLONE = 0x40049409  # linux/fs.h; of btrfs, XFS and others that share blocks
MD5 = re.compile(r'"([0-9a-f]{32}(-\d+)?)"')  # S3's ETag of a file, or of one that was uploaded in parts
CHANGED = ("PreconditionFailed", "InvalidRange", "412", "416")  # codes of S3


class ContentChanged(Exception):
    """The content of a file has changed while it came."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a store, open for reading.

    Attributes:
        chunks: the content from *offset* on.
        offset: the offset that was asked for, or 0 if the store starts at the beginning.
        validator: a text that changes with the content; None if the store has none.
        size: bytes of the whole file; None if the store does not say.
    """

    chunks: Iterator[bytes]
    offset: int = 0
    validator: str | None = None
    size: int | None = None


class HttpStore:
    """The files behind MLflow's server, by HTTP."""

    def __init__(self, repository: HttpArtifactRepository) -> None:
        self._repository = repository

    def open(self, path: str, offset: int = 0, validator: str | None = None) -> OpenFile:
        """Open the file *path*, at *offset* if its content still has *validator*."""
        headers = {"Accept-Encoding": "identity"}
        if offset and validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        endpoint = posixpath.join("/", path)
        response: requests.Response = http_request(  # type: ignore[no-untyped-call]
            self._repository._host_creds,  # noqa: SLF001  # MLflow has no public ones
            endpoint,
            "GET",
            stream=True,
            extra_headers=headers,
        )
        if "Range" in headers and not _continues(response, offset, validator):
            if response.status_code in (
                HTTPStatus.PARTIAL_CONTENT,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            ):
                response.close()
                return self.open(path)
            offset = 0
        augmented_raise_for_status(response)  # type: ignore[no-untyped-call]
        size = _size(response)
        at = offset if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0
        return OpenFile(_chunks(response.raw), at, _validator(response), size)

    def has_listed(self, path: str) -> bool:
        """Return whether the server lists the file *path* by that very name.

        MLflow's client changes some: it decodes ``%20`` and drops a newline, and the server has no such file.
        """
        server, _, root = self._repository.artifact_uri.partition(ARTIFACTS)
        folder, name = posixpath.split(path)
        response = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(server),  # type: ignore[no-untyped-call]
            ARTIFACTS,
            "GET",
            params={"path": posixpath.join(root.lstrip("/"), folder)},
        )
        augmented_raise_for_status(response)  # type: ignore[no-untyped-call]
        return any(file["path"] == name for file in response.json().get("files", []))


class S3Store:
    """The files in a bucket of S3 or of a server that answers as S3."""

    def __init__(self, repository: S3ArtifactRepository) -> None:
        self._repository = repository

    def open(self, path: str, offset: int = 0, validator: str | None = None) -> OpenFile:
        """Open the file *path*, at *offset* if its content still has *validator*."""
        continues = offset > 0 and validator is not None
        wanted = {"Range": f"bytes={offset}-", "IfMatch": validator} if continues else {}
        try:
            answer = self._ask("get_object", path, wanted)
        except Exception as error:  # boto3 may be missing, so its classes have no name here
            if continues and _s3_code(error) in CHANGED:
                return self.open(path)
            raise
        at = offset if continues and "ContentRange" in answer else 0
        return OpenFile(
            _chunks(_raw(answer)),
            at,
            answer.get("ETag"),
            at + int(answer["ContentLength"]),
        )

    def validator(self, path: str, size: int) -> str | None:
        """Return the validator of the file *path*; None unless it has *size* bytes and comes in ranges."""
        answer = self._ask("get_object", path, {"Range": "bytes=0-0"})
        if answer.get("ContentRange") != f"bytes 0-0/{size}":
            answer["Body"].close()
            return None
        answer["Body"].read()
        found: str | None = answer.get("ETag")
        return found

    def range(self, path: str, start: int, stop: int, validator: str) -> Generator[bytes, None, None]:
        """Yield the bytes of the file *path* from *start* up to *stop*.

        Raises:
            ContentChanged: the content has another validator now.
            Fault: the store answers something else.
        """
        try:
            asked = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": validator}
            answer = self._ask("get_object", path, asked)
        except Exception as error:  # boto3 may be missing, as above
            if _s3_code(error) in CHANGED:
                raise ContentChanged from error
            raise
        chunks = _chunks(_raw(answer))
        if answer.get("ETag") != validator:
            raise ContentChanged
        is_asked = str(answer.get("ContentRange")).startswith(f"bytes {start}-{stop - 1}/")
        if not is_asked or answer["ContentLength"] != stop - start:
            text = f"the store of files sends other bytes of {path} than those that were asked for"
            raise Fault("bad_response", f"{text}; check which server answers there")
        yield from chunks

    def digest(self, path: str) -> ContentDigest | None:
        """Return the digest of the content of the file *path*; None if the bucket names none.

        An ETag is an MD5 only if S3 encrypts with its own keys or not at all. Others look the same, but are
        those of no content.
        """
        head = self._ask("head_object", path, {"ChecksumMode": "ENABLED"})
        if (sha256 := head.get("ChecksumSHA256")) and "-" not in sha256:  # that of the parts has their number
            return ContentDigest("sha256", base64.b64decode(sha256).hex())
        if (found := MD5.fullmatch(head.get("ETag", ""))) is None:
            return None
        part = self._ask("head_object", path, {"PartNumber": 1})["ContentLength"] if found[2] else None
        return ContentDigest("md5", found[1], part)

    def _ask(self, operation: str, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        repository = self._repository
        bucket, root = repository.parse_s3_compliant_uri(repository.artifact_uri)  # type: ignore[no-untyped-call]
        owner = getattr(repository, "_bucket_owner_params", {})
        client = repository._get_s3_client()  # type: ignore[no-untyped-call]  # noqa: SLF001  # with its settings
        answer: dict[str, Any] = getattr(client, operation)(
            Bucket=bucket, Key=posixpath.join(root, path), **wanted, **owner
        )
        return answer


class LocalStore:
    """The files in a folder of this host, which may be a mounted share.

    A link may lead to another file of the folder. A link to any other file is rejected: the registry's
    process can read files that a model must not have.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._can_clone = True

    def open(self, path: str, offset: int = 0, validator: str | None = None) -> OpenFile:
        """Open the file *path*, at *offset* if its content still has *validator*."""
        descriptor, found = self._opened(path)
        now = f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
        at = offset if validator == now else 0
        return OpenFile(_local_chunks(descriptor, at), at, now, found.st_size)

    def clone(self, path: str, target: Path) -> bool:
        """Let the new file *target* share the blocks of the file *path* until one of them is written to.

        Return False where the file system cannot.
        """
        if not self._can_clone:
            return False
        try:
            descriptor, _ = self._opened(path)
        except OSError:  # as `open` says
            return False
        try:
            with target.open("xb") as copy:
                fcntl.ioctl(copy, FICLONE, descriptor)
        except OSError:  # another file system, or one that cannot; `open` names any other fault
            target.unlink(missing_ok=True)
            self._can_clone = False
            return False
        finally:
            os.close(descriptor)
        return True

    def list(self) -> Iterator[FileInfo]:
        """Yield all files below the folder; MLflow would follow a link out of it, or in circles.

        Raises:
            Fault: a link leads out of the folder or nowhere, or something is no regular file.
        """
        pending: list[tuple[str, frozenset[str]]] = [("", frozenset([os.path.realpath(self._root)]))]
        while pending:
            folder, above = pending.pop()
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if not stat.S_ISDIR((found := self._found(path, entry)).st_mode):
                        yield FileInfo(path, False, found.st_size)  # noqa: FBT003  # MLflow's signature
                    elif (real := os.path.realpath(self._root / path)) not in above:
                        pending.append((f"{path}/", above | {real}))

    def _found(self, path: str, entry: "os.DirEntry[str]") -> os.stat_result:
        if entry.is_symlink():
            self._reject_outside(path)
        try:
            found = entry.stat()
        except OSError as error:
            if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            raise Fault("bad_response", f"{path} is a link that leads nowhere; {OWN_FILE}") from error
        if not stat.S_ISDIR(found.st_mode):
            _reject_irregular(path, found)
        return found

    def _reject_outside(self, path: str) -> None:
        real = os.path.realpath(self._root / path)
        if not Path(real).is_relative_to(os.path.realpath(self._root)):
            raise _outside(path)

    def _opened(self, path: str) -> tuple[int, os.stat_result]:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # no wait for a pipe
        descriptor = os.open(self._root / path, flags)
        try:
            return descriptor, self._checked(descriptor, path)
        except BaseException:  # also a cancellation: nothing else would close it
            os.close(descriptor)
            raise

    def _checked(self, descriptor: int, path: str) -> os.stat_result:
        """Check the file that was opened, not its name: a link may change between two calls."""
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not real.is_relative_to(os.path.realpath(self._root)):
            raise _outside(path)
        found = os.fstat(descriptor)
        _reject_irregular(path, found)
        return found


ContinuableStore = HttpStore | S3Store | LocalStore


def store_of(repository: ArtifactRepository) -> ContinuableStore | None:
    """Return the store of *repository*; None if only MLflow knows how to read it."""
    if isinstance(repository, HttpArtifactRepository):
        return HttpStore(repository)
    if type(repository) is S3ArtifactRepository:
        return S3Store(repository)
    if isinstance(repository, LocalArtifactRepository):
        return LocalStore(Path(repository.artifact_dir))
    return None


def _outside(path: str) -> Fault:
    return Fault("bad_response", f"{path} is a link that leads out of the version's folder; {OWN_FILE}")


def _reject_irregular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Fault("bad_response", f"{path} is not a regular file; remove it from the store of files")


def _continues(response: requests.Response, offset: int, validator: str | None) -> bool:
    """Return whether *response* has the content with *validator*, from *offset* on."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        return False
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == offset and _validator(response) in (validator, None)


def _validator(response: requests.Response) -> str | None:
    """Return the strong validator of *response*, as ``If-Range`` takes it."""
    headers = response.headers
    if (tag := headers.get("ETag")) is not None:
        return tag if tag.startswith('"') else None
    try:
        modified = headers["Last-Modified"]
        is_strong = parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(modified) > SECOND
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return str(modified) if is_strong else None


def _size(response: requests.Response) -> int | None:
    """Return the size of the whole file; None if the response has none, or is compressed."""
    if (found := CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))) is not None:
        return int(found[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Content-Encoding" not in response.headers else None


def _raw(answer: Mapping[str, Any]) -> urllib3.HTTPResponse:
    """Return the body of S3's *answer* without botocore's wrapper, which raises on a short one."""
    found: urllib3.HTTPResponse = answer["Body"]._raw_stream  # noqa: SLF001  # there is no public one
    return found


def _chunks(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes as they come, so that none is lost if the connection breaks."""
    try:
        while chunk := raw.read1(CHUNK, decode_content=True):
            yield chunk
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.ReadTimeout(error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    finally:
        raw.close()  # a connection whose answer was read to its end is back in the pool already


def _local_chunks(descriptor: int, offset: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        stream.seek(offset)
        while chunk := stream.read(CHUNK):
            yield chunk


def _s3_code(error: Exception) -> str | None:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return None if code is None else str(code)
