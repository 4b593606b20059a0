"""Name who sent an HTTP response that is no answer to the request, and the fix; by status and content."""

import email.utils
import html
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from mlopsd_probes.registry.fault import Fault, quote

LONGEST_BODY = 64 * 1024  # bytes of a page in which the title is searched
LONGEST_RETRY_AFTER = 300.0  # seconds
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<[a-z!/]", re.IGNORECASE)
INVALID_HOST, CROSS_ORIGIN = "Invalid Host header", "Cross-origin request blocked"  # of MLflow 3.5 and newer
NO_CERTIFICATE = re.compile(r"no required ssl certificate|ssl certificate error", re.IGNORECASE)  # nginx
CLIENT_CERTIFICATE = "set client_cert_file for this registry"
OF_EXPERIMENT = ("/runs/", "/experiments/", "/logged-models/", "/mlflow-artifacts/", "/get-artifact")
OF_PROXY = "write them into http_proxy and https_proxy, or name the host in no_proxy"


def explain(response: requests.Response) -> Fault | None:
    """Return the fault that *response* shows; None if only MLflow's own document can tell."""
    status = response.status_code
    if (explained := BY_STATUS.get(status)) is not None:
        return explained(response)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        logs = "the log of the proxy before it" if _is_page(response) else "the registry's log"
        return Fault("server_error", f"it answered {status}{_said(response, '')}; check {logs}")
    return None


def foreign(response: requests.Response) -> Fault:
    """Return the fault of a *response* that is not MLflow's."""
    if (page := _page_elsewhere(response)) is not None:
        return page
    kind = response.headers.get("Content-Type", "no content type").split(";")[0]
    text = f"it answered {response.status_code} with {kind} that is not MLflow's{_said(response, '')}"
    return Fault("bad_response", f"{text}; check the uri, and which server answers there")


def document_of(response: requests.Response) -> dict[str, Any]:
    """Return the JSON object in *response*; empty without one."""
    try:
        found = response.json()
    except (ValueError, requests.RequestException, RuntimeError):  # not JSON, incomplete, or already read
        return {}
    return found if isinstance(found, dict) else {}


def _unauthorized(response: requests.Response) -> Fault:
    said = _said(response)
    if (elsewhere := _redirected_to(response)) is not None:
        text = f"it redirects to {elsewhere}, which gets no credentials and rejects the request{said}"
        return Fault("auth", f"{text}; check the uri")
    if not _sent_credentials(response):
        fix = "set username and password_file, or token_file"
        return Fault("auth", f"it wants credentials{said}, and none are configured; {fix}")
    return Fault("auth", f"it rejects the credentials{said}; check username and password_file, or token_file")


def _forbidden(response: requests.Response) -> Fault:
    said, body = _said(response), _text(response)
    host = urlsplit(response.url).netloc.rpartition("@")[2]
    if body.startswith(INVALID_HOST):
        fix = f"start MLflow's server with --allowed-hosts '{host}', or the host that a proxy before it sends"
        return Fault("forbidden", f"MLflow does not accept the Host header{said}; {fix}")
    if body.startswith(CROSS_ORIGIN):
        fix = "remove the Origin header in the proxy before it, or start it with --cors-allowed-origins"
        return Fault("forbidden", f"MLflow does not accept the Origin header{said}; {fix}")
    if "error_code" in document_of(response) or body.startswith("Permission denied"):
        return Fault("forbidden", f"the user lacks a right{said}; {_right_for(response)}")
    fix = "check what this host and this user may read there, and whether a proxy answers"
    without = "" if _sent_credentials(response) else ", and no credentials are configured"
    return Fault("forbidden", f"{host} forbids it{said}{without}; {fix}")


