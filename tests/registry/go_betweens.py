"""Real servers between a client and a registry: nginx with TLS, pages and redirects, and a TLS port alone."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.nginx import nginx
from tests.running import free_port

PORTS = (
    "https",
    "asks_certificate",
    "page_403",
    "page_502",
    "login",
    "login_page",
    "proxy_407",
    "busy",
    "busy_until",
    "expired",
    "moved",
    "elsewhere",
    "downgrades",
)
SERVERS = """
  default_type text/html;
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.key;
  server {{ listen 127.0.0.1:{https} ssl; location / {{ proxy_pass {upstream}; }} }}
  server {{
    listen 127.0.0.1:{asks_certificate} ssl;
    ssl_client_certificate {folder}/authority.pem;
    ssl_verify_client on;
    location / {{ proxy_pass {upstream}; }}
  }}
  server {{
    listen 127.0.0.1:{expired} ssl;
    ssl_certificate {folder}/expired.pem;
  }}
  server {{ listen 127.0.0.1:{page_403}; location / {{ deny all; }} }}
  server {{ listen 127.0.0.1:{page_502}; location / {{ proxy_pass http://127.0.0.1:1; }} }}
  server {{ listen 127.0.0.1:{login}; location / {{ return 302 http://localhost:{login_page}/signin; }} }}
  server {{
    listen 127.0.0.1:{login_page};
    location / {{ return 200 "<html><head><title>Sign in &amp; go</title></head></html>"; }}
  }}
  server {{ listen 127.0.0.1:{proxy_407}; location / {{ return 407 "<title>Who are you?</title>"; }} }}
  server {{
    listen 127.0.0.1:{busy};
    default_type text/plain;
    add_header Retry-After 77 always;
    location / {{ return 429 "slow\\tdown\\nnow"; }}
  }}
  server {{
    listen 127.0.0.1:{busy_until};
    add_header Retry-After "Fri, 31 Dec 2999 23:59:59 GMT" always;
    location / {{ return 503; }}
  }}
  log_format credentials '$server_addr certificate="$ssl_client_s_dn" authorization="$http_authorization"';
  server {{
    listen 127.0.0.1:{moved} ssl;
    ssl_client_certificate {folder}/authority.pem;
    ssl_verify_client on;
    access_log {folder}/credentials credentials;
    location / {{ return 302 https://127.0.0.2:{elsewhere}$request_uri; }}
  }}
  server {{
    listen 127.0.0.1:{downgrades} ssl;
    location / {{ return 302 http://127.0.0.1:{login_page}$request_uri; }}
  }}
  server {{
    listen 127.0.0.1:{elsewhere} ssl;
    listen 127.0.0.2:{elsewhere} ssl;
    ssl_client_certificate {folder}/authority.pem;
    ssl_verify_client optional;
    access_log {folder}/credentials credentials;
    location / {{ proxy_pass {upstream}; }}
  }}
"""


@dataclass(frozen=True)
class GoBetweens:
    """The port of each server by its name, and the certificate of the authority behind those with TLS."""

    ports: dict[str, int]
    authority: Path

    def credentials(self) -> list[str]:
        """Return a line for each request to ``moved`` and ``elsewhere``, with what it brought."""
        return (self.authority.parent / "credentials").read_text("utf-8").splitlines()

    def uri(self, name: str) -> str:
        """Return the URI of the server *name*."""
        is_tls = name in {
            "https",
            "asks_certificate",
            "expired",
            "demands_certificate",
            "moved",
            "downgrades",
        }
        return f"{'https' if is_tls else 'http'}://127.0.0.1:{self.ports[name]}"


@contextmanager
def go_betweens(folder: Path, upstream: str) -> Iterator[GoBetweens]:
    """Start all servers, before the registry *upstream*."""
    _write_certificates(folder)
    ports = {name: free_port() for name in PORTS}
    servers = SERVERS.format(folder=folder, upstream=upstream, **ports)
    with nginx(folder, servers, *ports.values()), _demands_certificate(folder) as port:
        yield GoBetweens({**ports, "demands_certificate": port}, folder / "authority.pem")


@contextmanager
def _demands_certificate(folder: Path) -> Iterator[int]:
    """Serve a port that ends a connection without a client's certificate by an alert of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_refuse, args=(listening, context))
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _refuse(listening: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):  # until it is shut down
        while True:
            client, _ = listening.accept()
            with client:
                _handshake(client, context)


def _handshake(client: socket.socket, context: ssl.SSLContext) -> None:
    """Fail the handshake, and keep the connection until *client* has read why."""
    with context.wrap_socket(client, server_side=True, do_handshake_on_connect=False) as wrapped:
        with contextlib.suppress(ssl.SSLError):
            wrapped.do_handshake()
        plain = socket.socket(fileno=wrapped.detach())
    with plain, contextlib.suppress(OSError):
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(4096):
            pass


def _write_certificates(folder: Path) -> None:
    """Write an authority, and for 127.0.0.1 and 127.0.0.2 a valid and an expired certificate of it."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed("authority", authority_key, authority_key, now + day, is_authority=True)
    _write(folder / "authority.pem", authority)
    _write(folder / "server.pem", _signed("server", key, authority_key, now + day))
    _write(folder / "expired.pem", _signed("server", key, authority_key, now - day))
    _write_key(folder / "server.key", key)
    client_key = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "client.pem", _signed("client", client_key, authority_key, now + day))
    _write_key(folder / "client.key", client_key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    until: datetime.datetime,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "127.0.0.2")]
    addresses = x509.SubjectAlternativeName(names)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - datetime.timedelta(days=9))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(addresses, critical=False)
        .sign(by, hashes.SHA256())
    )
