"""Requests that no client makes: smuggled, split, misnamed, misencoded, and without an end."""

import base64
import gzip
import itertools
import json
import socket
import threading
import time
import zlib

import pytest

from mlopsd.cli.client import UnixConnection
from tests.hostile.conftest import KEYED, Start
from tests.hostile.wire import LAST, Reply, connect, first, memory, read_all, replies, send
from tests.keys import KEY
from tests.running import GIVE_UP, Running

KEYS = f"X-API-Key: {KEY}\r\n".encode()
H2C = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AA\r\n\r\n"
)
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
INNER = b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n"  # what is smuggled would ask for this
PROBLEM = {"type", "title", "status", "detail", "request_id"}


def post(head: bytes, body: bytes = b"", path: bytes = b"/invocations") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + JSON + KEYS + head + b"\r\n" + body


def is_problem(reply: Reply, status: int) -> bool:
    """Whether *reply* is a whole problem document with *status*."""
    reported = reply.json
    return (
        reply.status == status
        and set(reported) == PROBLEM
        and reported["status"] == status
        and reply.header("content-type") == "application/problem+json"
        and reply.header("x-request-id") == reported["request_id"]
    )


SMUGGLED = {
    "both lengths": post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + INNER),
    "both, the other way round": post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
    "two different lengths": post(b"Content-Length: 2\r\nContent-Length: 4\r\n", b"{}" + INNER),
    "a list of lengths": post(b"Content-Length: 2, 4\r\n", b"{}" + INNER),
    "a signed length": post(b"Content-Length: +2\r\n", b"{}"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a length in hexadecimal": post(b"Content-Length: 0x2\r\n", b"{}"),
    "a length that is none": post(b"Content-Length: two\r\n", b"{}"),
    "a length beyond all numbers": post(b"Content-Length: " + b"9" * 400 + b"\r\n"),
    "a length in other digits": post("Content-Length: \uff12\r\n".encode(), b"{}"),
    "an unknown transfer coding": post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + INNER),
    "chunked and then not": post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + INNER),
    "a blank before the colon": post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + INNER),
    "a header on a second line": post(b"X-Long: a\r\n Transfer-Encoding: chunked\r\n", b""),
    "a carriage return alone": post(b"X-A: b\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + INNER),
    "nothing but a zero byte": b"\0" * 64 + b"\r\n\r\n",
    "a zero byte in a value": post(b"X-A: b\0c\r\nContent-Length: 2\r\n", b"{}"),
    "a zero byte in a name": post(b"X\0A: b\r\nContent-Length: 2\r\n", b"{}"),
    "no name": post(b": b\r\nContent-Length: 2\r\n", b"{}"),
    "a name with a blank": post(b"X A: b\r\nContent-Length: 2\r\n", b"{}"),
    "a bad chunk size": post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n" + INNER),
    "a signed chunk size": post(b"Transfer-Encoding: chunked\r\n", b"+2\r\n{}\r\n0\r\n\r\n" + INNER),
    "a negative chunk size": post(b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n" + INNER),
    "a chunk longer than it says": post(b"Transfer-Encoding: chunked\r\n", b"1\r\n{}\r\n0\r\n\r\n" + INNER),
    "a chunk size beyond all numbers": post(b"Transfer-Encoding: chunked\r\n", b"f" * 40 + b"\r\n{}\r\n"),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n",
    "a version of the future": b"GET /livez HTTP/9.1\r\nHost: localhost\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n",
    "a head of 100 KB": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 14_000 + b"\r\n",
    "a header of 100 KB": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n",
    "a path of 100 KB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method of 100 KB": b"G" * 100_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bare line feeds": b"POST /reload HTTP/1.1\nHost: x\n" + KEYS.replace(b"\r\n", b"\n") + b"\n",
}


def test_what_two_parsers_could_read_in_two_ways_is_refused_and_ends_the_connection(
    daemon: Running,
) -> None:
    """Behind a proxy a smuggled request would be somebody else's: nothing after the first may be answered."""
    found = {name: send(daemon, sent) for name, sent in SMUGGLED.items()}
    answered = {name: [reply.status for reply in each] for name, each in found.items()}
    assert {name: codes for name, codes in answered.items() if len(codes) > 1 or set(codes) - {400}} == {}
    assert all(is_problem(reply, 400) for each in found.values() for reply in each)
    assert not [line for line in daemon.events("request") if line["route"] == "/reload"]
    assert not [line for line in daemon.log if line["event"] == "request failed"]


def test_pipelined_requests_are_answered_in_their_order(daemon: Running) -> None:
    paths = [b"/livez", b"/nope", b"/health/", b"/health/none", b"/metrics"] * 20
    asked = [
        b"GET %s HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: n%d\r\n\r\n" % (path, at)
        for at, path in enumerate(paths)
    ]
    found = send(daemon, b"".join(asked))
    assert [reply.header("x-request-id") for reply in found] == [f"n{at}" for at in range(len(paths))]
    assert [reply.status for reply in found] == [200, 404, 200, 404, 200] * 20


def test_thirty_thousand_pipelined_requests_of_one_caller_keep_nobody_else_waiting(daemon: Running) -> None:
    came: list[bytes] = []
    with connect(daemon) as greedy:
        greedy.settimeout(120)
        sender = threading.Thread(target=lambda: greedy.sendall(LIVE * 30_000 + LAST), daemon=True)
        reader = threading.Thread(target=lambda: came.append(read_all(greedy)), daemon=True)
        sender.start()
        came.append(greedy.recv(65536))  # from now on it is being served
        reader.start()
        for _ in range(20):
            assert daemon.get("/livez").status == 200
        assert reader.is_alive(), "the others had to wait until the greedy one had its last answer"
        sender.join()
        reader.join()
    assert len(list(replies(b"".join(came)))) == 30_000 + 1


IDS = [
    b"a b",
    b"",
    b"x" * 65,
    b"a\tb",
    "é".encode(),
    b"\xff",
    b"<script>",
    b"a;b",
    b"../x",
    b"%0d%0aX: y",
    b"a,b",
]


@pytest.mark.parametrize("field", [b"X-Request-ID", b"Origin", b"Accept", b"Authorization", b"Host"])
def test_no_header_of_the_callers_comes_back_in_a_header(field: bytes, daemon: Running) -> None:
    for given in (*IDS, b"evil.example", b"en-evil"):
        sent = b"GET /health/none HTTP/1.1\r\n" + (b"" if field == b"Host" else HOST)
        (reply,) = send(daemon, sent + field + b": " + given + b"\r\n\r\n")
        sane = field == b"X-Request-ID" and given in (b"evil.example", b"en-evil")
        assert reply.status in ((400, 403, 404) if field == b"Host" else (400, 404))
        assert (b": " + given in reply.head) is sane or not given


PATHS = [
    "/health/%2e%2e",
    "/health/../livez/x",
    "/health/..%2f..%2fetc%2fpasswd",
    "/health/%00",
    "/health/a%00b",
    "/health/%0d%0aX-Evil:%20y",
    "/health/%ff%fe",
    "/health/%e2%80%ae",
    "/health/" + "a" * 7000,
    "/health/%",
    "/health/%zz",
    "/health/%25252e",
    "/health//",
    "//health/none",
    "/health/model%2f..",
    "/health/Model",
    "/health/\uff4dodel",
    "/health/model;x=1",
    "/health/model%20",
    "/health/model/",
    "/health/%6dodel%2Fcheck",
    "/docs/..%2f..%2fpyproject.toml",
    "/docs/%2e%2e/%2e%2e/etc/passwd",
    "/v2/models/%2e%2e/ready",
    "/./none",
    "/invocations/..%2freload",
    "/invocations/%00",
    "/health/__class__",
    "/health/{probe}",
    "/health/<img>",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_with_tricks_is_a_404_that_names_it_harmlessly(method: str, daemon: Running) -> None:
    for path in PATHS:
        sent = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + KEYS + b"Content-Length: 0\r\n\r\n"
        (reply,) = send(daemon, sent)
        assert reply.status in (400, 404, 405), path
        assert is_problem(reply, reply.status), path
        assert len(reply.body) < 8192
        assert b"X-Evil" not in reply.head
        assert b"root:" not in reply.body
        assert not {0, 13, 27} & set(reply.body)


TARGETS = [
    (b"GET http://evil.example/livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", {200, 400, 404}),
    (b"GET http://evil.example:99999/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    (b"GET http://[::1/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    (b"GET //evil.example/%2e%2e HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
    (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
    (b"TRACE /livez HTTP/1.1\r\nHost: localhost\r\nX-Secret: y\r\n\r\n", {400, 405}),
    (b"GET /livez?" + b"a=b&" * 1900 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400}),
    (b"GET /livez#" + b"f" * 100 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400, 404}),
    (b"GET \xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    (b"GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", {200}),
    (H2C, {200}),
]


def test_http_1_0_is_answered_and_ended(daemon: Running) -> None:
    with connect(daemon) as plug:
        plug.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert [reply.status for reply in replies(read_all(plug))] == [200]


def test_targets_of_every_form_are_answered_as_such_and_lead_nowhere_else(daemon: Running) -> None:
    for sent, codes in TARGETS:
        reply = first(daemon, sent)
        assert reply.status in codes, sent
        assert b"X-Secret" not in reply.body
        assert b"evil" not in reply.head


QUERIES = [
    "%ff=1",
    "%00=1",
    "dry_run=%ff",
    "a" * 7000 + "=1",
    "wait=" + "9" * 5000,
    "wait=nan",
    "wait=1e999",
    "&" * 999,
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_any_bytes_is_a_400_or_does_what_it_says(query: str, daemon: Running) -> None:
    sent = post(b"Content-Length: 0\r\n", path=f"/health/model/reload?{query}".encode())
    (reply,) = send(daemon, sent)
    assert reply.status in (200, 202, 400)
    assert len(reply.body) < 1024


BOMB = gzip.compress(b"\0" * 50_000_000, 9)
BODIES = [
    (b"Content-Encoding: gzip\r\n", BOMB, {413}),
    (b"Content-Encoding: deflate\r\n", zlib.compress(b"\0" * 50_000_000, 9), {413}),
    (b"Content-Encoding: gzip\r\n", b"no gzip at all", {400}),
    (b"Content-Encoding: gzip\r\n", BOMB[:20], {400}),
    (b"Content-Encoding: gzip, gzip, gzip\r\n", b"{}", {200, 400, 415}),
    (b"Content-Encoding: nonsense\r\n", b"{}", {200, 400, 415}),
    (b"", b"\xff\xfe\xfd", {400}),
    (b"", b"[" * 500_000, {400}),
    (b"", b'{"a": ' * 100_000, {400}),
    (b"", b'{"a": ' + b"9" * 100_000 + b"}", {400}),
    (b"", b"", {400}),
    (b"", b"\0" * 1000, {400}),
    (b"", "\ufeff{}".encode(), {400}),
    (b"", b"x" * 1_000_001, {413}),
]


def test_a_body_of_any_bytes_is_refused_in_text_that_quotes_none_of_it(daemon: Running) -> None:
    before = memory(daemon)
    for head, body, codes in BODIES:
        sent = post(head + b"Content-Length: %d\r\nConnection: close\r\n" % len(body), body)
        (reply,) = send(daemon, sent)
        assert reply.status in codes, (head, body[:30])
        assert reply.status == 200 or is_problem(reply, reply.status)
        assert body[:20] not in reply.body or not body[:20].strip(b'{}"a: ')
    assert memory(daemon) - before < 40_000_000


@pytest.mark.parametrize("head", [b"Content-Length: 10000000000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_ten_gigabytes_are_refused_early_and_held_nowhere(head: bytes, daemon: Running) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n" if b"chunked" in head else b"x" * 65536
    before = memory(daemon)
    with connect(daemon) as plug:
        plug.sendall(post(head))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_without_end(plug, chunk)
        assert next(replies(read_all(plug))).status == 413
    assert daemon.get("/livez").status == 200
    assert memory(daemon) - before < 20_000_000


def send_without_end(plug: socket.socket, chunk: bytes) -> None:
    """Send *chunk* again and again, until the other end has had enough."""
    deadline = time.monotonic() + GIVE_UP
    while time.monotonic() < deadline:
        plug.sendall(chunk)


def test_a_length_that_lies_is_answered_before_the_body(daemon: Running) -> None:
    with connect(daemon) as plug:
        plug.sendall(post(b"Content-Length: 10000000000\r\n"))
        (reply,) = replies(read_all(plug))
    assert is_problem(reply, 413)
    assert reply.header("connection") == "close"


KEYS_THAT_ARE_NONE = [
    b"",
    b"X-API-Key: \r\n",
    b"X-API-Key: sesame\r\n",
    b"X-API-Key: " + b"s" * 8000 + b"\r\n",
    b"X-API-Key: \xff\xfe\r\n",
    b"X-API-Key: " + KEY[:-1].encode() + b"\r\n",
    b"X-API-Key: " + KEY.upper().encode() + b"\r\n",
    b"X-API-Key: %b, %b\r\n" % (KEY.encode(), KEY.encode()),
    b"X-API-Key:\xc2\xa0" + KEY.encode() + b"\r\n",
    b"Authorization: Basic c2VzYW1l\r\n",
    b"Authorization: Basic " + base64.b64encode(b"any:" + KEY.encode()) + b"\r\n",
    b"Authorization: Bearer\r\n",
    b"Authorization: Bearer \r\n",
    b"Authorization: Bearer bearer " + KEY.encode() + b"\r\n",
    b"Authorization: " + KEY.encode() + b"\r\n",
    b"Cookie: X-API-Key=" + KEY.encode() + b"\r\n",
    b"X-API-Key: wrong\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n",
    b"X_API_Key: " + KEY.encode() + b"\r\n",
]


@pytest.mark.parametrize("path", ["/reload", "/health/model/check", "/invocations", "/info", "/livez"])
@pytest.mark.parametrize("order", [(KEY, "wrong"), ("wrong", KEY), (KEY, KEY)])
def test_two_keys_are_400_whichever_is_right(path: str, order: tuple[str, str], daemon: Running) -> None:
    method = "GET" if path in ("/info", "/livez") else "POST"
    twice = "".join(f"X-API-Key: {key}\r\n" for key in order)
    sent = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + twice.encode()
    (reply,) = send(daemon, sent + b"Content-Length: 0\r\n\r\n")
    assert is_problem(reply, 400)


@pytest.mark.parametrize("path", ["/reload", "/health/model/reload", "/health/model/check", "/invocations"])
def test_a_key_that_is_nearly_one_is_401_and_does_nothing(path: str, daemon: Running) -> None:
    before = len(daemon.events("probe reloaded"))
    for given in KEYS_THAT_ARE_NONE:
        sent = f"POST {path}?api_key={KEY}&X-API-Key={KEY} HTTP/1.1\r\n".encode() + HOST + given
        (reply,) = send(daemon, sent + b"Content-Length: 0\r\n\r\n")
        assert is_problem(reply, 401), given
        assert (reply.header("www-authenticate") or "").startswith("Bearer")
        assert KEY.encode() not in reply.head + reply.body
    assert KEY not in json.dumps(daemon.log)
    assert len(daemon.events("probe reloaded")) == before


FOREIGN = [
    b"Host: evil.example\r\n",
    b"Host: 127.0.0.1.evil.example\r\n",
    b"Host: localhost.evil.example\r\n",
    b"Host: localhost\r\nOrigin: http://evil.example\r\n",
    b"Host: localhost\r\n",
    b"Host: localhost\r\nOrigin: null\r\n",
    b"Host: localhost\r\nOrigin: http://localhost:1\r\n",
    b"Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
    b"Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
    b"Host: localhost\r\nForwarded: for=10.0.0.1\r\n",
    b"Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n",
    b"Host: localhost\r\nVia: 1.1 proxy\r\n",
    b"Host: evil@localhost\r\n",
    b"Host: localhost/\r\n",
    b"Host: 0.0.0.0\r\n",
    b"Host: 2130706433\r\n",
    b"Host: \r\n",
]


def test_a_page_in_a_browser_on_this_host_acts_on_nothing_even_in_debug_mode(start: Start) -> None:
    """Whatever its headers say: it has no key, and cannot send one that it does not know."""
    with start("debug = true\n[log]\nformat = 'json'\n") as daemon:
        for given in FOREIGN:
            (reply,) = send(
                daemon, b"POST /health/model/reload HTTP/1.1\r\n" + given + b"Content-Length: 0\r\n\r\n"
            )
            assert reply.status in (400, 403), given
        preflight = b"OPTIONS /reload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
        (reply,) = send(daemon, preflight + b"Access-Control-Request-Method: POST\r\n\r\n")
        assert reply.status == 405
        assert b"access-control" not in reply.head.lower()
        assert not daemon.events("probe reloaded")
        assert daemon.ask("POST", "/health/model/reload?wait=5", local=True).status == 200


def test_the_log_has_nothing_that_a_caller_wrote(start: Start) -> None:
    evil = 'evil\x1b[31m\\n{"level":"error"}'
    with start(f"[log]\nlevel = 'DEBUG'\n{KEYED}") as daemon:
        for field in ("X-Request-ID", "User-Agent", "Origin", "X-API-Key"):
            head = f"GET /health/evil%0a%1b[31m?evil=evil HTTP/1.1\r\nHost: evil\r\n{field}: {evil}\r\n\r\n"
            send(daemon, head.encode())
            send(daemon, f"EVIL /evil HTTP/1.1\r\nHost: evil\r\n{field}: {evil}\r\n\r\n".encode())
        daemon.wait_for(lambda line: line["event"] == "request" and line["status"] in (400, 404, 405))
        lines = daemon.events("request")
        assert lines
        assert "evil" not in json.dumps(lines).lower()


def test_the_unix_socket_refuses_the_same_bytes(daemon: Running) -> None:
    for sent in itertools.islice(SMUGGLED.values(), 12):
        connection = UnixConnection(str(daemon.socket), 10)
        connection.connect()
        connection.sock.sendall(sent + LAST)
        assert {reply.status for reply in replies(read_all(connection.sock))} <= {400}
        connection.close()
    assert daemon.ask("POST", "/reload", local=True).status == 200
