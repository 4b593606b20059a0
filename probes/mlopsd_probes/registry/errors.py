"""Faults of a registry, by the exception and not by its words; runs in the registry's process."""

import errno
import re
import socket
import ssl
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from mlflow.exceptions import MlflowException, RestException

from mlopsd_probes.registry.modules import sentence

LONGEST = 300
USERINFO = re.compile(r"//[^/@\s]+@")
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
UNAUTHORISED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
STORES = (  # modules of clients of stores; google.protobuf is MLflow's own
    *("botocore.", "boto3.", "s3transfer.", "azure."),
    *("google.api_core.", "google.auth.", "google.cloud.", "google.resumable_media."),
)
NO_CREDENTIALS = frozenset(
    {  # classes of these clients that only this host's configuration raises
        *("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "NoAuthTokenError"),
        *("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        *("CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "LoginTokenLoadError", "LoginRefreshRequired"),
        *("DefaultCredentialsError", "RefreshError", "CredentialUnavailableError"),
        "ClientAuthenticationError",
    }
)
BAD_CREDENTIALS = frozenset(  # codes of S3, with status 400 or 403; what others forbid the store must allow
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"),
        *("RequestExpired", "InvalidAccessKeyId"),
    }
)


class Fault(Exception):
    """Something that a registry, or the way to it, is to blame for.

    Attributes:
        kind: as `mlopsd_probes.causes.CAUSES` has them for ``registry`` and ``fetch``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind

    def as_answer(self) -> dict[str, str]:
        """For the daemon."""
        return {"kind": self.kind, "reason": str(self)}


def classify(error: BaseException, secrets: Sequence[str] = (), ours: Sequence[Path] = ()) -> Fault:
    """Return the fault behind *error*, without any of *secrets*; the folders *ours* are no registry's."""
    fault = _judged(error, ours)
    return Fault(fault.kind, _plain(str(fault), secrets))


def _judged(error: BaseException, ours: Sequence[Path]) -> Fault:
    causes = list(_causes(error))
    for judge in (
        _of_ours,
        _of_modules,
        partial(_of_files, ours=ours),
        _of_store,
        _of_transport,
        _of_answer,
        _of_database,
        _of_mlflow,
    ):
        if (fault := judge(causes)) is not None:
            return fault
    return Fault("other", f"{type(error).__name__}: {error}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and all that it came of, outermost first; MLflow raises without ``from``, requests wraps."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is before for before in seen):
            continue
        seen.append(one)
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _of_ours(causes: Sequence[BaseException]) -> Fault | None:
    return next((cause for cause in causes if isinstance(cause, Fault)), None)


def _of_files(causes: Sequence[BaseException], ours: Sequence[Path]) -> Fault | None:
    """Only what happens to files: a refused connection is an OSError too, but names none."""
    for cause in causes:
        if not isinstance(cause, OSError) or isinstance(cause, requests.RequestException):
            continue
        if cause.errno in FULL:
            return Fault("disk_full", f"{cause.strerror}; make room in the state folder")
        if not isinstance(cause.filename, str) or cause.errno not in (*FORBIDDEN, errno.ENOENT):
            continue
        said = f"cannot use {cause.filename}: {cause.strerror}; make it accessible"
        if any(Path(cause.filename).is_relative_to(folder) for folder in ours):
            return Fault("disk", said)
        if cause.errno in FORBIDDEN:
            return Fault("unreachable", said)
        return Fault("not_found", f"there is no file {cause.filename}; look at the store of files")
    return None


def _of_modules(causes: Sequence[BaseException]) -> Fault | None:
    """Only what was raised itself, or was worded anew by MLflow: libraries try imports that may fail."""
    cause: BaseException | None = causes[0]
    while cause is not None:
        if isinstance(cause, ImportError):
            return Fault("import_error", sentence(cause))
        cause = cause.__cause__ or (cause.__context__ if isinstance(cause, MlflowException) else None)
    return None


def _of_store(causes: Sequence[BaseException]) -> Fault | None:
    """Classify what the client of S3, GCS or Azure raised; none of them is imported here."""
    for cause in causes:
        if type(cause).__module__.startswith(STORES):
            said = f"the store of files says: {type(cause).__name__}: {cause}"
            return Fault(_kind_of_store(cause), said)
    return None


def _kind_of_store(cause: BaseException) -> str:
    if type(cause).__name__ in NO_CREDENTIALS and not getattr(cause, "retryable", False):
        return "no_credentials"
    if _code_of_s3(cause) in BAD_CREDENTIALS:
        return "no_credentials"
    status = _status_of_store(cause)
    if status == HTTPStatus.NOT_FOUND:
        return "not_found"
    if status in REFUSED:
        return "auth"
    is_down = status is not None and (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN)
    return "server_error" if is_down else "other"


