"""Name why a connection to a registry or its store failed, and the fix."""

import re
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus

import requests
import urllib3

from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.responses import CLIENT_CERTIFICATE, OF_PROXY

UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})  # OpenSSL's X509_V_ERR_*, as `verify_code` has them
NOT_YET_VALID, EXPIRED, OTHER_NAME = 9, 10, frozenset({62, 64})
REACHABLE = "check that it runs and can be reached"
CONNECTION_ERRORS = (
    requests.ConnectionError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ProxyError,
)
TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d+)")


def explain(causes: Sequence[BaseException]) -> Fault | None:
    """Return the fault of a failed connection: refused, unknown host, TLS, timeout or broken off."""
    through_proxy = any(_is_of_proxy(cause) for cause in causes)
    found = (_of_one(cause, through_proxy=through_proxy) for cause in causes)
    if (fault := next(filter(None, found), None)) is not None:
        return fault
    if any(isinstance(cause, requests.exceptions.ChunkedEncodingError) for cause in causes):
        return Fault("bad_response", "the answer broke off in the middle; check the registry's log")
    if any(isinstance(cause, CONNECTION_ERRORS) for cause in causes):
        return _of_network(causes, through_proxy=through_proxy)
    return None


def _of_one(cause: BaseException, *, through_proxy: bool) -> Fault | None:
    if through_proxy and (tunnel := TUNNEL_REFUSED.search(str(cause))) is not None:
        return _of_tunnel(int(tunnel[1]))
    # a refused connection is no timeout, although urllib3 derives it from TimeoutError
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return None
    if isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return Fault("timeout", f"no answer in time; {REACHABLE}")
    if isinstance(cause, urllib3.exceptions.ResponseError):
        return Fault("server_error", f"{cause}; check the registry's log")
    return _of_tls(cause) if isinstance(cause, ssl.SSLError) else None


def _is_of_proxy(cause: BaseException) -> bool:
    return isinstance(cause, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError)


def _of_tunnel(status: int) -> Fault:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Fault("proxy", f"a proxy wants credentials (407); {OF_PROXY}")
    return Fault("proxy", f"a proxy refuses the connection ({status}); check its rules, or set no_proxy")


def _of_network(causes: Sequence[BaseException], *, through_proxy: bool) -> Fault:
    who = "the proxy in http_proxy or https_proxy: " if through_proxy else ""
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            text = f"{who}its name cannot be resolved ({cause.strerror})"
            return Fault("unresolved", f"{text}; check the name in the uri, and the DNS of this host")
        if isinstance(cause, OSError) and cause.strerror:
            text = cause.strerror[0].lower() + cause.strerror[1:]
            break
    else:
        text = "no connection"
    return Fault("proxy" if through_proxy else "unreachable", f"{who}{text}; {REACHABLE}")


def _of_tls(error: ssl.SSLError) -> Fault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        fix = f"{REACHABLE}; if it wants a client certificate, {CLIENT_CERTIFICATE}"
        return Fault("unreachable", f"it ended the secure connection; {fix}")
    reason = error.reason or str(error)
    what, fix = _of_alert(reason)
    return Fault("tls", f"{what} (TLS: {reason}); {fix}")


def _of_alert(reason: str) -> tuple[str, str]:
    """Return what OpenSSL's *reason* means, and the fix."""
    if "CERTIFICATE_REQUIRED" in reason:
        return "it wants a client certificate", CLIENT_CERTIFICATE
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        fix = "check client_cert_file, and which authorities it trusts"
        return "it rejects the client certificate", fix
    if "HANDSHAKE_FAILURE" in reason:
        return "it refuses the connection", f"if it wants a client certificate, {CLIENT_CERTIFICATE}"
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return "it does not answer with TLS", "check the port, or write http://"
    return "no secure connection", "check its certificate and its TLS versions"


def _of_certificate(error: ssl.SSLCertVerificationError) -> Fault:
    said = f"its certificate is not accepted ({error.verify_message})"
    if error.verify_code == EXPIRED:
        return Fault("bad_certificate", f"{said}; renew it, or check the clock of this host")
    if error.verify_code == NOT_YET_VALID:
        return Fault("tls", f"{said}; check the clock of this host")
    if error.verify_code in OTHER_NAME:
        return Fault("tls", f"{said}; write a name of the certificate into the uri")
    if error.verify_code in UNKNOWN_AUTHORITY:
        return Fault("tls", f"{said}; name its authority's file in ca_file")
    return Fault("bad_certificate", f"{said}; check the certificate")
