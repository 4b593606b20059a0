"""Classify what the client of S3, GCS or Azure raised, and say it plainly; none of them is imported here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from mlopsd_probes.registry import connections
from mlopsd_probes.registry.fault import Fault, causes_of, quote

CLIENTS = (  # their modules; not google.protobuf, which MLflow uses itself
    *("botocore.", "boto3.", "s3transfer.", "azure."),
    *("google.api_core.", "google.auth.", "google.cloud.", "google.resumable_media."),
)
TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
OF_STATUS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.UNAUTHORIZED: "auth",
    HTTPStatus.FORBIDDEN: "forbidden",
}
OF_HOST = frozenset(  # exceptions that only this host's configuration causes
    {
        *("NoCredentialsError", "PartialCredentialsError", "NoRegionError", "NoAuthTokenError"),
        *("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        *("CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "LoginTokenLoadError", "LoginRefreshRequired"),
        *("DefaultCredentialsError", "RefreshError", "CredentialUnavailableError"),
        "ClientAuthenticationError",
    }
)
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
RENEW = f"renew AWS_SESSION_TOKEN with {KEYS}, or use a role that renews them"
SLOWER = "lower fetch_parallel, or raise the limit of the store"
REGION = "set AWS_DEFAULT_REGION to the region of the bucket"
CHECK = "check the store of files"
EXPIRED = "the credentials of this host have expired"

# what S3 says by its code: the kind, a sentence without its end, and the fix
OF_S3: Mapping[str, tuple[str, str, str]] = {
    "AccessDenied": ("forbidden", "the credentials of this host lack a right", ""),
    "NoSuchBucket": ("not_found", "there is no such bucket", "check the version's source and the endpoint"),
    "NoSuchKey": ("not_found", "there is no such object", CHECK),
    "ExpiredToken": ("no_credentials", EXPIRED, RENEW),
    "ExpiredTokenException": ("no_credentials", EXPIRED, RENEW),
    "TokenRefreshRequired": ("no_credentials", EXPIRED, RENEW),
    "RequestExpired": ("no_credentials", "the request came too late", "check the clock of this host"),
    "InvalidToken": ("no_credentials", "it does not accept the session token", RENEW),
    "InvalidAccessKeyId": ("no_credentials", "it does not know the access key", f"check {KEYS}"),
    "SignatureDoesNotMatch": (
        "no_credentials",
        "the signature is wrong",
        "check AWS_SECRET_ACCESS_KEY, and that no proxy changes the request",
    ),
    "RequestTimeTooSkewed": (
        "no_credentials",
        "the clocks of this host and the store differ too much",
        "set the clock of this host, or that of the store if this one is right",
    ),
    "SlowDown": ("server_error", "it asks to be asked less often", SLOWER),
    "Throttling": ("server_error", "it asks to be asked less often", SLOWER),
    "TooManyRequests": ("server_error", "it asks to be asked less often", SLOWER),
    "RequestLimitExceeded": ("server_error", "it asks to be asked less often", SLOWER),
    "ServiceUnavailable": ("server_error", "it is not available now", CHECK),
    "InternalError": ("server_error", "it has an error of its own", CHECK),
    "PermanentRedirect": ("no_credentials", "the bucket is in another region", REGION),
    "AuthorizationHeaderMalformed": ("no_credentials", "the region is wrong", REGION),
    "IllegalLocationConstraintException": ("no_credentials", "the region is wrong", REGION),
}
OF_CLIENT: Mapping[
    str, tuple[str, str]
] = {  # exceptions of botocore: a sentence without its end, and the fix
    "NoCredentialsError": (
        "this host has no credentials for S3",
        f"set {KEYS}, AWS_PROFILE, or a role of this host",
    ),
    "PartialCredentialsError": ("the credentials of this host for S3 are not complete", f"set {KEYS}"),
    "NoRegionError": ("this host names no region for S3", REGION),
    "ProfileNotFound": ("this host has no such profile", "check AWS_PROFILE and AWS_CONFIG_FILE"),
}
RIGHTS = {"ListObjectsV2": "s3:ListBucket on the bucket", "GetObject": "s3:GetObject on the version's files"}
FIXES = {
    "no_credentials": "check the credentials for it on this host",
    "forbidden": "check what the credentials of this host may read there",
    "auth": "check the credentials for it on this host",
}
OF_CONNECTION = {  # fixes for the way to S3; the keys of a registry do not count there
    "unresolved": "check MLFLOW_S3_ENDPOINT_URL or AWS_ENDPOINT_URL, and the DNS of this host",
    "tls": "check its certificate and its address, or name its authority's file in AWS_CA_BUNDLE",
    "bad_certificate": "check its certificate and its address, or name its authority's file in AWS_CA_BUNDLE",
}


def explain(causes: Sequence[BaseException]) -> Fault | None:
    """Return the fault that a client of a store raised; None without one among *causes*."""
    for cause in causes:
        if type(cause).__module__.startswith(CLIENTS):
            if (fault := _of_s3(cause)) is not None:
                return fault
            kind = _kind(cause)
            if kind == "other" and (found := connections.explain(_below(cause))) is not None:
                return _of_connection(cause, found)
            return _of_client(cause, kind)
    return None


def _of_s3(cause: BaseException) -> Fault | None:
    """Return the fault that S3 has answered; None if it has not answered."""
    answer = getattr(cause, "response", None)
    if not isinstance(answer, dict) or not isinstance(error := answer.get("Error"), dict):
        return None
    code, message = str(error.get("Code")), _message(error)
    said = f"({_status_and_code(_status(cause), code)}{message})"
    if code == "AccessDenied" and "expired" in message:
        code = "ExpiredToken"
    if (known := OF_S3.get(code)) is None:
        kind = _kind(cause)
        return Fault(kind, f"it answers with an error {said}; {FIXES.get(kind, CHECK)}")
    kind, what, fix = known
    if code == "AccessDenied":
        right = RIGHTS.get(getattr(cause, "operation_name", ""))
        fix = f"allow {right}, or check the credentials" if right else FIXES["forbidden"]
    return Fault(kind, f"{what}{_region(answer)} {said}; {fix}")


def _status_and_code(status: int | None, code: str) -> str:
    """Return both as one text; an answer without a body has its status as its code."""
    return code if status is None or code == str(status) else f"{status} {code}"


def _message(error: Mapping[str, Any]) -> str:
    """Return what S3 says beside its code; "" if that is the code in two words."""
    said = quote(str(error.get("Message") or ""))
    is_code = said.strip('".').replace(" ", "").lower() == str(error.get("Code")).lower()
    return f": {said}" if said and not is_code else ""


def _region(answer: Mapping[str, Any]) -> str:
    """Return the region that S3 names if the request was for another one."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = answer["Error"].get("Region") or headers.get("x-amz-bucket-region")
    is_other = answer["Error"].get("Code") in ("PermanentRedirect", "AuthorizationHeaderMalformed")
    return f", {found}" if is_other and found else ""