def _right_for(response: requests.Response) -> str:
    """Return the fix: the right of MLflow that the request needs, on what."""
    parts = urlsplit(response.url)
    if any(part in parts.path for part in OF_EXPERIMENT):
        number = re.search(r"/mlflow-artifacts/artifacts/(?:workspaces/[^/]+/)?(\d+)", parts.path)
        return f"grant READ on experiment {number[1]}" if number else "grant READ on the version's experiment"
    name = parse_qs(parts.query).get("name", [""])[0]
    return f"grant READ on the registered model{f' {name!r}' if name else ''}"


def _busy(response: requests.Response) -> Fault:
    seconds = retry_after(response)
    is_limit = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    what = "it asks to be asked less often" if is_limit else "it is not available now"
    fix = "raise interval, or its limit" if is_limit else "check the registry's log"
    return Fault("server_error", f"{what}{_said(response)}; {fix}", seconds)


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds in the header ``Retry-After``, at most `LONGEST_RETRY_AFTER`."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _of_proxy(response: requests.Response) -> Fault:
    return Fault("proxy", f"a proxy wants credentials{_said(response)}; {OF_PROXY}")


def _bad_request(response: requests.Response) -> Fault | None:
    if NO_CERTIFICATE.search(_title(response)):
        return Fault("tls", f"it wants a client certificate{_said(response)}; {CLIENT_CERTIFICATE}")
    return None


BY_STATUS: Mapping[int, Callable[[requests.Response], Fault | None]] = {
    HTTPStatus.BAD_REQUEST: _bad_request,
    HTTPStatus.UNAUTHORIZED: _unauthorized,
    HTTPStatus.FORBIDDEN: _forbidden,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: _of_proxy,
    HTTPStatus.TOO_MANY_REQUESTS: _busy,
    HTTPStatus.SERVICE_UNAVAILABLE: _busy,
}


def _page_elsewhere(response: requests.Response) -> Fault | None:
    """Return the fault if the request ended at another server, as at the page of a login."""
    if (elsewhere := _redirected_to(response)) is None:
        return None
    text = f"it redirects to {elsewhere}, which does not answer as MLflow does{_said(response)}"
    return Fault("bad_response", f"{text}; let this host pass without a login page, or check the uri")


def _redirected_to(response: requests.Response) -> str | None:
    """Return the page that answered if it is not the one that was asked; None without a redirect."""
    if not response.history:
        return None
    asked, answered = urlsplit(response.history[0].url), urlsplit(response.url)
    host = answered.netloc.rpartition("@")[2]
    is_same = asked.netloc.rpartition("@")[2] == host and asked.path == answered.path
    return None if is_same else f"{answered.scheme}://{host}{answered.path}"


def _sent_credentials(response: requests.Response) -> bool:
    request = getattr(response, "request", None)
    return request is not None and "Authorization" in request.headers


def _said(response: requests.Response, status: str | None = None) -> str:
    """Return the status and the first words of the body in parentheses."""
    status = str(response.status_code) if status is None else status
    inside = ": ".join(filter(None, (status, quote(_without_credentials(response, _title(response))))))
    return f" ({inside})" if inside else ""


def _title(response: requests.Response) -> str:
    """Return MLflow's message, the title of a page, or plain text; "" for anything else."""
    if message := document_of(response).get("message"):
        return str(message)
    text = _text(response)
    if (title := TITLE.search(text)) is not None:
        return html.unescape(title[1])
    kind = response.headers.get("Content-Type", "")
    return text if kind.startswith("text/") and not TAG.search(text) else ""


def _is_page(response: requests.Response) -> bool:
    return TAG.search(_text(response)) is not None


def _text(response: requests.Response) -> str:
    try:
        return response.content[:LONGEST_BODY].decode(response.encoding or "utf-8", "replace")
    except (requests.RequestException, RuntimeError, LookupError):  # incomplete, read before, strange charset
        return ""


def _without_credentials(response: requests.Response, text: str) -> str:
    """Return *text* without the credentials that were sent, which a server may repeat."""
    request = getattr(response, "request", None)
    header = request.headers.get("Authorization", "") if request is not None else ""
    sent = str(header).partition(" ")[2]
    return text.replace(sent, "***") if sent else text
