"""Classify exceptions as faults of a registry, by class and not by text; runs in the registry's process."""

import errno
import re
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from mlflow.exceptions import MlflowException, RestException

from mlopsd_probes.registry import connections, responses
from mlopsd_probes.registry.fault import Fault, first_line, printable, quote
from mlopsd_probes.registry.modules import sentence

LONGEST = 300
USERINFO = re.compile(r"//[^/@\s]+@")
QUERY = re.compile(r"(\w+://[^\s?\"']+)\?[^\s\"']+")  # of a URL; a presigned one has a signature there
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
OF_STATUS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.UNAUTHORIZED: "auth",
    HTTPStatus.FORBIDDEN: "forbidden",
}
OF_CODE = {"UNAUTHENTICATED": "auth", "CUSTOMER_UNAUTHORIZED": "auth", "PERMISSION_DENIED": "forbidden"}
STORES = (  # modules of the stores' clients; not google.protobuf, which MLflow uses itself
    *("botocore.", "boto3.", "s3transfer.", "azure."),
    *("google.api_core.", "google.auth.", "google.cloud.", "google.resumable_media."),
)
NO_CREDENTIALS = frozenset(
    {  # exceptions of these clients that only this host's configuration causes
        *("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "NoAuthTokenError"),
        *("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        *("CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "LoginTokenLoadError", "LoginRefreshRequired"),
        *("DefaultCredentialsError", "RefreshError", "CredentialUnavailableError"),
        "ClientAuthenticationError",
    }
)
BAD_CREDENTIALS = frozenset(  # S3's codes for wrong credentials; any other 403 is for the store to allow
    {
        *("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"),
        *("RequestExpired", "InvalidAccessKeyId"),
    }
)


def classify(error: BaseException, secrets: Sequence[str] = (), ours: Sequence[Path] = ()) -> Fault:
    """Return the fault behind *error*, without any of *secrets*.

    Args:
        error: the exception.
        secrets: texts to remove.
        ours: folders of this process; an error there is not the registry's.
    """
    fault = _judged(error, ours)
    return Fault(fault.kind, _plain(str(fault), secrets), fault.retry_after)


def _judged(error: BaseException, ours: Sequence[Path]) -> Fault:
    causes = list(_causes(error))
    for judge in (
        _of_ours,
        _of_modules,
        partial(_of_files, ours=ours),
        _of_store,
        connections.explain,
        _of_answer,
        _of_database,
        _of_mlflow,
    ):
        if (fault := judge(causes)) is not None:
            return fault
    return Fault("other", f"{type(error).__name__}: {error}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and its causes, outermost first; MLflow raises without ``from``, requests wraps."""
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
    """Classify errors of files; a refused connection is an OSError too, but has no filename."""
    for cause in causes:
        if not isinstance(cause, OSError) or isinstance(cause, requests.RequestException):
            continue
        if cause.errno in FULL:
            return Fault("disk_full", f"{cause.strerror}; make room in the state folder")
        if not isinstance(cause.filename, str) or cause.errno not in (*FORBIDDEN, errno.ENOENT):
            continue
        text = f"cannot use {cause.filename}: {cause.strerror}; make it accessible"
        if any(Path(cause.filename).is_relative_to(folder) for folder in ours):
            return Fault("disk", text)
        if cause.errno in FORBIDDEN:
            return Fault("unreachable", text)
        return Fault("not_found", f"there is no file {cause.filename}; check the store of files")
    return None


def _of_modules(causes: Sequence[BaseException]) -> Fault | None:
    """Classify an ImportError that was raised itself or wrapped by MLflow.

    Others count for nothing, since libraries try optional imports.
    """
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
            kind, said = _kind_of_store(cause), first_line(str(cause))
            if kind == "other" and (found := connections.explain(_below(cause))) is not None:
                return Fault(found.kind, f"the store of files: {found}")
            return Fault(kind, f"the store of files says: {type(cause).__name__}: {said}")
    return None


def _below(cause: BaseException) -> list[BaseException]:
    """Return *cause* and the exceptions that it wraps; botocore keeps the one of the connection apart."""
    kept = getattr(cause, "kwargs", None)
    error = kept.get("error") if isinstance(kept, dict) else None
    return [*_causes(cause), *(_causes(error) if isinstance(error, BaseException) else ())]


def _kind_of_store(cause: BaseException) -> str:
    if type(cause).__name__ in NO_CREDENTIALS and not getattr(cause, "retryable", False):
        return "no_credentials"
    if _code_of_s3(cause) in BAD_CREDENTIALS:
        return "no_credentials"
    status = _status_of_store(cause)
    if status in OF_STATUS:
        return OF_STATUS[HTTPStatus(status)]
    is_down = status is not None and (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN)
    return "server_error" if is_down else "other"


def _code_of_s3(cause: BaseException) -> object:
    """Return the error code in S3's response."""
    response = getattr(cause, "response", None)
    error = response.get("Error") if isinstance(response, dict) else None
    return error.get("Code") if isinstance(error, dict) else None


def _status_of_store(cause: BaseException) -> int | None:
    """Return the HTTP status, which each of the three clients keeps in another attribute."""
    response = getattr(cause, "response", None)
    of_s3 = response.get("ResponseMetadata") if isinstance(response, dict) else None
    found = (
        of_s3.get("HTTPStatusCode") if isinstance(of_s3, dict) else None,
        getattr(cause, "code", None),
        getattr(cause, "status_code", None),
    )
    return next((int(status) for status in found if isinstance(status, int)), None)


def _of_answer(causes: Sequence[BaseException]) -> Fault | None:
    """Classify an HTTP response."""
    if (response := _response(causes)) is None:
        return None
    if (fault := responses.explain(response)) is not None:
        return fault
    if (rest := next((cause for cause in causes if isinstance(cause, RestException)), None)) is not None:
        return _of_mlflow([rest]) if "error_code" in rest.json else responses.foreign(response)
    is_mlflows = responses.document_of(response).get("error_code") == "RESOURCE_DOES_NOT_EXIST"
    if (
        response.status_code == HTTPStatus.NOT_FOUND and is_mlflows
    ):  # a proxy's 404 proves nothing about a file
        return Fault("not_found", f"it answered 404 for {_asked_for(response)}")
    return responses.foreign(response)


def _response(causes: Sequence[BaseException]) -> requests.Response | None:
    """Return the HTTP response; MLflow's exceptions drop it, so search the frames of the traceback too."""
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


def _of_database(causes: Sequence[BaseException]) -> Fault | None:
    """Classify an error of SQLAlchemy, which is installed only if a registry is a database."""
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
            return Fault("absent", f"{first_line(cause.message)}; check the name")
        if (kind := OF_CODE.get(cause.error_code)) is not None:
            fix = "check the credentials, and what their user may read"
            return Fault(kind, f"it refuses the request: {quote(cause.message)}; {fix}")
        return Fault("other", cause.message)
    return None


def _plain(text: str, secrets: Sequence[str]) -> str:
    """Return *text* on one line, shortened, and without credentials."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = printable(QUERY.sub(r"\1?…", USERINFO.sub("//", text)))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
