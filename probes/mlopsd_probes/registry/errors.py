"""Classify exceptions as faults of a registry, by class and not by text; runs in the registry's process."""

import errno
import re
import traceback
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from mlflow.exceptions import MlflowException, RestException

from mlopsd_probes.registry import connections, responses, store_errors
from mlopsd_probes.registry.fault import Fault, causes_of, first_line, printable, quote
from mlopsd_probes.registry.modules import sentence

LONGEST = 300
USERINFO = re.compile(r"//[^/@\s]+@")
QUERY = re.compile(r"(\w+://[^\s?\"']+)\?[^\s\"']+")  # of a URL; a presigned one has a signature there
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
OF_CODE = {"UNAUTHENTICATED": "auth", "CUSTOMER_UNAUTHORIZED": "auth", "PERMISSION_DENIED": "forbidden"}
WRONG_PASSWORD = re.compile(r"password authentication failed|no password supplied|Access denied for user")


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
    causes = list(causes_of(error))
    for judge in (
        _of_ours,
        _of_modules,
        partial(_of_files, ours=ours),
        store_errors.explain,
        connections.explain,
        _of_answer,
        _of_database,
        _of_mlflow,
    ):
        if (fault := judge(causes)) is not None:
            return fault
    return Fault("other", f"{type(error).__name__}: {error}")


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
            said = f"the database says: {getattr(cause, 'orig', None) or cause}"
            if WRONG_PASSWORD.search(said):  # drivers give no code for a connection that is refused
                return Fault("auth", f"{said}; check the user and the password in the uri")
            kind = "unreachable" if type(cause).__name__ == "OperationalError" else "bad_response"
            return Fault(kind, said)
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