def _of_connection(cause: BaseException, found: Fault) -> Fault:
    what, _, fix = str(found).partition("; ")
    kept = getattr(cause, "kwargs", None)
    parts = urlsplit(str(kept.get("endpoint_url", "")) if isinstance(kept, dict) else "")
    host = parts.netloc.rpartition("@")[2]
    who = f"{parts.scheme}://{host}" if host else "the store of files"
    return Fault(found.kind, f"{who}: {what}; {OF_CONNECTION.get(found.kind, fix)}")


def _of_client(cause: BaseException, kind: str) -> Fault:
    """Return the fault that the client found by itself, or that GCS or Azure has answered."""
    if type(cause).__module__.startswith("botocore.") and (known := OF_CLIENT.get(type(cause).__name__)):
        what, fix = known
        return Fault(kind, f"{what} ({quote(str(cause))}); {fix}")
    said = quote(str(cause)) or "nothing"
    return Fault(kind, f"the client of the store of files says {said}; {FIXES.get(kind, CHECK)}")


def _below(cause: BaseException) -> list[BaseException]:
    """Return *cause* and the exceptions that it wraps; botocore keeps the one of the connection apart."""
    kept = getattr(cause, "kwargs", None)
    error = kept.get("error") if isinstance(kept, dict) else None
    return [*causes_of(cause), *(causes_of(error) if isinstance(error, BaseException) else ())]


def _kind(cause: BaseException) -> str:
    if type(cause).__name__ in OF_HOST and not getattr(cause, "retryable", False):
        return "no_credentials"
    status = _status(cause)
    if status in OF_STATUS:
        return OF_STATUS[HTTPStatus(status)]
    is_down = status is not None and (status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN)
    return "server_error" if is_down else "other"


def _status(cause: BaseException) -> int | None:
    """Return the HTTP status, which each of the three clients keeps in another attribute."""
    response = getattr(cause, "response", None)
    of_s3 = response.get("ResponseMetadata") if isinstance(response, dict) else None
    found = (
        of_s3.get("HTTPStatusCode") if isinstance(of_s3, dict) else None,
        getattr(cause, "code", None),
        getattr(cause, "status_code", None),
    )
    return next((int(status) for status in found if isinstance(status, int)), None)