def _code_of_s3(cause: BaseException) -> object:
    """Return the code that S3 gives an error in its body."""
    response = getattr(cause, "response", None)
    error = response.get("Error") if isinstance(response, dict) else None
    return error.get("Code") if isinstance(error, dict) else None


def _status_of_store(cause: BaseException) -> int | None:
    """The HTTP status, which each of the three keeps in its own place."""
    response = getattr(cause, "response", None)
    of_s3 = response.get("ResponseMetadata") if isinstance(response, dict) else None
    found = (
        of_s3.get("HTTPStatusCode") if isinstance(of_s3, dict) else None,
        getattr(cause, "code", None),
        getattr(cause, "status_code", None),
    )
    return next((int(status) for status in found if isinstance(status, int)), None)


def _of_answer(causes: Sequence[BaseException]) -> Fault | None:
    """By the HTTP response that something is wrong with."""
    if (response := _response(causes)) is None:
        return None
    status, said = response.status_code, f"it answered {response.status_code}"
    if status in REFUSED:
        cure = "check username and password_file, or token_file, and what that user may read"
        return Fault("auth", f"it refused the credentials ({status}); {cure}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN:
        return Fault("server_error", f"{said}; look at the registry's log")
    if (rest := next((cause for cause in causes if isinstance(cause, RestException)), None)) is not None:
        return _of_mlflow([rest]) if "error_code" in rest.json else _strange(response)
    if status == HTTPStatus.NOT_FOUND and _is_mlflows(response):
        return Fault("not_found", f"{said} for {_asked_for(response)}")
    return _strange(response)


def _is_mlflows(response: requests.Response) -> bool:
    """Return whether MLflow itself says that there is no such thing; a proxy's 404 says nothing of a file."""
    try:
        said = response.json()
    except (ValueError, requests.RequestException, RuntimeError):  # no JSON, cut off, or read already
        return False
    return isinstance(said, dict) and said.get("error_code") == "RESOURCE_DOES_NOT_EXIST"


def _strange(response: requests.Response) -> Fault:
    kind = response.headers.get("Content-Type", "no content type").split(";")[0]
    said = f"it answered {response.status_code} with {kind} that is none of MLflow's"
    return Fault("bad_response", f"{said}; check the uri, and who answers there")


def _response(causes: Sequence[BaseException]) -> requests.Response | None:
    """The response in question: MLflow's exceptions drop it, the frames that they passed still have it."""
    for cause in causes:
        if isinstance(found := getattr(cause, "response", None), requests.Response):
            return found
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            for value in frame.f_locals.values():
                if isinstance(value, requests.Response):
                    return value
    return None


def _asked_for(response: requests.Response) -> str:
    path = urllib3.util.parse_url(response.url).path or "/"
    return path.rpartition("/artifacts/")[2]


def _of_transport(causes: Sequence[BaseException]) -> Fault | None:
    """Refused, unknown, too slow, broken off, or always the same 503."""
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NewConnectionError):  # refused, and yet a TimeoutError there
            continue
        if isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
            return Fault("timeout", "no answer in time; check that it runs, and the way to it")
        if isinstance(cause, urllib3.exceptions.ResponseError):
            return Fault("server_error", f"{cause}; look at the registry's log")
        if isinstance(cause, ssl.SSLError):
            cure = "check the certificate, or name its authority in SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
            return Fault("unreachable", f"no secure connection: {cause.reason or cause}; {cure}")
    if any(isinstance(cause, requests.exceptions.ChunkedEncodingError) for cause in causes):
        return Fault("bad_response", "the answer broke off in the middle; look at the registry's log")
    if any(isinstance(cause, requests.ConnectionError) for cause in causes):
        return Fault("unreachable", f"{_why_unreachable(causes)}; check that it runs, and the way to it")
    return None


def _why_unreachable(causes: Sequence[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return f"its name cannot be resolved ({cause.strerror})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
    return "no connection"


def _of_database(causes: Sequence[BaseException]) -> Fault | None:
    """SQLAlchemy is there only where a registry is a database."""
    for cause in causes:
        if type(cause).__module__.startswith("sqlalchemy"):
            kind = "unreachable" if type(cause).__name__ == "OperationalError" else "bad_response"
            return Fault(kind, f"the database says: {getattr(cause, 'orig', None) or cause}")
    return None


def _of_mlflow(causes: Sequence[BaseException]) -> Fault | None:
    for cause in causes:
        if not isinstance(cause, MlflowException):
            continue
        if cause.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Fault("absent", f"{cause.message}; check the name")
        if cause.error_code in UNAUTHORISED:
            return Fault("auth", f"it refused the credentials: {cause.message}")
        return Fault("other", cause.message)
    return None


def _plain(text: str, secrets: Sequence[str]) -> str:
    """On one line, not long, and without credentials."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(USERINFO.sub("//", text).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
