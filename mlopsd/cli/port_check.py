"""Diagnoses of the ports of the running daemon, for ``mlopsd doctor``: its metrics and its certificate."""

import contextlib
import http.client
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from mlopsd.cli.client import format_url
from mlopsd.config.schema import Settings
from mlopsd.format import format_time
from mlopsd.probe import Diagnosis

PATIENCE = 5.0  # seconds
RENEW_BEFORE = timedelta(
    days=14
)  # ACME clients renew 30 days ahead; after 16 failed days somebody should know


def diagnose_ports(settings: Settings | None, info: Mapping[str, Any]) -> Iterator[Diagnosis]:
    """Yield whether Prometheus finds metrics, and whether the certificate of the ports holds.

    Args:
        settings: the configuration, if this command can read it.
        info: the daemon's answer to ``/info``.
    """
    tls = info.get("tls", {})
    if error := tls.get("error"):
        yield Diagnosis("problem", f"the daemon keeps its former certificate: {error}", "mlopsd config check")
    if settings is not None and not settings.metrics.enabled:
        yield Diagnosis("ok", "metrics are off, as [metrics] enabled says")
        return
    listening = info.get("listening", {})
    address = listening.get("metrics") or listening.get("api")
    if address is None:
        yield Diagnosis("not_checked", "whether metrics can be scraped: the daemon names no address")
        return
    host, _, port = str(address).rpartition(":")
    url = f"{format_url(host.strip('[]'), int(port), 'https' if tls else 'http')}/metrics"
    try:
        yield from _diagnose_answer(url, *_fetch(url, tls.get("certificate")), is_local=_is_loopback(host))
    except (OSError, ValueError, http.client.HTTPException) as failure:
        yield Diagnosis("not_checked", f"metrics at {url} cannot be read from here: {_describe(failure)}")


def _diagnose_answer(
    url: str, status: int, expires: datetime | None, *, is_local: bool
) -> Iterator[Diagnosis]:
    only = ", by programs of this host only" if is_local else ""
    if status == http.HTTPStatus.UNAUTHORIZED:
        yield Diagnosis("ok", f"metrics can be scraped at {url} with a key{only}")
    elif status == http.HTTPStatus.OK:
        yield Diagnosis("ok", f"metrics can be scraped at {url}{only}")
    else:
        yield Diagnosis("not_checked", f"metrics at {url} cannot be read from here: status {status}")
    if expires is not None and expires < datetime.now(UTC) + RENEW_BEFORE:
        yield Diagnosis(
            "problem",
            f"the certificate of {url.removesuffix('/metrics')} expires at {format_time(expires)}",
            "renew it in its file; the daemon reads it within 2 s",
        )


def _fetch(url: str, certificate: str | None) -> tuple[int, datetime | None]:
    """Return the status of a GET, and the time when the server's certificate expires.

    No proxy stands between this command and its own host. The only certificate that is trusted is the one
    in the file that the daemon names.

    Raises:
        OSError: The port does not answer, or it shows another certificate.
        ValueError: The file has no certificate.
    """
    _, _, place = url.removesuffix("/metrics").partition("://")
    if certificate is None:
        connection = http.client.HTTPConnection(place, timeout=PATIENCE)
    else:
        connection = http.client.HTTPSConnection(place, timeout=PATIENCE, context=_trust_only(certificate))
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        expires = _expiry(connection.sock)
        return connection.getresponse().status, expires


def _trust_only(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file ends below the authority
    context.check_hostname = False  # it names the host, and this command asks a loopback address
    return context


def _expiry(connection: Any) -> datetime | None:
    shown = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not shown:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)


def _describe(failure: Exception) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is not the one in the file ({failure.verify_message})"
    if isinstance(failure, ConnectionResetError | ssl.SSLError):
        return "it refuses TLS without a certificate of the client, or speaks no TLS"
    return str(getattr(failure, "strerror", None) or failure)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return host == "localhost"
